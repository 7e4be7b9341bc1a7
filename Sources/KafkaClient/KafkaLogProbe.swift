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

  /// - Parameter group: whose right to read is used; the group is not joined, and nothing is committed.
  /// - Throws: `KafkaError` for settings that librdkafka refuses.
  public init(
    configuration: KafkaConfiguration, group: String,
    logger: Logger = Logger(label: "oppu.kafka")
  ) throws {
    var configuration = configuration
    configuration.properties["group.instance.id"] = nil
    handle = try KafkaHandle(
      RD_KAFKA_CONSUMER, configuration, defaults: [:],
      forced: [
        "group.id": group, "enable.auto.commit": "false", "auto.offset.reset": "error",
        "enable.partition.eof": "true", "check.crcs": "true", "queued.min.messages": "1",
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
      let low = try offsets(of: partitions, KafkaOffset.beginning, timeout)
      let high = try offsets(of: Array(low.keys), KafkaOffset.end, timeout)
      var ends: [TopicPartition: (low: Int64, high: Int64)] = [:]
      for (partition, high) in high { ends[partition] = low[partition].map { ($0, high) } }
      return ends
    }
  }

  /// One request to each leader for all of its partitions. (`rd_kafka_query_watermark_offsets` of librdkafka 2.0
  /// waits for ever where a broker is gone.)
  private func offsets(
    of partitions: [TopicPartition], _ place: Int64, _ timeout: Duration
  ) throws -> [TopicPartition: Int64] {
    if partitions.isEmpty { return [:] }
    // The protocol's words for the two ends stand where a time would.
    let list = PartitionList(
      Dictionary(partitions.map { ($0, place) }, uniquingKeysWith: { $1 }))
    try check(
      list.withPointer {
        rd_kafka_offsets_for_times(handle.client, $0, timeout.milliseconds)
      }, topic: partitions.first?.topic)
    return list.withPointer { list in
      let failed = Set(
        PartitionList.elements(of: list).filter { $0.err != RD_KAFKA_RESP_ERR_NO_ERROR }
          .map { TopicPartition(topic: String(cString: $0.topic), partition: $0.partition) })
      return PartitionList.offsets(of: list).filter { $0.value >= 0 && !failed.contains($0.key) }
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
