// Where a reply goes and what is echoed: Spring's headers, or plain `reply-to` and `correlation-id`; and which
// topics a request may name.

import Foundation
import KafkaClient
import Personalization

/// Which topics requests may name for their replies.
struct ReplyTopics: Sendable {
  /// Where replies go unless a request names another topic; always allowed.
  let standard: String
  private let patterns: [String]
  /// What the worker itself reads, and where it puts what it could not take: never allowed.
  private let own: Set<String>

  init(_ kafka: WorkerConfiguration.Kafka, patterns: [String]) {
    standard = kafka.replyTopic
    self.patterns = patterns
    let read = [kafka.behaviorTopic, kafka.requestTopic]
    own = Set(
      read + read.map(DeadLetter.topic) + [
        kafka.adapterEventTopic, DeadLetter.topic(for: kafka.adapterEventTopic),
        DeadLetter.topic(for: kafka.replyTopic),
      ])
  }

  /// Whether replies may go there. Names that begin with `__` are Kafka's own.
  func allows(_ topic: String) -> Bool {
    if topic == standard { return true }
    guard !own.contains(topic), !topic.hasPrefix("__") else { return false }
    return patterns.contains { Self.matches(topic[...], $0[...]) }
  }

  /// `*` stands for any characters, also none.
  private static func matches(_ name: Substring, _ pattern: Substring) -> Bool {
    let pieces = pattern.split(separator: "*", omittingEmptySubsequences: false)
    guard let first = pieces.first, let last = pieces.last, pieces.count > 1 else {
      return name == pattern
    }
    guard name.count >= first.count + last.count, name.hasPrefix(first), name.hasSuffix(last) else {
      return false
    }
    var rest = name.dropFirst(first.count).dropLast(last.count)
    // The leftmost place of each piece leaves the most for the others.
    for piece in pieces.dropFirst().dropLast() where !piece.isEmpty {
      guard let found = rest.firstRange(of: piece) else { return false }
      rest = rest[found.upperBound...]
    }
    return true
  }
}

/// Where a reply goes.
struct ReplyAddress: Sendable {
  let topic: String
  let partition: Int32?
  /// Copied to the reply as they came: correlation ids are opaque bytes, trace context passes through.
  let echoed: [KafkaHeader]
  /// What the message's headers say that cannot be followed, for the log: the reply goes without it.
  let notes: [String]
  /// Why the request is not answered but with this error: it names a topic that no reply may go to. The
  /// address is then the standard one.
  let refusal: MessageError?

  private static let echoedHeaders: Set<String> = [
    "kafka_correlationId", "correlation-id", "traceparent", "tracestate",
  ]

  init(_ message: KafkaMessage, allowed: ReplyTopics) {
    echoed = message.headers.filter { Self.echoedHeaders.contains($0.key) }
    var notes: [String] = []
    let header =
      message.headers.last { $0.key == "kafka_replyTopic" }
      ?? message.headers.last { $0.key == "reply-to" }
    let named = header?.value.flatMap { String(data: $0, encoding: .utf8) }
    if let header, !(named.map(Self.isTopicName) ?? false) {
      notes.append(
        "the header \(header.key) holds no name of a Kafka topic; the reply goes to \(allowed.standard)"
      )
    }
    let name = named.flatMap { Self.isTopicName($0) ? $0 : nil } ?? allowed.standard
    guard allowed.allows(name) else {
      refusal = MessageError(
        .invalidReplyAddress,
        "the request names the reply topic \(name), where this worker does not send replies (setting infer.replyTopics)"
      )
      (topic, partition, self.notes) = (allowed.standard, nil, notes)
      return
    }
    let bytes = message.header("kafka_replyPartition")
    let number = bytes.flatMap(Self.partition)
    if let bytes, number == nil {
      notes.append(
        "the header kafka_replyPartition holds no partition: neither four bytes, most significant first, nor decimal text (\(bytes.count) bytes); the reply goes by its key"
      )
    }
    (topic, partition, self.notes, refusal) = (name, number, notes, nil)
  }

  /// Four bytes, most significant first, or decimal text.
  private static func partition(_ bytes: Data) -> Int32? {
    // Four digits are text: as a number they would be a partition beyond 800 million.
    if !bytes.isEmpty, bytes.allSatisfy({ (0x30...0x39).contains($0) }) {
      return Int32(String(decoding: bytes, as: UTF8.self))
    }
    guard bytes.count == 4 else { return nil }
    return Int32(exactly: bytes.reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
  }

  /// Kafka's own rule for topic names.
  static func isTopicName(_ name: String) -> Bool {
    (1...249).contains(name.utf8.count) && name != "." && name != ".."
      && name.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
          UInt8(ascii: "-"):
          true
        default: false
        }
      }
  }
}
