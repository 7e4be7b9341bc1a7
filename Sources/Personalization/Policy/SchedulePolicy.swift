// When to train: a pure function from what is known of a stream to at most one training.

import Foundation

/// Why a training was asked for.
public enum TrainingReason: String, Sendable, Codable, CaseIterable {
  /// An operator asked for it.
  case `operator`
  /// The user's behaviour changed.
  case shift
  /// There are enough events, and no adapter was trained yet.
  case firstAdapter = "first_adapter"
  /// Many events since the last training.
  case newEvents = "new_events"
  /// Some events and much time since the last training.
  case age
}

/// An alarm that waits for enough events of the new behaviour.
public struct PendingShift: Sendable, Codable, Equatable {
  /// Of the likeliest first event of the new behaviour.
  public var changeOrdinal: Int64
  /// Of the newest event when the detector alarmed.
  public var alarmOrdinal: Int64
  /// By the clock of who looked.
  public var alarmedAt: Date

  public init(changeOrdinal: Int64, alarmOrdinal: Int64, alarmedAt: Date) {
    self.changeOrdinal = changeOrdinal
    self.alarmOrdinal = alarmOrdinal
    self.alarmedAt = alarmedAt
  }
}

/// What the policy knows of a stream. Ordinals count its events from 1.
public struct StreamFacts: Sendable, Equatable {
  /// The events seen up to this look: the ordinal of the newest.
  public var eventCount: Int64
  /// Newest event at the time of the last decision to train, whatever came of it; nil before the first.
  public var lastTrainOrdinal: Int64?
  /// When that decision was taken.
  public var lastTrainAt: Date?
  /// Whether a job of the stream is queued or running.
  public var hasOpenJob: Bool
  /// As the last look left it; nil where nothing waits.
  public var pendingShift: PendingShift?
  /// Ordinal of the first event of the new behaviour, where a detector alarmed at this look.
  public var alarmChange: Int64?
  /// By the clock that the other times are of.
  public var now: Date

  /// - Parameter now: by the clock that the other times are of.
  public init(
    eventCount: Int64, lastTrainOrdinal: Int64? = nil, lastTrainAt: Date? = nil,
    hasOpenJob: Bool = false, pendingShift: PendingShift? = nil, alarmChange: Int64? = nil,
    now: Date
  ) {
    self.eventCount = eventCount
    self.lastTrainOrdinal = lastTrainOrdinal
    self.lastTrainAt = lastTrainAt
    self.hasOpenJob = hasOpenJob
    self.pendingShift = pendingShift
    self.alarmChange = alarmChange
    self.now = now
  }
}

/// What follows from the facts.
public struct PolicyResult: Sendable, Equatable {
  /// One thing to be written down as a decision.
  public enum Step: Sendable, Equatable {
    /// A detector alarmed: the shift is trained on once there are enough events.
    case noticed(changeOrdinal: Int64)
    case train(TrainingReason, changeOrdinal: Int64?)
  }
  /// In the order in which they were decided.
  public var steps: [Step] = []
  /// The training that is due.
  public var training: TrainingReason?
  /// What waits from here on; nil: nothing.
  public var pendingShift: PendingShift?
  /// When something may follow from time alone.
  public var nextLook: Date?

  public init(pendingShift: PendingShift? = nil) { self.pendingShift = pendingShift }
}

/// The numbers that the policy goes by.
public struct ScheduleRules: Sendable, Equatable {
  /// Events before a stream's first adapter.
  public var firstAdapterEvents = 16
  /// Events since the last training that ask for the next one without a shift.
  public var newEvents = 32
  /// Events of the new behaviour that a shift waits for before training.
  public var shiftEvents = 10
  /// How long a shift waits for them at most.
  public var shiftPatience: Duration = .seconds(300)
  /// Hours after which an adapter is trained anew where there are `ageEvents` new events; 0: never.
  public var maximumAgeHours = 168
  /// Events since the last training that ``maximumAgeHours`` asks for.
  public var ageEvents = 8

  public init() {}
}

/// The rules, in order: a shift is trained on as soon as there are enough events after the change (or the user
/// has been quiet for long), a first adapter after enough events, a further one after enough new events, or
/// after long where there are at least a few. While a job of the stream is open nothing is enqueued; a shift
/// waits for it.
public struct SchedulePolicy: Sendable {
  public let rules: ScheduleRules

  public init(rules: ScheduleRules) { self.rules = rules }

  /// How soon a stream whose shift waits for an open job is looked at again.
  static let openJobPause: TimeInterval = 5

  /// What the facts call for: at most one training.
  public func decide(_ facts: StreamFacts) -> PolicyResult {
    var result = PolicyResult(pendingShift: facts.pendingShift)
    if let change = facts.alarmChange {
      // A newer alarm while one waits: the behaviour moved again, so the newer change counts.
      result.pendingShift = PendingShift(
        changeOrdinal: change, alarmOrdinal: facts.eventCount, alarmedAt: facts.now)
      result.steps.append(.noticed(changeOrdinal: change))
    }
    guard !facts.hasOpenJob else {
      if result.pendingShift != nil {
        result.nextLook = facts.now.addingTimeInterval(Self.openJobPause)
      }
      return result
    }
    guard let lastTrain = facts.lastTrainOrdinal else {
      if facts.eventCount >= Int64(rules.firstAdapterEvents) {
        result.train(.firstAdapter, changeOrdinal: result.pendingShift?.changeOrdinal)
      }
      return result
    }
    let fresh = facts.eventCount - lastTrain
    if let pending = result.pendingShift {
      let after = facts.eventCount - pending.changeOrdinal + 1
      let patienceEnds = pending.alarmedAt.addingTimeInterval(rules.shiftPatience / .seconds(1))
      if after >= Int64(rules.shiftEvents) || facts.now >= patienceEnds {
        result.train(.shift, changeOrdinal: pending.changeOrdinal)
      } else {
        result.nextLook = patienceEnds
      }
    } else if fresh >= Int64(rules.newEvents) {
      result.train(.newEvents, changeOrdinal: nil)
    } else if rules.maximumAgeHours > 0, fresh >= Int64(rules.ageEvents),
      let trainedAt = facts.lastTrainAt
    {
      let tooOld = trainedAt.addingTimeInterval(Double(rules.maximumAgeHours) * 3_600)
      if facts.now >= tooOld {
        result.train(.age, changeOrdinal: nil)
      } else {
        result.nextLook = tooOld
      }
    }
    return result
  }
}

extension PolicyResult {
  fileprivate mutating func train(_ reason: TrainingReason, changeOrdinal: Int64?) {
    steps.append(.train(reason, changeOrdinal: changeOrdinal))
    training = reason
    pendingShift = nil
    nextLook = nil
  }
}
