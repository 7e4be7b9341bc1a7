// One round of the scheduler: the streams that changed are looked at and written, some hundred at a time.

import Foundation
import LanguageModel
import Personalization
import PostgresClient
import ShiftDetection
import Storage
import StructuredLogging
import Synchronization

/// Costs what changed: everything is read and written in batches, and nothing is read of streams without news.
public final class SchedulerRound: Sendable {
  /// What a batch came to.
  public struct Report: Sendable, Equatable {
    /// Streams that were looked at and written.
    public var streams = 0
    /// Streams for which a training was asked for.
    public var jobs = 0
    /// Streams whose version was taken back.
    public var rollbacks = 0
    /// Streams that could not be looked at or written.
    public var failures = 0
    /// There may be more to look at.
    public var isFull = false
  }

  private let repository: ScheduleRepository
  private let watcher: StreamWatcher
  private let settings: WorkerConfiguration.Schedule
  private let logger: Logger
  /// Streams that could not be looked at, until when they are left alone: they must not keep others waiting.
  private let postponed = Mutex<[StreamID: Date]>([:])

  /// Streams in a batch where the caller says nothing.
  public static let batchSize = 1_000
  private static let postponement: TimeInterval = 60

  /// - Parameter model: where given, the adapters' losses on new events are a signal too.
  public init(
    configuration: WorkerConfiguration, catalogue: TaskCatalogue, model: ServedModel?,
    client: PostgresClient, logger: Logger
  ) {
    repository = ScheduleRepository(client)
    settings = configuration.schedule
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
    guard !states.isEmpty else { return Report() }
    var budget = try await alarmBudget(on: connection)
    let (outcomes, failures) = try await watcher.look(
      at: states, arl0: budget?.arl0 ?? Double(settings.falseAlarmEvents), now: now)
    for failure in failures { postpone(failure.stream, now, failure.error) }
    var report = Report()
    report.failures = failures.count
    report.isFull = states.count >= limit
    let receipt = try await record(outcomes, on: connection, now: now, &report)
    let taken = outcomes.filter { receipt.streams.contains($0.stream) }
    if budget != nil, !taken.isEmpty {
      budget?.record(
        events: taken.reduce(0) { $0 + Int($1.through - $1.from) },
        alarms: taken.count { $0.announceShift }, at: now)
      try await ScheduleRepository.keep(budget, as: Self.budgetName, on: connection)
    }
    report.streams = receipt.streams.count
    report.jobs = receipt.jobs.count
    report.rollbacks = receipt.rolledBack.count
    for outcome in taken {
      for decision in outcome.decisions {
        logger.info(
          "decision: \(decision.action.rawValue), \(decision.reason)",
          metadata: ["stream": "\(outcome.stream)", "ordinal": "\(decision.ordinal)"])
      }
    }
    return report
  }

  private static let budgetName = "alarm_budget"

  /// What was counted of alarms so far, under the limits of now; nil where there is no limit.
  private func alarmBudget(on connection: PostgresConnection) async throws -> AlarmBudget? {
    guard settings.falseAlarmsPerDay > 0 else { return nil }
    let lowest = Double(settings.falseAlarmEvents)
    let limits = AlarmBudget.Limits(
      falseAlarmsPerDay: settings.falseAlarmsPerDay, arl0: lowest...max(1e7, lowest))
    let kept = try await ScheduleRepository.kept(
      Self.budgetName, as: AlarmBudget.self, on: connection)
    var budget = kept ?? AlarmBudget(limits: limits)
    budget.limits = limits
    return budget
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

  private func postpone(_ stream: StreamID, _ now: Date, _ error: any Error) {
    logger.error("schedule: \(error)", metadata: ["stream": "\(stream)"])
    postponed.withLock { $0[stream] = now.addingTimeInterval(Self.postponement) }
  }
}
