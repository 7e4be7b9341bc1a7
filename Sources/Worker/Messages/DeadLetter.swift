// What could not be taken goes, unchanged, to `<topic>-dlt` on the same partition, with the reason in headers.

import Cryptography
import Foundation
import KafkaClient
import Storage

/// A message that could not be taken, and why.
struct DeadLetter: Sendable {
  let message: KafkaMessage
  let error: MessageError
  /// Where it was refused: decode or store.
  let stage: String
  /// How many topics there were under this name before the one that it came from.
  var logNumber: Int64 = 0

  static func topic(for topic: String) -> String { "\(topic)-dlt" }

  var headers: [KafkaHeader] {
    func header(_ name: String, _ text: String) -> KafkaHeader {
      KafkaHeader(key: "__connect.errors.\(name)", value: Data(text.utf8))
    }
    // Not all of the value was kept.
    let size =
      message.valueSize > message.value?.count ?? 0
      ? [header("value.bytes", String(message.valueSize))] : []
    return message.headers + size + [
      header("topic", message.topic), header("partition", String(message.partition)),
      header("offset", String(message.offset)), header("stage", stage),
      header("exception.class.name", error.code.rawValue),
      header("exception.message", error.message),
    ] + (logNumber > 0 ? [header("log", String(logNumber))] : [])
  }

  /// What is sent first: the message as it came, on its partition.
  var outgoing: OutgoingMessage {
    OutgoingMessage(
      topic: Self.topic(for: message.topic), partition: message.partition, key: message.key,
      value: message.value, headers: headers, timestamp: message.timestamp)
  }

  /// Bytes of a value that are kept where the broker does not take all of it.
  static let keptBytes = 65_536

  /// What is sent after that failed; nil where a different letter would not help.
  func outgoing(after error: KafkaError, of earlier: OutgoingMessage) -> OutgoingMessage? {
    var changed = earlier
    if error.isUnknownPartition, earlier.partition != nil {
      // A dead letter topic with fewer partitions than its source: any partition is better than none.
      changed.partition = nil
      return changed
    }
    if error.isTooLarge, let value = earlier.value, value.count > Self.keptBytes {
      // The whole message stays where it came from for as long as its topic keeps it.
      changed.value = value.prefix(Self.keptBytes)
      changed.headers += [
        KafkaHeader(key: "__connect.errors.value.bytes", value: "\(value.count)"),
        KafkaHeader(
          key: "__connect.errors.value.sha256", value: SHA256.hash(data: value).hexadecimal),
      ]
      return changed
    }
    return nil
  }

  /// Returns once the broker has acknowledged the dead letter.
  func send(by producer: KafkaProducer) async throws {
    var next = outgoing
    while true {
      do {
        try await producer.send(
          topic: next.topic, partition: next.partition, key: next.key, value: next.value,
          headers: next.headers, timestamp: next.timestamp)
        return
      } catch let error as KafkaError {
        guard let other = outgoing(after: error, of: next) else { throw error }
        next = other
      }
    }
  }
}

extension KafkaError {
  /// The topic has no such partition (librdkafka's _UNKNOWN_PARTITION).
  fileprivate var isUnknownPartition: Bool { name == "_UNKNOWN_PARTITION" }

  fileprivate var isTooLarge: Bool { name == "MSG_SIZE_TOO_LARGE" }

  /// There is no such topic or partition; waiting for it would keep everything behind it waiting too.
  var isUnknownTopic: Bool {
    ["_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_OR_PART"].contains(name)
  }
}
