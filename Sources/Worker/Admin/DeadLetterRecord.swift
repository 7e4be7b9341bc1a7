// A dead letter read back: where it came from, why, and the message that it was.

import Foundation
import KafkaClient
import Personalization
import PostgresClient
import Storage

/// A dead letter as operators see it.
public struct DeadLetterRecord: Sendable, Encodable {
  /// Where the letter lies.
  public let partition: Int32
  /// In the dead letters' topic.
  public let offset: Int64
  /// Where the message came from.
  public let originalTopic: String
  /// Nil where no header says so.
  public let originalPartition: Int32?
  /// Nil where no header says so.
  public let originalOffset: Int64?
  /// What was being done: `decode`, `store` or `reply`; empty where no header says so.
  public let stage: String
  /// A ``MessageError/Code``'s raw value; empty where no header says so.
  public let code: String
  /// For people; empty where no header says so.
  public let reason: String
  /// Of the letter, which has that of the message.
  public let timestamp: Date?
  /// As text; bytes that are no UTF-8 are replaced.
  public let key: String?
  /// Of the whole value, also where the letter has only its beginning; nil for a tombstone.
  public let valueBytes: Int?
  /// The beginning of the value, as text.
  public let preview: String
  /// Whether the broker did not take all of the value: the letter has its beginning only.
  public let isCut: Bool
  /// The message's own, as text; of several with one key the last.
  public let headers: [String: String]
  /// The name under which the letter is chosen: partition and offset of where it lies.
  public let name: String
  /// When its message was sent again.
  public var replayedAt: Date?
  /// The letter itself.
  public let message: KafkaMessage

  private static let prefix = "__connect.errors."
  static let replayHeader = "oppu-replay-of"

  enum CodingKeys: String, CodingKey {
    case partition, offset, stage, code, reason, timestamp, key, preview, headers
    case name = "letter"
    case replayedAt = "replayed_at"
    case originalTopic = "original_topic"
    case originalPartition = "original_partition"
    case originalOffset = "original_offset"
    case valueBytes = "value_bytes"
    case isCut = "is_cut"
  }

  /// - Parameter sourceTopic: where the message came from if the letter does not say.
  public init(_ message: KafkaMessage, sourceTopic: String) {
    func error(_ name: String) -> String? { message.headerText(Self.prefix + name) }
    self.message = message
    name = "\(message.partition)-\(message.offset)"
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

  /// What it is marked by when it is replayed.
  public var mark: DeadLetterMark {
    DeadLetterMark(partition: partition, offset: offset, digest: LogMark(message).digest)
  }

  /// The message as it was: topic, partition, key, value, timestamp and its own headers; two headers more say which
  /// letter it comes from and where it stood first. A request has the time of now: its deadline begins again.
  func restored(isRequest: Bool) -> OutgoingMessage {
    var headers = message.headers.filter {
      !$0.key.hasPrefix(Self.prefix) && $0.key != Self.replayHeader
    }
    headers.append(
      KafkaHeader(key: Self.replayHeader, value: Data("\(message.topic)-\(name)".utf8)))
    // A letter of a replayed message has the header already, of the first place of all.
    if let place, !headers.contains(where: { $0.key == BehaviorEvent.placeHeader }) {
      headers.append(KafkaHeader(key: BehaviorEvent.placeHeader, value: Data(place.utf8)))
    }
    return OutgoingMessage(
      topic: originalTopic, partition: originalPartition, key: message.key, value: message.value,
      headers: headers, timestamp: isRequest ? nil : message.timestamp)
  }

  private var place: String? {
    guard let originalPartition, let originalOffset else { return nil }
    return BehaviorEvent.place(
      topic: originalTopic, partition: originalPartition, offset: originalOffset,
      logNumber: message.headerText(Self.prefix + "log").flatMap { Int64($0) } ?? 0)
  }
}

/// Which dead letters are meant.
public struct DeadLetterFilter: Sendable {
  /// A ``MessageError/Code``'s raw value; nil: any, as for all that follow.
  public var code: String?
  /// `decode`, `store` or `reply`.
  public var stage: String?
  /// The whole key, as text.
  public var key: String?
  /// Letters of this time or later; those without a time are none.
  public var since: Date?
  /// Names of letters; empty: any.
  public var names: Set<String> = []

  /// All letters.
  public init() {}

  /// Whether all conditions hold for a letter.
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

  /// Notes in letters when they were replayed.
  public func mark(_ letters: [DeadLetterRecord], in client: PostgresClient) async throws
    -> [DeadLetterRecord]
  {
    let times = try await replayTimes(of: letters.map(\.mark), in: client)
    return letters.map { letter in
      var letter = letter
      letter.replayedAt = times[letter.mark]
      return letter
    }
  }

  /// When letters were replayed last; those that never were are not in it.
  public func replayTimes(
    of letters: [DeadLetterMark], in client: PostgresClient
  ) async throws -> [DeadLetterMark: Date] {
    try await DeadLetterMarks(client, topic: deadTopic).times(letters)
  }

  /// Sends letters' messages to where they came from, and marks the letters; those that are marked are left out.
  ///
  /// Marks and messages come in transactions: where the process ends in between, the messages of one are sent once
  /// more the next time, which events drop by their ids.
  /// - Parameter again: also those that were replayed before.
  /// - Returns: the indices of those that were sent, and the failures by index.
  public func replay(
    _ letters: [DeadLetterRecord], again: Bool, in client: PostgresClient
  ) async throws -> (sent: Set<Int>, failures: [Int: any Error]) {
    let producer = try KafkaProducer(configuration: kafka.operatorClient)
    var sent: Set<Int> = []
    var failed: [Int: any Error] = [:]
    do {
      for begin in stride(from: 0, to: letters.count, by: 500) {
        let indices = Array(begin..<min(begin + 500, letters.count))
        try await client.withTransaction { connection in
          let marks = DeadLetterMarks(connection, topic: deadTopic)
          let mine = try await marks.add(indices.map { letters[$0].mark }, again: again)
          let chosen = indices.filter { mine.contains(letters[$0].mark) }
          let failures = await producer.send(
            chosen.map { letters[$0].restored(isRequest: topic == kafka.requestTopic) })
          for (place, index) in chosen.enumerated() {
            if let error = failures[place] { failed[index] = error } else { sent.insert(index) }
          }
          if !failures.isEmpty {
            try await marks.remove(failures.keys.map { letters[chosen[$0]].mark })
          }
        }
      }
    } catch {
      await producer.close()
      throw error
    }
    await producer.close()
    return (sent, failed)
  }

  /// Deletes letters below these offsets, and forgets their marks.
  /// - Throws: `KafkaError`, also for a broker that deletes no records; `PostgresError`.
  public func purge(below offsets: [Int32: Int64], in client: PostgresClient) async throws {
    let admin = try KafkaAdmin(configuration: kafka.client)
    do {
      try await admin.deleteRecords(
        before: Dictionary(
          offsets.map { (TopicPartition(topic: deadTopic, partition: $0.key), $0.value) },
          uniquingKeysWith: { $1 }))
      await admin.close()
    } catch {
      await admin.close()
      throw error
    }
    let marks = DeadLetterMarks(client, topic: deadTopic)
    for (partition, offset) in offsets {
      try await marks.forget(partition: partition, below: offset)
    }
  }

  private var deadTopic: String { DeadLetter.topic(for: topic) }
}

extension WorkerConfiguration.Kafka {
  /// For commands: what no broker takes within ten seconds is given up.
  public var operatorClient: KafkaConfiguration {
    var configuration = client
    configuration.properties["message.timeout.ms"] = "10000"
    return configuration
  }
}
