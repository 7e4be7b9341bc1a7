// Looks at streams: the detectors see the new events, live losses judge the active adapter, the policy decides.

import Dispatch
import FineTuning
import Foundation
import LanguageModel
import Personalization
import PostgresClient
import ShiftDetection
import Storage
import StructuredLogging
import Synchronization

struct StreamWatcher: Sendable {
  private let policy: SchedulePolicy
  private let catalogue: TaskCatalogue
  private let detectors: StreamDetectors
  private let trials: LiveTrial.Rules
  private let losses: LossMeter?
  private let repository: ScheduleRepository
  private let compute = ComputeQueue("schedule")
  private let logger: Logger

  /// Events taken in one look: what a stream that was not watched for long costs at a time.
  private static let eventsPerLook = 100

  init(
    configuration: WorkerConfiguration, catalogue: TaskCatalogue, model: ServedModel?,
    client: PostgresClient, logger: Logger
  ) {
    policy = SchedulePolicy(rules: configuration.schedule.rules)
    self.catalogue = catalogue
    detectors = StreamDetectors(logger: logger)
    trials = LiveTrial.Rules(events: configuration.schedule.trialEvents)
    repository = ScheduleRepository(client)
    losses = model.map {
      LossMeter(model: $0, client: client, configuration: configuration)
    }
    self.logger = logger
  }

  /// What the looks come to. A stream that cannot be looked at is missing, and named with its error.
  /// - Parameter arl0: events between false alarms of a user who does not change.
  func look(at states: [ScheduledStream], arl0: Double, now: Date) async throws -> (
    outcomes: [ScheduleOutcome], failures: [(stream: StreamID, error: any Error)]
  ) {
    let events = try await repository.newEvents(of: states, limit: Self.eventsPerLook)
    var looks: [Look] = []
    for state in states {
      let task = catalogue[state.stream.task]
      var look = Look(state: state, events: events[state.stream] ?? [], task: task)
      if let task { await measure(&look, task: task) }
      looks.append(look)
    }
    let ready = looks
    let results = try await compute.run {
      parallelMap(ready) { look in self.outcome(look, arl0, now) }
    }
    var outcomes: [ScheduleOutcome] = []
    var failures: [(StreamID, any Error)] = []
    for (look, result) in zip(looks, results) {
      switch result {
      case .success(let outcome): if let outcome { outcomes.append(outcome) }
      case .failure(let error): failures.append((look.state.stream, error))
      }
    }
    return (outcomes, failures)
  }

  /// A stream with what is needed to look at it.
  private struct Look: Sendable {
    var state: ScheduledStream
    var events: [WatchedEvent]
    var task: TaskDefinition?
    /// By ordinal, under the active version.
    var losses: [Int64: Double] = [:]
    /// The same under what it replaced, of the events since its promotion.
    var lossesBefore: [Int64: Double] = [:]
  }

  // MARK: Losses

  /// The losses of events that the active adapter has not been trained on. Without a model, an adapter, or where
  /// it cannot be read: none, and the other signals go on.
  private func measure(_ look: inout Look, task: TaskDefinition) async {
    let state = look.state
    guard let losses, let version = state.activeVersion, let trained = state.trainedThrough else {
      return
    }
    let unseen = look.events.filter { $0.ordinal > trained && $0.output != nil }
    do {
      look.losses = try await losses.losses(
        of: unseen, stream: state.stream, version: version, task: task)
      guard trial(of: state)?.state == .running, let promoted = state.promotedAfter else { return }
      look.lossesBefore = try await losses.losses(
        of: unseen.filter { $0.ordinal > promoted }, stream: state.stream,
        version: state.replacedVersion, task: task)
    } catch {
      logger.warning("losses not measured: \(error)", metadata: ["stream": "\(state.stream)"])
    }
  }

  /// The active version's trial; nil where there is none to be.
  private func trial(of state: ScheduledStream) -> LiveTrial? {
    guard trials.events > 0, state.activeVersion != nil, state.promotedAfter != nil else {
      return nil
    }
    return state.trial ?? LiveTrial(against: state.replacedVersion)
  }

  /// The trial after the look's events; nil where it learnt nothing.
  private func tried(_ look: Look) -> (trial: LiveTrial, isWorse: Bool)? {
    guard var trial = trial(of: look.state), trial.state == .running else { return nil }
    let events = trial.events
    var isWorse = false
    for event in look.events where !isWorse {
      guard let active = look.losses[event.ordinal], let before = look.lossesBefore[event.ordinal]
      else { continue }
      isWorse = trial.observe(active: active, before: before, rules: trials)
    }
    return trial.events > events ? (trial, isWorse) : nil
  }

