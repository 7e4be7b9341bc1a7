// What comes first in the report: which arm won where, in words, in one plot and in one table.

import Foundation

extension HTMLReport {
  var summary: Markup {
    guard !findings.isEmpty else { return "<p class=\"lead\">There are no results.</p>\n" }
    if findings.allSatisfy(\.isStreamingOnly) { return streamingSummary }
    if findings.count == 1 {
      return """
        <section class="summary">
        <p class="lead">\(headline)</p>
        <p>\(findings[0].words)</p>
        \(legend)
        </section>

        """
    }
    let items = findings.enumerated().map { index, task -> Markup in
      let outcome = task.claim?.outcome ?? .unknown
      return """
        <li class="\(outcome.style)"><span class="outcome">\(outcome.sign) \(outcome.tag)</span>
        <a href="#task-\(index + 1)">\(task.results.task)</a>
        <span>\(task.isBaselineUnbeaten ? task.words : task.sentence)</span></li>

        """
    }
    let forest = forestFigure?.markup ?? ""
    return """
      <section class="summary">
      <p class="lead">\(headline)</p>
      <div class="split">
      <ul class="outcomes">
      \(items)</ul>
      \(forest)</div>
      <h2>All tasks</h2>
      \(summaryTable.markup(label: "All tasks"))
      \(legend)
      </section>

      """
  }

  /// The claim over all tasks, counted.
  var headline: String {
    let outcomes = findings.map { $0.claim?.outcome ?? .unknown }
    func count(_ outcome: Advantage.Outcome) -> Int { outcomes.filter { $0 == outcome }.count }
    let (better, worse) = (count(.better), count(.worse))
    let (undecided, unknown) = (count(.undecided), count(.unknown))
    let opponent = "the best prompt-based arm"
    if findings.count == 1 {
      switch outcomes[0] {
      case .better: return "A user’s own adapter beats \(opponent)."
      case .worse: return "A user’s own adapter does worse than \(opponent)."
      case .undecided: return "A user’s own adapter and \(opponent) cannot be told apart."
      case .unknown: return "Nothing can be said yet about a user’s own adapter."
      }
    }
    if unknown == findings.count {
      return "Nothing can be said yet about a user’s own adapter on any of \(unknown) tasks."
    }
    var sentences: [String] = []
    sentences.append(
      better == findings.count
        ? "A user’s own adapter (OPPU) beats \(opponent) on all \(better) tasks."
        : better == 0
          ? "A user’s own adapter (OPPU) certainly beats \(opponent) on none of "
            + "\(findings.count) tasks."
          : "A user’s own adapter (OPPU) beats \(opponent) on \(better) of "
            + "\(findings.count) tasks.")
    if undecided > 0 { sentences.append("On \(undecided) the data cannot tell them apart.") }
    if unknown > 0 { sentences.append("About \(unknown) nothing can be said.") }
    if worse > 0 {
      sentences.append("On \(worse) it does worse.")
    } else if better < findings.count {
      sentences.append("On none is it certainly worse.")
    }
    return sentences.joined(separator: " ")
  }

