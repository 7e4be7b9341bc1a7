// A dead letter read back: where it came from, why, and the message that it was.

import Foundation
import KafkaClient
import Personalization
import Storage

public struct DeadLetterRecord: Sendable, Encodable {
  /// Where the letter lies.
  public let partition: Int32
  public let offset: Int64
  /// Where the message came from.
  public let originalTopic: String
  public let originalPartition: Int32?
  public let originalOffset: Int64?
  public let stage: String
  public let code: String
  public let reason: String
  public let timestamp: Date?
  public let key: String?
  public let valueBytes: Int?
  /// The beginning of the value, as text.
  public let preview: String
  /// Whether the broker did not take all of the value: the letter has its beginning only.
  public let isCut: Bool
  public let headers: [String: String]
  public let message: KafkaMessage

  private static let prefix = "__connect.errors."
  static let replayHeader = "oppu-replay-of"

  enum CodingKeys: String, CodingKey {
    case partition, offset, stage, code, reason, timestamp, key, preview, headers
    case originalTopic = "original_topic"
    case originalPartition = "original_partition"
    case originalOffset = "original_offset"
    case valueBytes = "value_bytes"
    case isCut = "is_cut"
  }

  public init(_ message: KafkaMessage, sourceTopic: String) {
    func error(_ name: String) -> String? { message.headerText(Self.prefix + name) }
    self.message = message
    partition = message.partition
    offset = message.offset
    originalTopic = error("topic") ?? sourceTopic
    originalPartition = error("partition").flatMap { Int32($0) }
    originalOffset = error("offset").flatMap { Int64($0) }
    stage = error("stage") ?? ""
    code = error("exception.class.name") ?? ""
    reason = error("exception.message") ?? ""
    timestamp = message.timestamp
    key = message.key.map { String(decoding: $0, as: UTF8.self) }
    isCut = error("value.bytes") != nil
    valueBytes = error("value.bytes").flatMap { Int($0) } ?? message.value?.count
    preview = String(decoding: message.value?.prefix(4_096) ?? Data(), as: UTF8.self)
    headers = Dictionary(
      message.headers.filter { !$0.key.hasPrefix(Self.prefix) }
        .map { ($0.key, String(decoding: $0.value ?? Data(), as: UTF8.self)) },
      uniquingKeysWith: { $1 })
  }

  /// The name under which the letter is chosen: partition and offset of where it lies.
  public var name: String { "\(partition)-\(offset)" }

  /// The message as it was: topic, partition, key, value, timestamp and its own headers; one header more says
  /// which letter it comes from.
  public var restored: OutgoingMessage {
    OutgoingMessage(
      topic: originalTopic, partition: originalPartition, key: message.key, value: message.value,
      headers: message.headers.filter {
        !$0.key.hasPrefix(Self.prefix) && $0.key != Self.replayHeader
      }
        + [KafkaHeader(key: Self.replayHeader, value: "\(message.topic)-\(name)")],
      timestamp: message.timestamp)
  }
}

/// Which dead letters are meant.
public struct DeadLetterFilter: Sendable {
  public var code: String?
  public var stage: String?
  public var key: String?
  public var since: Date?
  /// Names of letters; empty: any.
  public var names: Set<String> = []

  public init() {}

  public func accepts(_ letter: DeadLetterRecord) -> Bool {
    (code == nil || code == letter.code) && (stage == nil || stage == letter.stage)
      && (key == nil || key == letter.key) && (names.isEmpty || names.contains(letter.name))
      && (since.map { since in letter.timestamp.map { $0 >= since } ?? false } ?? true)
  }
}

/// The dead letters of a topic.
public struct DeadLetterBox: Sendable {
  private let kafka: WorkerConfiguration.Kafka
  private let topic: String

  /// - Parameter topic: the topic that the messages were written to.
  public init(kafka: WorkerConfiguration.Kafka, topic: String) {
    self.kafka = kafka
    self.topic = topic
  }

  /// Gives the letters that the filter accepts, in each partition oldest first; false from `body` ends it.
  /// - Throws: `KafkaError`; what `body` throws.
  public func read(
    _ filter: DeadLetterFilter, _ body: (DeadLetterRecord) throws -> Bool
  ) async throws {
    let reader = KafkaTopicReader(configuration: kafka.client)
    try await reader.read(DeadLetter.topic(for: topic)) { message in
      let letter = DeadLetterRecord(message, sourceTopic: topic)
      return filter.accepts(letter) ? try body(letter) : true
    }
  }

  /// Sends letters' messages to where they came from.
  /// - Returns: the failures by index.
  public func replay(_ letters: [DeadLetterRecord]) async throws -> [Int: any Error] {
    let producer = try KafkaProducer(configuration: kafka.client)
    let failures = await producer.send(letters.map(\.restored))
    await producer.close()
    return failures
  }
}