  // MARK: Deciding

  private func outcome(_ look: Look, _ arl0: Double, _ now: Date) -> Result<
    ScheduleOutcome?, any Error
  > {
    Result {
      guard let task = look.task else { return try unknownTask(look) }
      let state = look.state
      let seen = detectors.observe(
        look.events, losses: look.losses, task: task, of: state, arl0: arl0)
      let through = look.events.last?.ordinal ?? state.scheduledThrough
      let facts = StreamFacts(
        eventCount: through, lastTrainOrdinal: state.lastTrainOrdinal,
        lastTrainAt: state.lastTrainAt, hasOpenJob: state.hasOpenJob,
        pendingShift: state.pendingShift, alarmChange: seen.alarm?.changeOrdinal, now: now)
      let result = policy.decide(facts)
      // A stream that is looked at because of its time gets another one, or none: never the same again.
      guard !look.events.isEmpty || !result.steps.isEmpty || state.isDue else { return nil }
      let numbers = DecisionNumbers.schedule(
        ScheduleNumbers(facts, rules: policy.rules, arl0: arl0))
      var outcome = ScheduleOutcome(
        stream: state.stream, incarnation: state.incarnation, from: state.scheduledThrough,
        through: through,
        monitor: Data(seen.monitor.bytes),
        monitorVersion: state.activeVersion,
        evaluation: StreamEvaluation(ordinal: through, signals: seen.signals),
        pendingShift: result.pendingShift,
        decisions: result.steps.map { step in
          switch step {
          case .noticed(let change):
            Decision(
              action: .wait, reason: "shift_detected", ordinal: seen.alarm?.ordinal ?? through,
              changeOrdinal: change,
              signals: seen.alarm?.signals ?? seen.signals, numbers: numbers)
          case .train(let reason, let change):
            Decision(
              action: .train, reason: reason.rawValue, ordinal: through,
              // What was learnt since the last change stays the ground for later trainings.
              changeOrdinal: change ?? state.lastChangeOrdinal,
              signals: seen.signals, numbers: numbers)
          }
        }, job: result.training, announceShift: seen.alarm != nil)
      outcome.nextLook = result.nextLook
      outcome.wasDue = state.isDue
      if let (trial, isWorse) = tried(look) {
        outcome.trial = trial
        if isWorse {
          outcome.rollback = state.activeVersion
          // Before a decision to train, whose change the job takes: that one stays the last.
          outcome.decisions.insert(rollback(state, trial, through: through), at: 0)
        }
      }
      return outcome
    }
  }

  private func rollback(
    _ state: ScheduledStream, _ trial: LiveTrial, through: Int64
  ) -> Decision {
    Decision(
      action: .rollback, reason: "live_losses", ordinal: through,
      changeOrdinal: state.lastChangeOrdinal,
      numbers: .trial(LostTrial(trial, version: state.activeVersion, rules: trials)))
  }

  /// A task that was in the catalogue when its events came and is no longer: the events are kept.
  private func unknownTask(_ look: Look) throws -> ScheduleOutcome? {
    let state = look.state
    guard !look.events.isEmpty || state.isDue else { return nil }
    let through = look.events.last?.ordinal ?? state.scheduledThrough
    var outcome = ScheduleOutcome(
      stream: state.stream, incarnation: state.incarnation, from: state.scheduledThrough,
      through: through,
      monitor: state.monitor, monitorVersion: state.monitorVersion, evaluation: nil,
      pendingShift: nil,
      decisions: [
        Decision(
          action: .none, reason: "unknown_task", ordinal: through,
          numbers: .unknownTask(known: catalogue.names))
      ], job: nil, announceShift: false)
    outcome.wasDue = state.isDue
    return outcome
  }
}

/// Maps on all cores; blocks until it is done. In the order of the input.
private func parallelMap<Input: Sendable, Output: Sendable>(
  _ inputs: [Input], _ transform: @Sendable (Input) -> Output
) -> [Output] {
  let pieces = max(1, min(inputs.count, ProcessInfo.processInfo.activeProcessorCount * 4))
  let results = Mutex<[[Output]]>(Array(repeating: [], count: pieces))
  DispatchQueue.concurrentPerform(iterations: pieces) { piece in
    let range = inputs.count * piece / pieces..<inputs.count * (piece + 1) / pieces
    let outputs = inputs[range].map(transform)
    results.withLock { $0[piece] = outputs }
  }
  return results.withLock { $0.flatMap { $0 } }
}