  /// OPPU's best variant minus the best prompt-based arm, over the tasks, a panel per metric.
  var forestFigure: Figure? {
    struct Entry {
      var task: Findings
      var metric: MetricInfo
      var claim: Advantage
      var personal: ArmInfo
      var prompt: ArmInfo
    }
    let entries = findings.compactMap { task -> Entry? in
      guard let metric = task.metric, let claim = task.claim, claim.value != nil,
        let personal = task.bestPersonal, let prompt = task.bestPrompt
      else { return nil }
      return Entry(task: task, metric: metric, claim: claim, personal: personal, prompt: prompt)
    }
    guard !entries.isEmpty else { return nil }
    var metrics: [MetricInfo] = []
    for entry in entries where !metrics.contains(entry.metric) { metrics.append(entry.metric) }
    let panels = metrics.map { metric in
      let rows = entries.filter { $0.metric == metric }.map { entry in
        DotPlot.Row(
          label: entry.task.results.task,
          detail: "\(entry.personal.title) vs \(entry.prompt.title)",
          estimate: entry.claim.estimate,
          text: NumberText.signed(entry.claim.value, decimals: entry.task.decimals(metric)),
          mark: Mark(
            colour: "red", shape: .square, isOpen: entry.claim.outcome != .better),
          isStrong: entry.claim.outcome == .better)
      }
      let name = MetricText.title(metric.name)
      return DotPlot.Panel(
        axis: metric.higherIsBetter
          ? "\(name): OPPU minus prompt, right is better"
          : "\(name): prompt minus OPPU, right is better",
        groups: [.init(rows: rows)], isDifference: true)
    }
    let better = entries.filter { $0.claim.outcome == .better }.count
    let title =
      "The interval lies right of zero on \(better) of "
      + NumberText.count(entries.count, "task", "tasks")
    return Figure(
      id: "forest", title: title,
      description: "OPPU's best variant against the best prompt-based arm, a row per task, turned "
        + "so that right is better, with paired 95 % intervals; filled marks where the interval "
        + "excludes zero. "
        + panels.flatMap(\.groups).flatMap(\.rows).map { "\($0.label): \($0.tip)" }
        .joined(separator: "; ") + ".",
      table: HTMLTable(
        headers: [
          .text("Task"), .text("OPPU"), .text("Prompt-based"), .text("Metric"),
          .number("Better by"), .number("95 % interval"),
        ],
        rows: entries.map { entry in
          let decimals = entry.task.decimals(entry.metric)
          return [
            .text(entry.task.results.task), .text(entry.personal.title), .text(entry.prompt.title),
            .text(MetricText.title(entry.metric.name)),
            .number(NumberText.signed(entry.claim.value, decimals: decimals)),
            .number(
              Findings.range(entry.claim.estimate, decimals: decimals, isSigned: true)),
          ]
        }), drawing: DotPlot(panels: panels).drawing, wideWidth: 560,
      note: better == entries.count ? "" : "Filled marks: the interval excludes zero.")
  }

  private var summaryTable: HTMLTable {
    let hasBaseline = findings.contains { $0.bestBaseline != nil }
    func cell(_ task: Findings, _ arm: ArmInfo?) -> HTMLTable.Cell {
      guard let metric = task.metric, let arm else { return .text("–") }
      let value = NumberText.plain(task.value(arm, metric), decimals: task.decimals(metric))
      return HTMLTable.Cell(
        text: value, isStrong: task.best(in: metric).contains(arm.name), mark: Mark(arm.family),
        detail: arm.title)
    }
    return HTMLTable(
      headers: [.text("Task")] + (hasBaseline ? [.text("Best without a model")] : [])
        + [
          .text("Best prompt-based"), .text("Best OPPU"), .text("OPPU better by"),
          .text("So it is"), .text("Queries"),
        ],
      rows: findings.map { task in
        let decimals = task.metric.map(task.decimals) ?? 3
        let metric =
          task.metric.map {
            MetricText.title($0.name) + ($0.higherIsBetter ? "" : ", lower is better")
          }
          ?? "–"
        let difference = NumberText.signed(task.claim?.value, decimals: decimals)
        let range =
          task.claim.map { Findings.range($0.estimate, decimals: decimals, isSigned: true) } ?? ""
        return [.init(text: task.results.task, detail: metric)]
          + (hasBaseline ? [cell(task, task.bestBaseline)] : [])
          + [
            cell(task, task.bestPrompt), cell(task, task.bestPersonal),
            .init(text: difference, detail: range),
            .text((task.claim?.outcome ?? .unknown).words),
            .init(
              text: NumberText.count(task.queries),
              detail: "of " + NumberText.count(task.results.users.done.count, "user", "users")),
          ]
      })
  }

  /// What the marks of the arms mean.
  private var legend: Markup {
    let families: [(ArmInfo.Family, String)] = [
      (.baseline, "no model"), (.prompt, "prompt only"), (.task, "task adapter"),
      (.oppu, "the user’s own adapter"),
    ]
    let present = Set(findings.flatMap(\.arms).map(\.family))
    let items = families.filter { present.contains($0.0) }.map { family, words -> Markup in
      "<li>\(HTMLTable.key(Mark(family)))\(words)</li>"
    }
    return "<ul class=\"legend\">\(items)<li>bars are 95 % intervals</li></ul>"
  }
}

extension Advantage.Outcome {
  fileprivate var style: String {
    switch self {
    case .better: "is-better"
    case .worse: "is-worse"
    case .undecided, .unknown: "is-open"
    }
  }

  fileprivate var sign: String {
    switch self {
    case .better: "▲"
    case .worse: "▼"
    case .undecided: "◇"
    case .unknown: "–"
    }
  }

  fileprivate var tag: String {
    switch self {
    case .better: "better"
    case .worse: "worse"
    case .undecided: "not certain"
    case .unknown: "nothing can be said"
    }
  }
}
