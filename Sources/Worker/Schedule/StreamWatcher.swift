// One look at one stream: the detectors see its new events, the policy decides.

import FineTuning
import Foundation
import LanguageModel
import Logging
import Personalization
import PostgresClient
import ShiftDetection
import Storage

struct StreamWatcher: Sendable {
  private let policy: SchedulePolicy
  private let catalogue: TaskCatalogue
  private let monitorConfiguration: ShiftMonitor.Configuration
  private let losses: LossMeter?
  private let history: HistoryRepository
  private let compute = ComputeQueue("schedule")
  private let logger: Logger

  /// Events taken in one look: what a stream that was not watched for long costs at a time.
  private static let eventsPerLook = 100

  init(
    configuration: WorkerConfiguration, catalogue: TaskCatalogue, model: LlamaModel?,
    client: PostgresClient, logger: Logger
  ) {
    policy = SchedulePolicy(settings: configuration.schedule)
    self.catalogue = catalogue
    monitorConfiguration = .init(arl0: Double(configuration.schedule.falseAlarmEvents))
    history = HistoryRepository(client)
    losses = model.map {
      LossMeter(model: $0, repository: AdapterRepository(client), settings: configuration.train)
    }
    self.logger = logger
  }

  /// What the look comes to; nil where nothing is new and nothing is decided.
  func look(at state: ScheduledStream, now: Date) async throws -> ScheduleOutcome? {
    let events = try await history.next(
      of: state.stream, after: state.scheduledThrough, limit: Self.eventsPerLook)
    let monitor = try self.monitor(of: state)
    guard let task = catalogue[state.stream.task] else {
      return try unknownTask(state, through: events.last?.ordinal, monitor: monitor)
    }
    let measured = await measure(events, of: state, task: task)
    let seen = try await compute.run { [monitor] in
      Self.observe(events, losses: measured, task: task, monitor: monitor)
    }
    let through = events.last?.ordinal ?? state.scheduledThrough
    let facts = StreamFacts(
      eventCount: through, lastTrainOrdinal: state.lastTrainOrdinal, hasOpenJob: state.hasOpenJob,
      pendingShift: state.pendingShift, alarmChange: seen.alarm?.changeOrdinal, now: now)
    let result = policy.decide(facts)
    guard !events.isEmpty || !result.steps.isEmpty else { return nil }
    let signals = try JSONValue(encoding: seen.signals)
    return ScheduleOutcome(
      stream: state.stream, from: state.scheduledThrough, through: through,
      monitor: try JSONValue(encoding: seen.monitor), monitorVersion: state.activeVersion,
      evaluation: .object(["ordinal": .number(Double(through)), "signals": signals]),
      pendingShift: result.pendingShift,
      decisions: try result.steps.map { step in
        Decision(
          action: step.action, reason: step.reason,
          ordinal: step.reason == "shift_detected" ? seen.alarm?.ordinal ?? through : through,
          // What was learnt since the last change stays the ground for later trainings.
          changeOrdinal: step.changeOrdinal ?? state.lastChangeOrdinal,
          signals: step.reason == "shift_detected"
            ? try JSONValue(encoding: seen.alarm?.signals ?? seen.signals) : signals,
          numbers: numbers(facts))
      }, job: result.job, announceShift: seen.alarm != nil)
  }

  // MARK: Detectors

  private func monitor(of state: ScheduledStream) throws -> ShiftMonitor {
    var monitor = ShiftMonitor(configuration: monitorConfiguration)
    if let stored = state.monitor {
      do {
        monitor = try stored.decoded(as: ShiftMonitor.self)
      } catch {
        // State of another release: begin again rather than stop watching.
        logger.warning(
          "detector state not readable, starting anew: \(error)",
          metadata: ["stream": "\(state.stream)"])
      }
    }
    // Settings may have changed since the state was written.
    monitor.configuration.arl0 = monitorConfiguration.arl0
    if state.monitorVersion != state.activeVersion { monitor.reset(after: .newAdapter) }
    return monitor
  }

