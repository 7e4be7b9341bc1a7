// Whether a stored offset fits the log that it is used on: what the log shows, and what follows from it.

import Cryptography
import Foundation
import KafkaClient
import Storage

/// What a log shows of a stored position.
struct LogView: Sendable, Equatable {
  /// A message that was read, looked for in its place.
  enum Sighting: Sendable {
    case same
    /// Another message is in its place.
    case other
    /// Nothing is in its place any more, or nothing is known that might be.
    case gone
  }
  /// The first offset that the broker has, and the next one to be written.
  var low: Int64
  var high: Int64
  var anchor: Sighting
  var last: Sighting
}

extension LogPosition {
  /// Why the position does not fit the log; nil: it does.
  ///
  /// What was read and is no longer there by itself says nothing: it may have expired. But a log that ends before
  /// the position, and in which nothing that was read can be found though nothing has expired, is taken for another.
  func gap(in view: LogView) -> LogGap? {
    guard next >= 0 else { return nil }
    func gap(_ kind: LogGap.Kind) -> LogGap {
      LogGap(kind: kind, next: next, low: view.low, high: view.high)
    }
    if view.anchor == .other { return gap(.replaced) }
    let isKnown = view.anchor == .same || view.last == .same
    if view.last == .other { return gap(isKnown ? .truncated : .replaced) }
    if next > view.high {
      let hasExpired = anchor.map { $0.offset < view.low } ?? false
      return gap(isKnown || hasExpired ? .truncated : .replaced)
    }
    return next < view.low ? gap(.expired) : nil
  }
}

/// What is done about a gap.
public enum OffsetGapPolicy: String, Sendable, CaseIterable {
  /// The partition waits for an operator.
  case stop
  /// It goes on with the first message that the log has.
  case earliest
  /// It goes on with what comes from now on.
  case latest

  /// Where the partition goes on, and how many messages are then known to be missing; nil: it waits.
  func resolve(_ gap: LogGap) -> (next: Int64, missing: Int64)? {
    switch self {
    case .stop: nil
    case .earliest: (gap.low, gap.missing)
    case .latest: (gap.high, gap.missing + gap.waiting)
    }
  }
}

extension LogMark {
  init(_ message: KafkaMessage) {
    var digest = SHA256()
    func add(_ data: Data?) {
      withUnsafeBytes(of: Int64(data?.count ?? -1).littleEndian) { digest.update(data: Data($0)) }
      if let data { digest.update(data: data) }
    }
    let milliseconds = message.timestamp.map { Int64(($0.timeIntervalSince1970 * 1000).rounded()) }
    withUnsafeBytes(of: (milliseconds ?? -1).littleEndian) { digest.update(data: Data($0)) }
    add(message.key)
    add(message.value)
    let head = digest.finalize().prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    self.init(offset: message.offset, digest: Int64(bitPattern: head))
  }
}

/// Looks at the logs of stored positions.
public struct LogCheck: Sendable {
  private let probe: KafkaLogProbe

  init(_ probe: KafkaLogProbe) { self.probe = probe }

  /// What the logs show, of those partitions that answer; of positions where nothing was read yet too.
  /// - Throws: `KafkaError`.
  func views(of positions: [LogPosition]) async throws -> [TopicPartition: LogView] {
    let ends = try await probe.ends(of: positions.map(\.topicPartition))
    let anchors = try await sightings(positions, \.anchor, ends)
    // Most often the two are one, or the first alone was asked for.
    let lasts = try await sightings(positions.filter { $0.last != $0.anchor }, \.last, ends)
    var views: [TopicPartition: LogView] = [:]
    for position in positions {
      let partition = position.topicPartition
      guard let end = ends[partition], let anchor = anchors[partition] else { continue }
      guard let last = position.last == position.anchor ? anchor : lasts[partition] else {
        continue
      }
      views[partition] = LogView(low: end.low, high: end.high, anchor: anchor, last: last)
    }
    return views
  }

  /// Why positions do not fit their logs.
  /// - Throws: `KafkaError`.
  func gaps(of positions: [LogPosition]) async throws -> [TopicPartition: LogGap] {
    let views = try await views(of: positions)
    var gaps: [TopicPartition: LogGap] = [:]
    for position in positions {
      guard let view = views[position.topicPartition] else { continue }
      gaps[position.topicPartition] = position.gap(in: view)
    }
    return gaps
  }

  /// Why positions do not fit their logs, looked at once.
  ///
  /// - Parameter group: whose right to read is used.
  /// - Throws: `KafkaError`.
  public static func gaps(
    of positions: [LogPosition], kafka: WorkerConfiguration.Kafka, group: String
  ) async throws -> [TopicPartition: LogGap] {
    let probe = try KafkaLogProbe(configuration: kafka.client, group: group)
    defer { probe.close() }
    return try await LogCheck(probe).gaps(of: positions)
  }

  /// At which of the offsets, or behind them, there is a message to read.
  /// - Throws: `KafkaError`.
  func messages(at offsets: [TopicPartition: Int64]) async throws -> Set<TopicPartition> {
    Set(try await probe.messages(at: offsets).filter { $0.value != nil }.keys)
  }

  private func sightings(
    _ positions: [LogPosition], _ mark: KeyPath<LogPosition, LogMark?>,
    _ ends: [TopicPartition: (low: Int64, high: Int64)]
  ) async throws -> [TopicPartition: LogView.Sighting] {
    var sightings: [TopicPartition: LogView.Sighting] = [:]
    var wanted: [TopicPartition: LogMark] = [:]
    for position in positions {
      let partition = position.topicPartition
      guard let end = ends[partition] else { continue }
      if let mark = position[keyPath: mark], mark.offset >= end.low, mark.offset < end.high {
        wanted[partition] = mark
      } else {
        sightings[partition] = .gone
      }
    }
    for (partition, message) in try await probe.messages(at: wanted.mapValues(\.offset)) {
      guard let mark = wanted[partition] else { continue }
      guard let message, message.offset == mark.offset else {
        // Compaction takes single messages out, and a transaction's end has an offset but no message.
        sightings[partition] = .gone
        continue
      }
      sightings[partition] = LogMark(message) == mark ? .same : .other
    }
    return sightings
  }
}

extension LogPosition {
  var topicPartition: TopicPartition { TopicPartition(topic: topic, partition: partition) }

  /// Moves behind a message that this process read. Others may have read on since, and committed more.
  mutating func pass(_ newest: LogMark) {
    last = newest
    next = max(next, newest.offset + 1)
  }
}
