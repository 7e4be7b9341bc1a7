// One round of the scheduler: the streams that changed are looked at and written, some hundred at a time.

import Foundation
import LanguageModel
import Logging
import Personalization
import PostgresClient
import Storage
import Synchronization

/// Costs what changed: everything is read and written in batches, and nothing is read of streams without news.
public final class SchedulerRound: Sendable {
  /// What a batch came to.
  public struct Report: Sendable, Equatable {
    /// Streams that were looked at and written.
    public var streams = 0
    public var jobs = 0
    public var rollbacks = 0
    public var failures = 0
    /// There may be more to look at.
    public var isFull = false
  }

  private let repository: ScheduleRepository
  private let watcher: StreamWatcher
  private let logger: Logger
  /// Streams that could not be looked at, until when they are left alone: they must not keep others waiting.
  private let postponed = Mutex<[Storage.Stream: Date]>([:])

  public static let batchSize = 1_000
  private static let postponement: TimeInterval = 60

  /// - Parameter model: where given, the adapters' losses on new events are a signal too.
  public init(
    configuration: WorkerConfiguration, catalogue: TaskCatalogue, model: ServedModel?,
    client: PostgresClient, logger: Logger
  ) {
    repository = ScheduleRepository(client)
    watcher = StreamWatcher(
      configuration: configuration, catalogue: catalogue,
      model: configuration.schedule.lossSignal ? model : nil, client: client, logger: logger)
    self.logger = logger
  }

  /// Looks at one batch of streams.
  /// - Parameters:
  ///   - connection: the leader's, on which everything is written.
  ///   - limit: streams at most. With a model each costs a forward pass, so that fewer are looked at between two
  ///     checks of the leadership.
  public func run(
    on connection: PostgresConnection, limit: Int = batchSize, now: Date = Date()
  ) async throws -> Report {
    let avoided = postponed.withLock { postponed in
      postponed = postponed.filter { $0.value > now }
      return postponed
    }
    let found = try await repository.dirty(limit: limit + avoided.count)
    let states = found.filter { avoided[$0.stream] == nil }
    let (outcomes, failures) = try await watcher.look(at: states, now: now)
    for failure in failures { postpone(failure.stream, now, failure.error) }
    var report = Report()
    report.failures = failures.count
    report.isFull = states.count >= limit
    let receipt = try await record(outcomes, on: connection, now: now, &report)
    report.streams = receipt.streams.count
    report.jobs = receipt.jobs.count
    report.rollbacks = receipt.rolledBack.count
    for outcome in outcomes where receipt.streams.contains(outcome.stream) {
      for decision in outcome.decisions {
        logger.info(
          "decision: \(decision.action.rawValue), \(decision.reason)",
          metadata: ["stream": "\(outcome.stream)", "ordinal": "\(decision.ordinal)"])
      }
    }
    return report
  }

  /// All in one transaction; where PostgreSQL refuses something of it, one by one.
  private func record(
    _ outcomes: [ScheduleOutcome], on connection: PostgresConnection, now: Date,
    _ report: inout Report
  ) async throws -> ScheduleReceipt {
    do {
      return try await repository.record(outcomes, on: connection)
    } catch let error as PostgresError where !error.isRetryable && outcomes.count > 1 {
      logger.warning("schedule: a batch was refused, now one by one: \(error)")
    }
    var receipt = ScheduleReceipt()
    for outcome in outcomes {
      do {
        let one = try await repository.record([outcome], on: connection)
        receipt.streams.formUnion(one.streams)
        receipt.jobs.merge(one.jobs) { $1 }
        receipt.rolledBack.formUnion(one.rolledBack)
      } catch let error as PostgresError where !error.isRetryable {
        postpone(outcome.stream, now, error)
        report.failures += 1
      }
    }
    return receipt
  }

  private func postpone(_ stream: Storage.Stream, _ now: Date, _ error: any Error) {
    logger.error("schedule: \(error)", metadata: ["stream": "\(stream)"])
    postponed.withLock { $0[stream] = now.addingTimeInterval(Self.postponement) }
  }
}
