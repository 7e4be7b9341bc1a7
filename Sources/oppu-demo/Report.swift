// The tables at the end of a run.

import Foundation

struct Report {
  let evidence: TourFindings
  let console: Console

  func print() {
    events()
    if evidence.scenario.hasTruth { plantedShifts() } else { foundShifts() }
    adapters()
    answers()
    claims()
    summary()
  }

  private func show(_ title: String, _ table: Table) {
    console.heading(title)
    console.say(table.rows.isEmpty ? "none" : table.text(width: console.width))
  }

  private func events() {
    var table = Table(
      titles: ["task", "kind", "played", "stored", "repeated", "dead letters"],
      numeric: ["played", "stored", "repeated", "dead letters"])
    let played = Dictionary(grouping: evidence.scenario.events, by: \.stream.task)
    let dead = Dictionary(grouping: evidence.deadLetters) { $0.task ?? "" }
    let repeated = evidence.repeated
    for (task, events) in played.sorted(by: { $0.key < $1.key }) {
      table.rows.append([
        task, evidence.catalogue[task]?.kind.rawValue ?? "", "\(events.count)",
        "\(evidence.stored[task]?.rows ?? 0)", "\(repeated[task] ?? 0)",
        "\(dead[task]?.count ?? 0)",
      ])
    }
    let progress = evidence.progress
    table.rows.append([
      "all", "", "\(evidence.scenario.events.count)", "\(progress.stored)",
      "\(progress.duplicates)", "\(progress.deadLetters)",
    ])
    show("Events in", table)
    for (reason, letters) in Dictionary(grouping: evidence.deadLetters, by: \.reason) {
      console.say("dead letters, \(letters.count): \(reason)")
    }
  }

  private func plantedShifts() {
    var table = Table(
      titles: ["user", "task", "what changes", "planted at", "noticed at", "dated to", "signals"],
      numeric: ["planted at", "noticed at", "dated to"])
    for planted in evidence.scenario.shifts {
      let found = evidence.found(planted)
      table.rows.append([
        planted.stream.user, planted.stream.task, planted.description, "\(planted.ordinal)",
        found.map { "\($0.ordinal) (+\($0.ordinal - planted.ordinal))" } ?? "not found",
        found?.changeOrdinal.map(String.init) ?? "",
        found?.signals.joined(separator: "; ") ?? "",
      ])
    }
    let falseAlarms = evidence.falseAlarms
    for (stream, description) in evidence.scenario.steady.sorted(by: { $0.key < $1.key }) {
      let alarms = falseAlarms.filter { $0.stream == stream }
      table.rows.append([
        stream.user, stream.task, description, "–",
        alarms.isEmpty
          ? "no alarm" : "false: " + alarms.map { "\($0.ordinal)" }.joined(separator: ", "),
        "", alarms.flatMap(\.signals).joined(separator: "; "),
      ])
    }
    show("Shifts planted and found (events are counted within a user's stream)", table)
    for alarm in falseAlarms where evidence.scenario.steady[alarm.stream] == nil {
      console.say("false alarm of \(alarm.stream) at event \(alarm.ordinal), before its shift")
    }
  }

  private func foundShifts() {
    var table = Table(
      titles: ["user", "task", "noticed at", "dated to", "signals"],
      numeric: ["noticed at", "dated to"])
    for found in evidence.shifts {
      table.rows.append([
        found.stream.user, found.stream.task, "\(found.ordinal)",
        found.changeOrdinal.map(String.init) ?? "", found.signals.joined(separator: "; "),
      ])
    }
    show("Shifts found (events are counted within a user's stream)", table)
  }

  private func adapters() {
    let numeric: Set = ["version", "examples", "held out", "parent's loss", "its own loss"]
    var table = Table(
      titles: [
        "user", "task", "version", "trained for", "examples", "held out", "parent's loss",
        "its own loss", "verdict",
      ], numeric: numeric)
    for adapter in evidence.adapters {
      table.rows.append([
        adapter.stream.user, adapter.stream.task, "\(adapter.version)",
        adapter.reason.replacing("_", with: " "), adapter.examples.map(String.init) ?? "",
        adapter.heldOut.map(String.init) ?? "", Self.loss(adapter.parentLoss),
        Self.loss(adapter.candidateLoss),
        adapter.wasPromoted ? "promoted, \(adapter.state)" : adapter.state,
      ])
    }
    show("Adapter versions (loss per token on events held out; lower is better)", table)
  }

  private static func loss(_ value: Double?) -> String {
    value.map { String(format: "%.3f", $0) } ?? ""
  }

  private func answers() {
    var table = Table(titles: ["user", "task", "asked about", "before", "after", "the user's own"])
    for (index, question) in evidence.scenario.questions.enumerated() {
      table.rows.append([
        question.stream.user, question.stream.task, Self.excerpt(question),
        Self.words(evidence.before[index]), Self.words(evidence.after[index]),
        Self.expected(question),
      ])
    }
    show("The same request before and after (and which adapter version answered)", table)
  }

  private static func excerpt(_ question: TourQuestion) -> String {
    let fields = (question.input.object ?? [:]).sorted { $0.key < $1.key }
    return String(fields.compactMap(\.value.plainText).joined(separator: " | ").prefix(80))
  }

  private static func words(_ answer: TourAnswer?) -> String {
    guard let answer else { return "no reply" }
    let version = answer.adapterVersion.map { "v\($0)" } ?? "base"
    return answer.isOK ? "[\(version)] \(answer.output)" : "error \(answer.output)"
  }

  /// What the user would say now; with what they would have said before where that differs.
  private static func expected(_ question: TourQuestion) -> String {
    guard let after = question.expectedAfter else { return "" }
    guard let before = question.expectedBefore, before != after else { return after }
    return "\(before) → \(after)"
  }

  private func claims() {
    console.heading("What was to be seen")
    for claim in evidence.claims {
      console.say("\(claim.isMet ? "✓" : "✗") \(claim.name): \(claim.detail)")
    }
  }

  private func summary() {
    let scenario = evidence.scenario
    let changed = evidence.changedAnswers().count
    var text =
      "\(scenario.events.count) events of \(scenario.streams.count) streams in "
      + "\(evidence.elapsed.inWords): \(evidence.shifts.count) shifts noticed, "
      + "\(evidence.adapters.filter(\.wasPromoted).count) of \(evidence.adapters.count) adapter "
      + "versions promoted, \(changed) of \(scenario.questions.count) answers changed."
    if scenario.hasTruth {
      let old = evidence.matches(evidence.before) { $0.expectedBefore }
      let new = evidence.matches(evidence.after) { $0.expectedAfter }
      text +=
        " \(old.right) of \(old.of) answers before and \(new.right) of \(new.of) after were what "
        + "the user would have said then."
    } else {
      let old = evidence.matches(evidence.before) { $0.expectedAfter }
      let new = evidence.matches(evidence.after) { $0.expectedAfter }
      text +=
        " \(old.right) of \(old.of) answers before and \(new.right) of \(new.of) after were "
        + "exactly what the user said."
    }
    if let peak = evidence.peakMemory {
      text += " The worker held at most \(peak >> 20) MiB."
    }
    console.say()
    console.say(text)
  }
}
