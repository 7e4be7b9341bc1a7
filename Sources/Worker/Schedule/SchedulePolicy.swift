// When to train: a pure function from what is known of a stream to decisions and at most one job.

import Foundation
import Storage

/// What the policy knows of a stream.
struct StreamFacts: Sendable, Equatable {
  var eventCount: Int64
  /// Newest event at the time of the last decision to train, whatever came of it; nil before the first.
  var lastTrainOrdinal: Int64?
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
}

/// The rules, in order: a shift is trained on as soon as there are enough events after the change (or the user
/// has been quiet for long), a first adapter after enough events, a further one after enough new events. While
/// a job of the stream is open nothing is enqueued; a shift waits for it.
struct SchedulePolicy: Sendable {
  let settings: WorkerConfiguration.Schedule

  func decide(_ facts: StreamFacts) -> PolicyResult {
    var result = PolicyResult(pendingShift: facts.pendingShift)
    if let change = facts.alarmChange {
      // A newer alarm while one waits: the behaviour moved again, so the newer change counts.
      result.pendingShift = PendingShift(
        changeOrdinal: change, alarmOrdinal: facts.eventCount, alarmedAt: facts.now)
      result.steps.append(.init(action: .wait, reason: "shift_detected", changeOrdinal: change))
    }
    guard !facts.hasOpenJob else { return result }
    let enoughForFirst = facts.eventCount >= Int64(settings.firstAdapterEvents)
    guard let lastTrain = facts.lastTrainOrdinal else {
      if enoughForFirst {
        result.train(.firstAdapter, changeOrdinal: result.pendingShift?.changeOrdinal)
      }
      return result
    }
    if let pending = result.pendingShift {
      let after = facts.eventCount - pending.changeOrdinal + 1
      let waited = facts.now.timeIntervalSince(pending.alarmedAt)
      if after >= Int64(settings.shiftEvents) || waited >= settings.shiftPatience.seconds {
        result.train(.shift, changeOrdinal: pending.changeOrdinal)
      }
    } else if facts.eventCount - lastTrain >= Int64(settings.newEvents) {
      result.train(.newEvents, changeOrdinal: nil)
    }
    return result
  }
}

extension PolicyResult {
  fileprivate mutating func train(_ reason: JobReason, changeOrdinal: Int64?) {
    steps.append(.init(action: .train, reason: reason.rawValue, changeOrdinal: changeOrdinal))
    job = reason
    pendingShift = nil
  }
}

extension Duration {
  /// Seconds, with fractions.
  var seconds: Double {
    let (seconds, attoseconds) = components
    return Double(seconds) + Double(attoseconds) * 1e-18
  }
}
