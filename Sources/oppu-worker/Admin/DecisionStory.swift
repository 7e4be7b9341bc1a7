// One decision of the scheduler in words, and a user's stream as lines in the terminal.

import Foundation
import JSON
import Personalization
import Storage

enum DecisionStory {
  /// What was decided and why, a sentence or two.
  static func sentences(_ decision: DecisionRecord) -> String {
    let numbers = decision.numbers
    func count(_ key: String) -> Int { Int(numbers[key]?.number ?? 0) }
    let events = count("events")
    switch (decision.action, decision.reason) {
    case (_, "shift_detected"):
      let change = decision.changeOrdinal.map { "\($0)" } ?? "an unknown one"
      return
        "A detector alarmed at event \(decision.ordinal): the behaviour changed at about event "
        + "\(change). Training waits for \(count("shift_events")) events of the new behaviour."
    case ("train", "first_adapter"):
      return
        "The stream had \(events) events, at least \(count("first_adapter_events")) are asked for, and no "
        + "training yet: the first adapter was asked for."
    case ("train", "shift"):
      let change = decision.changeOrdinal ?? 0
      return
        "The behaviour changed at about event \(change), and \(max(0, Int64(events) - change + 1)) events came "
        + "since (\(count("shift_events")) are asked for, or \(count("shift_patience_s")) s of patience): "
        + "a training on the new behaviour was asked for."
    case ("train", "new_events"):
      return
        "\(events - count("last_trained_at")) events came since the last training, at least "
        + "\(count("new_events")) are asked for: a further training was asked for."
    case ("train", "age"):
      let hours = numbers["hours_since_training"]?.plainText ?? "?"
      return
        "The last training was \(hours) hours ago, more than \(count("maximum_age_hours")), and "
        + "\(events - count("last_trained_at")) events came since: a further training was asked for."
    case ("train", "operator"):
      return "An operator asked for a training: \(numbers["note"]?.string ?? "no reason given")."
    case ("rollback", _):
      let bound = numbers["lower_bound"]?.number.map { String(format: "%.3f", $0) } ?? "?"
      let before =
        numbers["against"]?.number.map { "version \(Int($0))" } ?? "the model without an adapter"
      return
        "On \(count("events")) events since its promotion version \(count("version")) had a mean loss of "
        + "\(Show.loss(numbers["mean_loss"]?.number)), \(before) would have had "
        + "\(Show.loss(numbers["mean_loss_before"]?.number)); the difference is at least \(bound) beyond "
        + "doubt. It was rolled back."
    case (_, "unknown_task"):
      return
        "No task file declares the task \(decision.task) any more; its events are kept, unwatched."
    default: return "\(decision.action): \(decision.reason)."
    }
  }

  /// A signal with its statistic and threshold.
  static func signal(_ signal: JSONValue) -> String {
    let verdict = signal["is_alarm"]?.bool == true ? "ALARM" : "no alarm"
    let known: Set = ["kind", "feature", "is_alarm", "before", "after", "explanation"]
    var text = "\(verdict), \(signal["explanation"]?.string ?? signal["feature"]?.string ?? "?")"
    let rest = (signal.object ?? [:]).filter { !known.contains($0.key) && $0.value != .null }
    for (key, value) in rest.sorted(by: { $0.key < $1.key }) {
      text += "; \(key) \(value.number.map { String(format: "%.4g", $0) } ?? value.canonical)"
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
    for decision in decisions where decision.action == "rollback" {
      let back = decision.numbers["against"]?.number.map { Int($0) }
      steps.append((at: decision.ordinal, order: 1, version: back))
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
