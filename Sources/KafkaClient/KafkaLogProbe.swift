// Looks at logs beside those who read them: where they begin and end, and the message at an offset.

import CRDKafka
import Foundation
import StructuredLogging
import Synchronization

/// A client that reads single messages outside any group. Every call is bounded by its timeout.
public final class KafkaLogProbe: Sendable {
  private let handle: KafkaHandle
  private let blocking = BlockingQueue(label: "oppu.kafka.probe")
  private let isClosed = Atomic(false)

  /// - Parameters:
  ///   - group: whose right to read is used; the group is not joined, and nothing is committed.
  ///   - seesOpenTransactions: logs then end where the next message is written, and messages of transactions that
  ///     are open or were aborted are read too; else logs end where the first open transaction begins.
  /// - Throws: `KafkaError` for settings that librdkafka refuses.
  public init(
    configuration: KafkaConfiguration, group: String, seesOpenTransactions: Bool = false,
    logger: Logger = Logger(label: "oppu.kafka")
  ) throws {
    handle = try KafkaHandle(
      RD_KAFKA_CONSUMER, configuration.withoutMembership, defaults: [:],
      forced: [
        "group.id": group, "enable.auto.commit": "false", "auto.offset.reset": "error",
        "enable.partition.eof": "true", "check.crcs": "true", "queued.min.messages": "1",
        "isolation.level": seesOpenTransactions ? "read_uncommitted" : "read_committed",
      ], events: RD_KAFKA_EVENT_FETCH, logger: logger)
  }

  deinit { close() }

  /// The first offset that the broker has and the next one to be written, of those partitions that answer.
  ///
  /// - Throws: `KafkaError`.
  public func ends(
    of partitions: [TopicPartition], timeout: Duration = .seconds(3)
  ) async throws -> [TopicPartition: (low: Int64, high: Int64)] {
    if partitions.isEmpty { return [:] }
    return try await blocking.run { [self] in
      do {
        let ends = try logEnds(handle.client, of: partitions, timeout).ends
        if ends.count < partitions.count { learnLeaders(of: partitions) }
        return ends
      } catch let error as KafkaError where error.isRetriable {
        learnLeaders(of: partitions)
        handle.serve()
        throw handle.explain(
          rd_kafka_resp_err_t(error.code), asking: "no broker answered at \(handle.servers)")
      }
    }
  }

  /// Asks where the leaders are now. librdkafka does so by itself only of topics that are being read; of others it asks a
  /// leader that is gone until what it knows is five minutes old.
  private func learnLeaders(of partitions: [TopicPartition]) {
    for name in Set(partitions.map(\.topic)) {
      guard let topic = rd_kafka_topic_new(handle.client, name, nil) else { continue }
      defer { rd_kafka_topic_destroy(topic) }
      var metadata: UnsafePointer<rd_kafka_metadata>?
      // An error shows in the next look.
      _ = rd_kafka_metadata(handle.client, 0, topic, &metadata, 1_000)
      if let metadata { rd_kafka_metadata_destroy(metadata) }
    }
  }

  /// The first message at or behind an offset of each partition, of those partitions that answer.
  ///
  /// - Parameter offsets: within the logs' ends.
  /// - Returns: `.some(nil)` for a log without a message there.
  /// - Throws: `KafkaError`.
  public func messages(
    at offsets: [TopicPartition: Int64], timeout: Duration = .seconds(3)
  ) async throws -> [TopicPartition: KafkaMessage?] {
    if offsets.isEmpty { return [:] }
    return try await blocking.run { [self] in
      let client = handle.client
      try check(PartitionList(offsets).withPointer { rd_kafka_assign(client, $0) })
      defer { rd_kafka_assign(client, nil) }
      let deadline = ContinuousClock.now + timeout
      var found: [TopicPartition: KafkaMessage?] = [:]
      while found.count < offsets.count, !isClosed.load(ordering: .acquiring) {
        let left = deadline - ContinuousClock.now
        if left <= .zero { break }
        guard let event = handle.poll(min(left, .milliseconds(100))) else { continue }
        defer { rd_kafka_event_destroy(event) }
        switch rd_kafka_event_type(event) {
        case RD_KAFKA_EVENT_FETCH:
          while let message = rd_kafka_event_message_next(event) {
            guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR,
              let topic = message.pointee.rkt
            else { continue }
            let name = String(cString: rd_kafka_topic_name(topic))
            let partition = TopicPartition(topic: name, partition: message.pointee.partition)
            guard found[partition] == nil, let offset = offsets[partition],
              message.pointee.offset >= offset
            else { continue }
            found[partition] = KafkaMessage(copying: message, topic: name)
          }
        case RD_KAFKA_EVENT_ERROR where Self.endsLooking(rd_kafka_event_error(event)):
          guard let partition = KafkaHandle.partition(of: event), found[partition] == nil else {
            continue
          }
          found.updateValue(nil, forKey: partition)
        default: try handle.report(event)
        }
      }
      return found
    }
  }

  /// Whether the log has nothing at the offset that was asked for.
  private static func endsLooking(_ code: rd_kafka_resp_err_t) -> Bool {
    code == RD_KAFKA_RESP_ERR__PARTITION_EOF || code == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
  }

  /// Ends the client; a call that waits returns early.
  public func close() { isClosed.store(true, ordering: .releasing) }
}
