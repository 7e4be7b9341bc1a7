// What of a log waits to be read. Offsets are no messages: the ends of transactions take one each, and what was
// aborted or compacted away is passed over.

import Foundation
import KafkaClient

/// What waits in a partition.
public struct Backlog: Sendable, Hashable {
  /// The first offset that the broker has, and the next one to be written.
  public var low: Int64
  public var high: Int64
  /// Where what can be read ends: where the first open transaction begins, and `high` without one.
  public var stable: Int64
  /// The first message that is still to be read; nil: none below `stable`.
  public var next: Int64?

  /// - Parameter next: nil: no message is to be read below `stable`.
  public init(low: Int64, high: Int64, stable: Int64, next: Int64?) {
    (self.low, self.high, self.stable, self.next) = (low, high, stable, next)
  }

  /// Offsets from the first message that waits to the log's end.
  public var count: Int64 { max(0, high - (next ?? stable)) }

  /// How many offsets lie behind the beginning of an open transaction, which nobody reads before it ends.
  public var held: Int64 { high - stable }

  /// What waits in partitions.
  ///
  /// - Parameters:
  ///   - positions: the next offset to read; nil: the beginning.
  ///   - group: whose right to read is used.
  /// - Throws: `KafkaError`; ``SilentPartitionsError``.
  public static func all(
    _ positions: [TopicPartition: Int64?], kafka: WorkerConfiguration.Kafka, group: String
  ) async throws -> [TopicPartition: Backlog] {
    let whole = try KafkaLogProbe(
      configuration: kafka.client, group: group, seesOpenTransactions: true)
    let readable = try KafkaLogProbe(configuration: kafka.client, group: group)
    defer {
      whole.close()
      readable.close()
    }
    let partitions = Array(positions.keys)
    // In this order: what is written in between is not taken for an open transaction.
    let ends = try await whole.ends(of: partitions)
    let stable = try await readable.ends(of: partitions).mapValues(\.high)
    var backlogs: [TopicPartition: Backlog] = [:]
    for (partition, position) in positions {
      guard let (low, high) = ends[partition], let stable = stable[partition] else { continue }
      // A position that the log does not have is one of another log: all of this one waits.
      let next = position.flatMap { $0 <= high ? $0 : nil } ?? low
      backlogs[partition] = Backlog(
        low: low, high: high, stable: min(stable, high), next: max(next, low))
    }
    let silent = partitions.filter { backlogs[$0] == nil }
    guard silent.isEmpty else { throw SilentPartitionsError(partitions: silent.sorted()) }
    let behind = backlogs.compactMapValues { backlog in
      backlog.next.flatMap { $0 < backlog.high ? $0 : nil }
    }
    for (partition, message) in try await readable.messages(at: behind) {
      backlogs[partition]?.next = message?.offset
    }
    for partition in partitions where behind[partition] == nil { backlogs[partition]?.next = nil }
    return backlogs
  }
}

/// Partitions whose leaders did not say where their logs end.
public struct SilentPartitionsError: Error, CustomStringConvertible, LocalizedError {
  let partitions: [TopicPartition]
  public var description: String {
    "no leader answered for \(partitions.map(\.description).joined(separator: ", "))"
  }
  public var errorDescription: String? { description }
}
