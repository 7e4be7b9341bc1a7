// librdkafka's own broker for tests: in this process, with the group protocol in full, and with faults on request.

import CRDKafka
import KafkaClient

/// `@unchecked Sendable`: the pointers never change; librdkafka locks its mock cluster itself.
final class MockBroker: @unchecked Sendable {
  let bootstrapServers: String
  private let client: OpaquePointer
  private let cluster: OpaquePointer

  /// Kinds of requests, by the protocol's numbers.
  enum Request: Int16 {
    case produce = 0
    case heartbeat = 12
  }

  init() throws {
    var reason = [CChar](repeating: 0, count: 512)
    // The cluster lives inside a client, which does nothing else.
    guard
      let client = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), &reason, reason.count),
      let cluster = rd_kafka_mock_cluster_new(client, 1),
      let servers = rd_kafka_mock_cluster_bootstraps(cluster)
    else { throw Timeout(description: "no mock broker") }
    self.client = client
    self.cluster = cluster
    bootstrapServers = String(cString: servers)
  }

  deinit {
    rd_kafka_mock_cluster_destroy(cluster)
    rd_kafka_destroy(client)
  }

  /// Says of a topic, to whoever asks, that there is none, and makes none either.
  func hide(_ topic: String) {
    rd_kafka_mock_topic_set_error(cluster, topic, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
  }

  func make(_ topics: [NewTopic]) {
    for topic in topics {
      rd_kafka_mock_topic_create(cluster, topic.name, topic.partitions, 1)
    }
  }

  /// Answers the next requests of a kind with an error, whoever sends them.
  func fail(_ request: Request, _ times: Int, with code: rd_kafka_resp_err_t) {
    let codes = [rd_kafka_resp_err_t](repeating: code, count: times)
    rd_kafka_mock_push_request_errors_array(cluster, request.rawValue, times, codes)
  }

  /// Fails no more of them.
  func mend(_ request: Request) {
    rd_kafka_mock_clear_request_errors(cluster, request.rawValue)
  }

  /// Takes no connections any more, and cuts those that there are.
  func goDown() { rd_kafka_mock_broker_set_down(cluster, -1) }

  /// Answers everything that much later.
  func delay(milliseconds: Int32) { rd_kafka_mock_broker_set_rtt(cluster, -1, milliseconds) }
}