  /// What the detectors found in the events of one look.
  private struct Seen: Sendable {
    struct Alarm: Sendable {
      var ordinal: Int64
      var changeOrdinal: Int64
      var signals: [Signal]
    }
    var monitor: ShiftMonitor
    /// After the newest event.
    var signals: [Signal] = []
    /// The newest alarm, if there was one.
    var alarm: Alarm?
  }

  private static func observe(
    _ events: [WatchedEvent], losses: [Int64: Double], task: TaskDefinition, monitor: ShiftMonitor
  ) -> Seen {
    var seen = Seen(monitor: monitor)
    for event in events {
      // The monitor counts its observations from 0; this one's number tells which ordinal that is.
      let shift = event.ordinal - Int64(seen.monitor.observations)
      seen.signals = seen.monitor.observe(
        Observation(
          loss: losses[event.ordinal], output: event.output.flatMap(task.observed),
          input: task.queryText(event.input)))
      let alarms = seen.signals.filter(\.isAlarm)
      if let surest = alarms.max(by: { ($0.rarity ?? 0) < ($1.rarity ?? 0) }) {
        let change = surest.changeIndex.map { Int64($0) + shift } ?? event.ordinal
        seen.alarm = .init(
          ordinal: event.ordinal, changeOrdinal: max(1, change), signals: seen.signals)
      }
    }
    return seen
  }

  /// The active adapter's loss on events that it has not been trained on. Without a model, an adapter, or where
  /// it cannot be read: none, and the other signals go on.
  private func measure(
    _ events: [WatchedEvent], of state: ScheduledStream, task: TaskDefinition
  ) async -> [Int64: Double] {
    guard let losses, let version = state.activeVersion, let trained = state.trainedThrough else {
      return [:]
    }
    let unseen = events.filter { $0.ordinal > trained && $0.output != nil }
    do {
      return try await losses.losses(of: unseen, stream: state.stream, version: version, task: task)
    } catch {
      logger.warning("losses not measured: \(error)", metadata: ["stream": "\(state.stream)"])
      return [:]
    }
  }

  // MARK: Records

  private func numbers(_ facts: StreamFacts) -> JSONValue {
    func number(_ value: Int64?) -> JSONValue { value.map { .number(Double($0)) } ?? .null }
    let settings = policy.settings
    return .object([
      "events": number(facts.eventCount), "last_trained_at": number(facts.lastTrainOrdinal),
      "open_job": .bool(facts.hasOpenJob),
      "first_adapter_events": .number(Double(settings.firstAdapterEvents)),
      "new_events": .number(Double(settings.newEvents)),
      "shift_events": .number(Double(settings.shiftEvents)),
      "false_alarm_events": .number(Double(settings.falseAlarmEvents)),
    ])
  }

  /// A task that was in the catalogue when its events came and is no longer: the events are kept.
  private func unknownTask(
    _ state: ScheduledStream, through: Int64?, monitor: ShiftMonitor
  ) throws -> ScheduleOutcome? {
    guard let through else { return nil }
    return ScheduleOutcome(
      stream: state.stream, from: state.scheduledThrough, through: through,
      monitor: try JSONValue(encoding: monitor), monitorVersion: state.monitorVersion,
      evaluation: .null, pendingShift: nil,
      decisions: [
        Decision(
          action: .none, reason: "unknown_task", ordinal: through, signals: .array([]),
          numbers: .object(["tasks": .array(catalogue.names.map { .string($0) })]))
      ], job: nil, announceShift: false)
  }
}

extension TaskDefinition {
  /// A stored output as the detectors take it.
  fileprivate func observed(_ output: String) -> ObservedOutput? {
    switch kind {
    case .label: .label(output)
    case .rating: Double(output).map { .rating($0) }
    case .text: .text(output)
    }
  }
}
