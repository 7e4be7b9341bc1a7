// When a stream's adapter is trained: the policies that a streaming study compares, event by event.

import Foundation
import OPPU
import Personalization
import ShiftDetection

/// When to train on a stream.
public enum StreamingPolicy: String, Codable, Sendable, CaseIterable {
  /// At no event: the task's adapter, or the base model, to the end.
  case never
  /// Every so many events, whatever they are.
  case scheduled
  /// As the worker's scheduler: a first adapter, then on every shift, and after many new events.
  case onShift = "on_shift"
  /// At every event: what training can reach, whatever it costs.
  case oracle

  /// As on a command line: `never`, `scheduled`, `shift`, `oracle`.
  /// - Throws: ``UnknownPolicyError``.
  public init(named name: String) throws {
    guard let policy = Self.allCases.first(where: { $0.argument == name || $0.rawValue == name })
    else { throw UnknownPolicyError(name: name) }
    self = policy
  }

  /// The name on a command line.
  public var argument: String { self == .onShift ? "shift" : rawValue }

  /// For people.
  public var title: String {
    switch self {
    case .never: "never trained"
    case .scheduled: "on schedule"
    case .onShift: "on shift"
    case .oracle: "at every event"
    }
  }
}

/// There is no policy of that name.
public struct UnknownPolicyError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let name: String

  public var description: String {
    "there is no policy \"\(name)\"; there are "
      + StreamingPolicy.allCases.map(\.argument).joined(separator: ", ")
  }
  public var errorDescription: String? { description }
}

/// The numbers that policies go by, in events.
public struct StreamingRules: Codable, Sendable, Hashable {
  /// Events between two trainings of `scheduled`.
  public var every: Int
  /// Events before the first adapter of `onShift`.
  public var firstAdapterEvents: Int
  /// Events since the last training that ask `onShift` for the next one without a shift.
  public var newEvents: Int
  /// Events of the new behaviour that a shift waits for.
  public var shiftEvents: Int
  /// Mean number of events between false alarms of a user who does not change.
  public var falseAlarmEvents: Int

  /// Numbers that are too small are raised: to 1, and `falseAlarmEvents` to 20.
  public init(
    every: Int, firstAdapterEvents: Int, newEvents: Int, shiftEvents: Int, falseAlarmEvents: Int
  ) {
    self.every = max(1, every)
    self.firstAdapterEvents = max(1, firstAdapterEvents)
    self.newEvents = max(1, newEvents)
    self.shiftEvents = max(1, shiftEvents)
    self.falseAlarmEvents = max(20, falseAlarmEvents)
  }

  /// The worker's, without what it decides by the clock.
  var ofShifts: ScheduleRules {
    var rules = ScheduleRules()
    rules.firstAdapterEvents = firstAdapterEvents
    rules.newEvents = newEvents
    rules.shiftEvents = shiftEvents
    rules.maximumAgeHours = 0
    return rules
  }

  /// What a policy depends on.
  func numbers(of policy: StreamingPolicy) -> [Int] {
    switch policy {
    case .never, .oracle: []
    case .scheduled: [every]
    case .onShift: [firstAdapterEvents, newEvents, shiftEvents, falseAlarmEvents]
    }
  }
}

/// One policy on one stream: shown every event after it was predicted, it says when to train.
///
/// `onShift` is the worker's policy on the worker's monitor. What the worker decides by the clock (the
/// patience of a shift, the age of an adapter) is left out: a study has no waiting.
public struct StreamingSchedule: Sendable {
  /// Why there is a training.
  public enum Reason: String, Codable, Sendable {
    case schedule
    case everyEvent = "every_event"
    case firstAdapter = "first_adapter"
    case shift
    case newEvents = "new_events"

    /// The worker's. What it decides by the clock, or an operator, does not occur in a study.
    init(_ reason: TrainingReason) {
      switch reason {
      case .firstAdapter: self = .firstAdapter
      case .shift: self = .shift
      case .newEvents: self = .newEvents
      case .age, .operator: self = .schedule
      }
    }
  }

  /// A training that is due.
  public struct Training: Sendable, Hashable {
    public let reason: Reason
    /// The position of the first event of the behaviour that is to be learnt.
    public let changedAt: Int?
  }

  /// A shift that the monitor reported.
  public struct Alarm: Codable, Sendable, Hashable {
    /// The position of the event at which it was reported.
    public let at: Int
    /// The position of the likeliest first event of the new behaviour.
    public let changedAt: Int
  }

  public let policy: StreamingPolicy
  public let rules: StreamingRules
  /// All so far; of `onShift` alone.
  public private(set) var alarms: [Alarm] = []
  private let shiftPolicy: SchedulePolicy
  private var monitor: ShiftMonitor
  private var facts = StreamFacts(eventCount: 0, now: .distantPast)
  private var lastChange: Int?

  private var events: Int { Int(facts.eventCount) }

  /// - Parameter signals: what is watched for a shift.
  public init(
    policy: StreamingPolicy, rules: StreamingRules,
    signals: Set<SignalKind> = Set(SignalKind.allCases)
  ) {
    self.policy = policy
    self.rules = rules
    shiftPolicy = SchedulePolicy(rules: rules.ofShifts)
    monitor = ShiftMonitor(
      configuration: .init(arl0: Double(rules.falseAlarmEvents), signals: signals))
  }

  /// Whether the adapter's loss on every event is wanted.
  public var wantsLoss: Bool {
    policy == .onShift && monitor.configuration.signals.contains(.loss)
  }

  /// Takes the next event; returns the training that is due now.
  public mutating func observe(_ observation: Observation) -> Training? {
    facts.eventCount += 1
    switch policy {
    case .never: return nil
    case .scheduled:
      return events.isMultiple(of: rules.every) ? train(.schedule, changedAt: nil) : nil
    case .oracle: return train(.everyEvent, changedAt: nil)
    case .onShift: return onShift(observation)
    }
  }

  private mutating func onShift(_ observation: Observation) -> Training? {
    let change = monitor.watch(observation).change
    if let change { alarms.append(Alarm(at: events - 1, changedAt: max(0, change))) }
    facts.alarmChange = change.map { Int64(max(0, $0) + 1) }
    let result = shiftPolicy.decide(facts)
    facts.pendingShift = result.pendingShift
    guard case .train(let reason, let ordinal)? = result.steps.last else { return nil }
    return train(Reason(reason), changedAt: ordinal.map { Int($0) - 1 })
  }

  /// What was learnt since the last change stays the ground for later trainings.
  private mutating func train(_ reason: Reason, changedAt: Int?) -> Training {
    lastChange = changedAt ?? lastChange
    facts.lastTrainOrdinal = facts.eventCount
    // Losses under the old adapter say nothing of the new one.
    monitor.reset(after: .newAdapter)
    return Training(reason: reason, changedAt: lastChange)
  }
}
