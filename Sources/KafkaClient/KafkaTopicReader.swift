// Reads a stretch of a topic outside any group: for operators, who want to look without moving anybody's offsets.

import CRDKafka
import Foundation
import StructuredLogging

extension KafkaConsumer {
  /// A consumer without a group that reads these partitions from these offsets.
  ///
  /// - Throws: `KafkaError` for settings that librdkafka refuses.
  static func reader(
    _ configuration: KafkaConfiguration, from offsets: [TopicPartition: Int64], logger: Logger
  ) throws -> KafkaConsumer {
    // librdkafka wants a group's name; nothing is ever committed under it.
    let consumer = try KafkaConsumer(
      configuration: configuration, group: "oppu-reader-\(UUID().uuidString)", topics: [],
      properties: ["auto.offset.reset": "earliest"], logger: logger)
    try consumer.begin(offsets)
    return consumer
  }
}

/// Reads what a topic holds at this moment.
public struct KafkaTopicReader: Sendable {
  private let configuration: KafkaConfiguration
  private let logger: Logger

  /// - Parameter configuration: without static membership, which belongs to workers.
  public init(
    configuration: KafkaConfiguration, logger: Logger = Logger(label: "oppu.kafka")
  ) {
    self.configuration = configuration.withoutMembership
    self.logger = logger
  }

  /// Gives every message from the first one that is left, or from `start`, up to the last one at the time of the
  /// call: in each partition in the order of offsets.
  ///
  /// - Parameters:
  ///   - partition: only this one.
  ///   - body: false ends the reading.
  /// - Throws: `KafkaError`, also where nothing comes for 10 s; what `body` throws.
  public func read(
    _ topic: String, partition only: Int32? = nil, from start: Int64 = 0,
    _ body: (KafkaMessage) throws -> Bool
  ) async throws {
    let ends = try await ends(of: topic, only: only, from: start)
    guard !ends.isEmpty else { return }
    let consumer = try KafkaConsumer.reader(
      configuration, from: ends.mapValues(\.first), logger: logger)
    do {
      try await read(ends, with: consumer, body)
      await consumer.close()
    } catch {
      await consumer.close()
      throw error
    }
  }

  private func read(
    _ ends: [TopicPartition: (first: Int64, end: Int64)], with consumer: KafkaConsumer,
    _ body: (KafkaMessage) throws -> Bool
  ) async throws {
    var open = ends
    var lastProgress = ContinuousClock.now
    while !open.isEmpty {
      if case .messages(let messages) = try await consumer.next(
        maximumMessages: 1_000, timeout: .milliseconds(500))
      {
        lastProgress = .now
        for message in messages {
          guard let (_, end) = open[message.topicPartition], message.offset < end else { continue }
          guard try body(message) else { return }
        }
      }
      // By position, for the last offsets may be no messages (transaction markers, compaction).
      for (partition, position) in try await consumer.position(of: Array(open.keys))
      where position >= open[partition]?.end ?? 0 {
        open[partition] = nil
      }
      guard ContinuousClock.now - lastProgress < .seconds(10) else {
        throw KafkaError(
          RD_KAFKA_RESP_ERR__TIMED_OUT,
          "nothing came of \(open.keys.map(\.description).sorted().joined(separator: ", ")) for 10 s"
        )
      }
    }
  }

  private func ends(
    of topic: String, only: Int32?, from start: Int64
  ) async throws -> [TopicPartition: (first: Int64, end: Int64)] {
    let admin = try KafkaAdmin(configuration: configuration, logger: logger)
    do {
      guard let found = try await admin.listTopics().first(where: { $0.name == topic }) else {
        throw KafkaError(RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, "there is no such topic", topic: topic)
      }
      var ends: [TopicPartition: (first: Int64, end: Int64)] = [:]
      for number in 0..<Int32(clamping: found.partitionCount) where only == nil || only == number {
        let partition = TopicPartition(topic: topic, partition: number)
        let marks = try await admin.watermarks(of: partition)
        let first = max(marks.low, start)
        if marks.high > first { ends[partition] = (first, marks.high) }
      }
      await admin.close()
      return ends
    } catch {
      await admin.close()
      throw error
    }
  }
}
