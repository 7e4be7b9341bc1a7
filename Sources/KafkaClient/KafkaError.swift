// The one error type of this client, made from librdkafka's codes.

import CRDKafka
import Foundation

/// An error of Kafka or of the way to it.
public struct KafkaError: Error, Sendable, Hashable, CustomStringConvertible, LocalizedError {
  /// librdkafka's number: positive from the broker, negative from the library.
  public var code: Int32
  /// librdkafka's name of the code, such as `_TRANSPORT` or `ILLEGAL_GENERATION`.
  public var name: String
  /// One sentence for a person.
  public var message: String
  /// Whether the same call may succeed later.
  public var isRetriable: Bool
  /// Whether the client that threw it is of no more use and has to be made anew.
  public var isFatal: Bool
  /// The topic, topics or partition that it is about, if any.
  public var topic: String?
  /// Whether a setting is to blame: unknown, of a value that cannot be, or beyond this librdkafka.
  public private(set) var isSetting = false

  init(
    _ code: rd_kafka_resp_err_t, _ message: String? = nil, topic: String? = nil,
    isFatal: Bool = false, isRetriable: Bool? = nil
  ) {
    self.code = code.rawValue
    name = rd_kafka_err2name(code).map { String(cString: $0) } ?? "\(code.rawValue)"
    self.message = message ?? rd_kafka_err2str(code).map { String(cString: $0) } ?? name
    self.isFatal = isFatal
    self.isRetriable = !isFatal && (isRetriable ?? Self.retriable.contains(code.rawValue))
    self.topic = topic
  }

  static func setting(_ problem: String) -> KafkaError {
    var error = KafkaError(RD_KAFKA_RESP_ERR__INVALID_ARG, problem)
    error.isSetting = true
    return error
  }

  /// Takes ownership of librdkafka's error object.
  init(owning error: OpaquePointer, topic: String? = nil) {
    self.init(
      rd_kafka_error_code(error), String(cString: rd_kafka_error_string(error)), topic: topic,
      isFatal: rd_kafka_error_is_fatal(error) != 0,
      isRetriable: rd_kafka_error_is_retriable(error) != 0 ? true : nil)
    rd_kafka_error_destroy(error)
  }

  /// Codes after which waiting helps: the broker or the group is not ready, or did not answer.
  private static let retriable: Set<Int32> = Set(
    [
      RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR__TIMED_OUT,
      RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, RD_KAFKA_RESP_ERR__MSG_TIMED_OUT,
      RD_KAFKA_RESP_ERR__QUEUE_FULL, RD_KAFKA_RESP_ERR__WAIT_COORD,
      RD_KAFKA_RESP_ERR__RESOLVE, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
      RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
      RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION,
      RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
      RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
      RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_NOT_CONTROLLER,
      RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
    ].map(\.rawValue))

  /// Whether a commit failed only because the group has moved on: the partition's new owner
  /// starts from what was committed before, or from the application's own offsets.
  public var isRebalance: Bool {
    [
      RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
      RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST,
    ].contains { $0.rawValue == code }
  }

  /// Whether a consumer failed for good because the group took another member for the owner of its static name.
  public var isFenced: Bool {
    isFatal && code == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID.rawValue
  }

  /// Whether the group may not be used.
  public var isForbiddenGroup: Bool {
    code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED.rawValue
  }

  /// Whether the topic may not be written to: only who gives out rights can change that.
  public var isForbidden: Bool {
    [
      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
    ].contains { $0.rawValue == code }
  }

  public var description: String {
    "Kafka: \(message) [\(name)]" + (topic.map { " (topic \"\($0)\")" } ?? "")
  }

  public var errorDescription: String? { description }
}
