// One decision of the scheduler in words, and a user's stream as lines in the terminal.

import Foundation
import JSON
import Personalization
import ShiftDetection
import Storage

enum DecisionStory {
  /// What was decided and why, a sentence or two.
  static func sentences(_ decision: DecisionRecord) -> String {
    switch decision.numbers {
    case .schedule(let numbers): schedule(decision, numbers)
    case .operator(_, let note): "An operator asked for a training: \(note)."
    case .trial(let lost): rollback(lost)
    case .unknownTask:
      "No task file declares the task \(decision.task) any more; its events are kept, unwatched."
    }
  }

  private static func schedule(_ decision: DecisionRecord, _ numbers: ScheduleNumbers) -> String {
    let news = numbers.events - (numbers.lastTrainedAt ?? 0)
    switch decision.reason {
    case "shift_detected":
      let change = decision.changeOrdinal.map { "\($0)" } ?? "an unknown one"
      return
        "A detector alarmed at event \(decision.ordinal): the behaviour changed at about event "
        + "\(change). Training waits for \(numbers.shiftEvents) events of the new behaviour."
    case TrainingReason.firstAdapter.rawValue:
      return
        "The stream had \(numbers.events) events, at least \(numbers.firstAdapterEvents) are asked for, and no "
        + "training yet: the first adapter was asked for."
    case TrainingReason.shift.rawValue:
      let change = decision.changeOrdinal ?? 0
      return
        "The behaviour changed at about event \(change), and \(max(0, numbers.events - change + 1)) events came "
        + "since (\(numbers.shiftEvents) are asked for, or \(Int(numbers.shiftPatience)) s of patience): "
        + "a training on the new behaviour was asked for."
    case TrainingReason.newEvents.rawValue:
      return
        "\(news) events came since the last training, at least \(numbers.newEvents) are asked for: a further "
        + "training was asked for."
    case TrainingReason.age.rawValue:
      let hours = numbers.hoursSinceTraining.map { JSONValue.text(of: $0) } ?? "?"
      return
        "The last training was \(hours) hours ago, more than \(numbers.maximumAgeHours), and \(news) events came "
        + "since: a further training was asked for."
    default: return "\(decision.action): \(decision.reason)."
    }
  }

  private static func rollback(_ lost: LostTrial) -> String {
    let bound = lost.trial.lowerBound.map { String(format: "%.3f", $0) } ?? "?"
    let before = lost.trial.against.map { "version \($0)" } ?? "the model without an adapter"
    return
      "On \(lost.trial.events) events since its promotion version \(Show.optional(lost.version)) had a mean loss "
      + "of \(Show.loss(lost.meanLoss)), \(before) would have had \(Show.loss(lost.meanLossBefore)); the "
      + "difference is at least \(bound) beyond doubt. It was rolled back."
  }

  /// A signal with its statistic and threshold.
  static func signal(_ signal: Signal) -> String {
    var text = "\(signal.isAlarm ? "ALARM" : "no alarm"), \(signal.explanation)"
    let numbers: [(String, Double?)] = [
      ("arl0", signal.arl0), ("change_index", signal.changeIndex.map(Double.init)),
      ("observations", Double(signal.observations)), ("rarity", signal.rarity),
      ("statistic", signal.statistic), ("threshold", signal.threshold),
    ]
    for case (let name, let value?) in numbers {
      text += "; \(name) \(String(format: "%.4g", value))"
    }
    return text
  }

  /// A stream from its first to its newest event: where the behaviour changed, what was trained, and which
  /// version answered.
  static func timeline(
    events: Int64, decisions: [DecisionRecord], adapters: [AdapterRecord], marked: Int64? = nil,
    width: Int = 72
  ) -> [String] {
    guard events > 0 else { return [] }
    let columns = Int(min(Int64(width), events))
    func column(_ ordinal: Int64) -> Int {
      Int((min(max(ordinal, 1), events) - 1) * Int64(columns) / events)
    }
    var changes = [Character](repeating: "·", count: columns)
    var trainings = changes
    var versions = changes
    for decision in decisions {
      switch decision.action {
      case "train": trainings[column(decision.ordinal)] = decision.reason == "shift" ? "S" : "T"
      case "rollback": trainings[column(decision.ordinal)] = "R"
      default: break
      }
      if decision.reason == "shift_detected" {
        changes[column(decision.ordinal)] = "!"
        if let change = decision.changeOrdinal { changes[column(change)] = "▲" }
      }
    }
    // Which version answered from where on: promotions, then what rollbacks took back.
    var steps = adapters.compactMap { adapter in
      adapter.promotedAfter.map { (at: $0, order: 0, version: Int?.some(adapter.version)) }
    }
    for decision in decisions {
      guard case .trial(let lost) = decision.numbers else { continue }
      steps.append((at: decision.ordinal, order: 1, version: lost.trial.against))
    }
    for step in steps.sorted(by: { ($0.at, $0.order) < ($1.at, $1.order) }) {
      let mark = step.version.map { Character(String($0 % 10)) } ?? "·"
      for index in min(column(step.at + 1), columns - 1)..<columns { versions[index] = mark }
    }
    var lines = [
      "event     1" + String(repeating: " ", count: max(1, columns - 1 - "\(events)".count))
        + "\(events)",
      "change    " + String(changes) + "  ▲ began, ! noticed",
      "trained   " + String(trainings) + "  T, S for a shift, R rolled back",
      "version   " + String(versions) + "  last digit; · none",
    ]
    if let marked {
      lines.append("          " + String(repeating: " ", count: column(marked)) + "^ this decision")
    }
    return lines
  }
}
