// When to train: a pure function from what is known of a stream to decisions and at most one job.

import Foundation
import Storage

/// What the policy knows of a stream.
struct StreamFacts: Sendable, Equatable {
  var eventCount: Int64
  /// Newest event at the time of the last decision to train, whatever came of it; nil before the first.
  var lastTrainOrdinal: Int64?
  /// When that decision was taken.
  var lastTrainAt: Date?
  var hasOpenJob: Bool
  var pendingShift: PendingShift?
  /// Ordinal of the first event of the new behaviour, where a detector alarmed at this look.
  var alarmChange: Int64?
  var now: Date
}

/// What follows from the facts.
struct PolicyResult: Sendable, Equatable {
  struct Step: Sendable, Equatable {
    var action: Decision.Action
    var reason: String
    var changeOrdinal: Int64?
  }
  var steps: [Step] = []
  var job: JobReason?
  var pendingShift: PendingShift?
  /// When something may follow from time alone.
  var nextLook: Date?
}

/// The rules, in order: a shift is trained on as soon as there are enough events after the change (or the user
/// has been quiet for long), a first adapter after enough events, a further one after enough new events, or
/// after long where there are at least a few. While a job of the stream is open nothing is enqueued; a shift
/// waits for it.
struct SchedulePolicy: Sendable {
  let settings: WorkerConfiguration.Schedule

  /// How soon a stream whose shift waits for an open job is looked at again.
  static let openJobPause: TimeInterval = 5

  func decide(_ facts: StreamFacts) -> PolicyResult {
    var result = PolicyResult(pendingShift: facts.pendingShift)
    if let change = facts.alarmChange {
      // A newer alarm while one waits: the behaviour moved again, so the newer change counts.
      result.pendingShift = PendingShift(
        changeOrdinal: change, alarmOrdinal: facts.eventCount, alarmedAt: facts.now)
      result.steps.append(.init(action: .wait, reason: "shift_detected", changeOrdinal: change))
    }
    guard !facts.hasOpenJob else {
      if result.pendingShift != nil {
        result.nextLook = facts.now.addingTimeInterval(Self.openJobPause)
      }
      return result
    }
    guard let lastTrain = facts.lastTrainOrdinal else {
      if facts.eventCount >= Int64(settings.firstAdapterEvents) {
        result.train(.firstAdapter, changeOrdinal: result.pendingShift?.changeOrdinal)
      }
      return result
    }
    let fresh = facts.eventCount - lastTrain
    if let pending = result.pendingShift {
      let after = facts.eventCount - pending.changeOrdinal + 1
      let patienceEnds = pending.alarmedAt.addingTimeInterval(settings.shiftPatience.seconds)
      if after >= Int64(settings.shiftEvents) || facts.now >= patienceEnds {
        result.train(.shift, changeOrdinal: pending.changeOrdinal)
      } else {
        result.nextLook = patienceEnds
      }
    } else if fresh >= Int64(settings.newEvents) {
      result.train(.newEvents, changeOrdinal: nil)
    } else if settings.maximumAgeHours > 0, fresh >= Int64(settings.ageEvents),
      let trainedAt = facts.lastTrainAt
    {
      let tooOld = trainedAt.addingTimeInterval(Double(settings.maximumAgeHours) * 3_600)
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
  fileprivate mutating func train(_ reason: JobReason, changeOrdinal: Int64?) {
    steps.append(.init(action: .train, reason: reason.rawValue, changeOrdinal: changeOrdinal))
    job = reason
    pendingShift = nil
    nextLook = nil
  }
}

extension Duration {
  /// Seconds, with fractions.
  var seconds: Double {
    let (seconds, attoseconds) = components
    return Double(seconds) + Double(attoseconds) * 1e-18
  }
}
