// librdkafka's own broker for tests: in this process, with the group protocol in full.

import CRDKafka
import KafkaClient

/// `@unchecked Sendable`: the pointers never change; librdkafka locks its mock cluster itself.
final class MockBroker: @unchecked Sendable {
  let bootstrapServers: String
  private let client: OpaquePointer
  private let cluster: OpaquePointer

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
}
