// What could not be taken goes, unchanged, to `<topic>-dlt` on the same partition, with the reason in headers.

import Foundation
import KafkaClient

/// A message that could not be taken, and why.
struct DeadLetter: Sendable {
  let message: KafkaMessage
  let error: MessageError
  /// Where it was refused: decode or store.
  let stage: String

  static func topic(for topic: String) -> String { "\(topic)-dlt" }

  var headers: [KafkaHeader] {
    func header(_ name: String, _ text: String) -> KafkaHeader {
      KafkaHeader(key: "__connect.errors.\(name)", value: Data(text.utf8))
    }
    return message.headers + [
      header("topic", message.topic), header("partition", String(message.partition)),
      header("offset", String(message.offset)), header("stage", stage),
      header("exception.class.name", error.code.rawValue),
      header("exception.message", error.message),
    ]
  }

  /// Returns once the broker has acknowledged the dead letter.
  func send(by producer: KafkaProducer) async throws {
    let topic = Self.topic(for: message.topic)
    do {
      try await producer.send(
        topic: topic, partition: message.partition, key: message.key, value: message.value,
        headers: headers, timestamp: message.timestamp)
    } catch let error as KafkaError where error.isUnknownPartition {
      // A dead letter topic with fewer partitions than its source: any partition is better than none.
      try await producer.send(
        topic: topic, key: message.key, value: message.value, headers: headers,
        timestamp: message.timestamp)
    }
  }
}

extension KafkaError {
  /// The topic has no such partition (librdkafka's _UNKNOWN_PARTITION).
  fileprivate var isUnknownPartition: Bool { name == "_UNKNOWN_PARTITION" }

  /// There is no such topic or partition; waiting for it would keep everything behind it waiting too.
  var isUnknownTopic: Bool {
    ["_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_OR_PART"].contains(name)
  }
}
