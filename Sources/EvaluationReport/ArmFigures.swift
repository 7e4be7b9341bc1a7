// The plots of a task's arms: what each reached, differences, activity levels, shift.

import Foundation

extension Findings {
  /// What every arm reached in a metric.
  func armsFigure(_ metric: MetricInfo, id: String) -> Figure? {
    guard arms.contains(where: { value($0, metric) != nil }) else { return nil }
    let decimals = decimals(metric)
    let best = best(in: metric)
    let name = MetricText.inSentence(metric.name)
    let reference = bestPrompt.flatMap { arm in
      value(arm, metric).map { (value: $0, label: "best prompt-based: \(arm.title)") }
    }
    let rows = arms.map { arm in
      row(
        arm, estimate: estimate(arm, metric), decimals: decimals, isStrong: best.contains(arm.name))
    }
    let leader = arms.filter { best.contains($0.name) }.map(\.title)
    let title =
      switch leader.count {
      case 0: "What each arm reached: \(name)"
      case 1:
        "\(leader[0].capitalizedFirst) has the "
          + "\(metric.higherIsBetter ? "highest" : "lowest") \(name)"
      default:
        "\(leader.count) arms share the \(metric.higherIsBetter ? "highest" : "lowest") \(name)"
      }
    let plot = DotPlot(panels: [
      .init(axis: MetricText.axis(metric), groups: [.init(rows: rows)], reference: reference)
    ])
    return Figure(
      id: id, title: title,
      description: "One row per arm with its 95 % interval. " + describe(rows)
        + (reference.map { " A dashed line marks the \($0.label)." } ?? ""),
      table: table(metric), drawing: plot.drawing)
  }

  /// How far every arm is from the best prompt-based one.
  func differencesFigure(id: String) -> Figure? {
    guard let metric, let bestPrompt else { return nil }
    let decimals = decimals(metric)
    let others = arms.filter { $0.name != bestPrompt.name }
    let advantages = others.compactMap { arm in
      advantage(of: arm, over: bestPrompt, metric).map { (arm: arm, advantage: $0) }
    }
    guard !advantages.isEmpty else { return nil }
    // The reference has a row too, so that rows stand beside those of the other plots.
    let rows = arms.compactMap { arm -> DotPlot.Row? in
      if arm.name == bestPrompt.name {
        return DotPlot.Row(
          label: arm.title, estimate: IntervalEstimate(0), text: "0", mark: Mark(arm.family))
      }
      guard let advantage = advantages.first(where: { $0.arm.name == arm.name })?.advantage else {
        return nil
      }
      return DotPlot.Row(
        label: arm.title, estimate: advantage.estimate,
        text: NumberText.signed(advantage.value, decimals: decimals), mark: Mark(arm.family),
        isStrong: arm.name == bestPersonal?.name)
    }
    let ahead = advantages.filter { $0.advantage.outcome == .better }.count
    let title =
      advantages.allSatisfy { $0.advantage.outcome == .unknown }
      ? "How far each arm is from \(bestPrompt.title)"
      : ahead == 0
        ? "No arm is certainly better than \(bestPrompt.title)"
        : "\(ahead) of \(advantages.count) arms \(ahead == 1 ? "is" : "are") certainly better than \(bestPrompt.title)"
    let plot = DotPlot(panels: [
      .init(
        axis: "\(MetricText.title(metric.name)), difference: right is better",
        groups: [.init(rows: rows)], reference: (0, "best prompt-based: \(bestPrompt.title)"),
        isDifference: true)
    ])
    return Figure(
      id: id, title: title,
      description: "Differences to \(bestPrompt.title), the best prompt-based arm, turned so that "
        + "more is better, with paired 95 % intervals. " + describe(rows),
      table: HTMLTable(
        headers: [
          .text("Arm"), .number("Better by"), .number("95 % interval"), .text("So it is"),
        ],
        rows: advantages.map { arm, advantage in
          [
            .text(arm.title, mark: Mark(arm.family)),
            .number(NumberText.signed(advantage.value, decimals: decimals)),
            .number(Self.range(advantage.estimate, decimals: decimals, isSigned: true)),
            .text(advantage.outcome.words),
          ]
        }), drawing: plot.drawing)
  }

  /// The arms that matter, by how much history the users have.
  func activityFigure(id: String) -> Figure? {
    guard let metric, !results.activity.isEmpty else { return nil }
    let levels = results.activity
    let groups = levels.map { level in
      SliceGroup(
        title: "\(level.level.capitalizedFirst): \(Self.items(level)), "
          + "\(NumberText.count(level.users, "user", "users")), "
          + NumberText.count(level.n, "query", "queries"),
        short: level.level, arms: level.arms)
    }
    let compared = groups.compactMap { lead(in: $0.arms, metric) }
    let ahead = compared.filter { $0 > 0 }.count
    let title: String
    if let bestPersonal, let bestPrompt, !compared.isEmpty {
      title =
        "\(bestPersonal.title) stands above \(bestPrompt.title) at "
        + (ahead == compared.count && ahead > 1
          ? "every activity level"
          : ahead == 0 ? "no activity level" : "\(ahead) of \(compared.count) activity levels")
    } else {
      title = "By the length of the history"
    }
    return slicesFigure(groups, metric, id: id, title: title)
  }

  /// The arms that matter, on queries like the history and unlike it.
  func shiftFigure(id: String) -> Figure? {
    guard let metric, let shift = results.shift else { return nil }
    func title(_ name: String, _ slice: Slice) -> String {
      "\(name): \(NumberText.count(slice.users, "user", "users")), "
        + NumberText.count(slice.n, "query", "queries")
    }
    let groups = [
      SliceGroup(
        title: title("Before the shift", shift.before), short: "before", arms: shift.before.arms),
      SliceGroup(
        title: title("After the shift", shift.after), short: "after", arms: shift.after.arms),
    ]
    let leads = groups.map { lead(in: $0.arms, metric) }
    var words = "Before and after a shift of behaviour"
    if let bestPersonal, let bestPrompt, let before = leads[0], let after = leads[1] {
      let pair = "\(bestPersonal.title) stands above \(bestPrompt.title)"
      switch (before > 0, after > 0) {
      case (true, true): words = "\(pair) before and after the shift"
      case (true, false): words = "\(pair) before the shift, not after it"
      case (false, true): words = "\(pair) only after the shift"
      case (false, false):
        words =
          "\(bestPersonal.title) stands above \(bestPrompt.title) neither before nor after the shift"
      }
    }
    return slicesFigure(groups, metric, id: id, title: words, text: shift.text)
  }

  // MARK: - Parts

  private struct SliceGroup {
    var title: String
    var short: String
    var arms: [String: [String: IntervalEstimate]]
  }

  private func slicesFigure(
    _ groups: [SliceGroup], _ metric: MetricInfo, id: String, title: String, text: String = ""
  ) -> Figure {
    let main = arms.filter { arm in
      arm.family == .task
        || [bestBaseline, bestPrompt, bestPersonal].contains { $0?.name == arm.name }
    }
    let decimals = decimals(metric)
    let rows = groups.map { group in
      main.compactMap { arm in
        group.arms[arm.name]?[metric.name].map {
          row(arm, estimate: $0, decimals: decimals, isStrong: arm.name == bestPersonal?.name)
        }
      }
    }
    let plot = DotPlot(panels: [
      .init(
        axis: MetricText.axis(metric),
        groups: zip(groups, rows).map { .init(title: $0.title, rows: $1) })
    ])
    let all = arms.filter { arm in groups.contains { $0.arms[arm.name] != nil } }
    return Figure(
      id: id, title: title,
      description: ([text].filter { !$0.isEmpty }
        + zip(groups, rows).map { "\($0.title): \(describe($1))" }).joined(separator: " "),
      table: HTMLTable(
        headers: [.text("Arm")] + groups.map { .number($0.short.capitalizedFirst) },
        rows: all.map { arm in
          [.text(arm.title, mark: Mark(arm.family))]
            + groups.map { group in
              .number(Self.text(group.arms[arm.name]?[metric.name], decimals: decimals))
            }
        }), drawing: plot.drawing, note: text)
  }

  /// How far OPPU's best variant is above the best prompt-based arm in a slice; more is better.
  private func lead(in arms: [String: [String: IntervalEstimate]], _ metric: MetricInfo) -> Double?
  {
    guard let bestPersonal, let bestPrompt,
      let first = arms[bestPersonal.name]?[metric.name]?.value,
      let second = arms[bestPrompt.name]?[metric.name]?.value
    else { return nil }
    return metric.higherIsBetter ? first - second : second - first
  }

  private func row(_ arm: ArmInfo, estimate: IntervalEstimate, decimals: Int, isStrong: Bool)
    -> DotPlot.Row
  {
    DotPlot.Row(
      label: arm.title, estimate: estimate,
      text: NumberText.plain(estimate.value, decimals: decimals), mark: Mark(arm.family),
      isStrong: isStrong)
  }

  private func describe(_ rows: [DotPlot.Row]) -> String {
    rows.map { "\($0.label): \($0.tip)" }.joined(separator: "; ") + "."
  }

  /// Every arm in one metric.
  private func table(_ metric: MetricInfo) -> HTMLTable {
    let decimals = decimals(metric)
    let best = best(in: metric)
    return HTMLTable(
      headers: [
        .text("Arm"), .number(MetricText.title(metric.name)), .number("95 % interval"),
        .number("Queries"), .number("Time"),
      ],
      rows: arms.map { arm in
        let estimate = estimate(arm, metric)
        return [
          .text(arm.title, mark: Mark(arm.family)),
          .number(
            NumberText.plain(estimate.value, decimals: decimals), isStrong: best.contains(arm.name)),
          .number(Self.range(estimate, decimals: decimals)),
          .number(NumberText.count(results.arms[arm.name]?.n ?? 0)),
          .number(NumberText.seconds(results.arms[arm.name]?.seconds)),
        ]
      })
  }

  private static func items(_ level: ActivityLevel) -> String {
    level.lowItems == level.highItems
      ? NumberText.count(level.lowItems, "item", "items")
      : "\(NumberText.count(level.lowItems))–\(NumberText.count(level.highItems)) items"
  }

  /// "0.060 to 0.242".
  static func range(_ estimate: IntervalEstimate, decimals: Int, isSigned: Bool = false) -> String {
    guard let low = estimate.low, let high = estimate.high else { return "–" }
    let text = isSigned ? NumberText.signed : NumberText.plain
    return "\(text(low, decimals)) to \(text(high, decimals))"
  }

  /// "0.712 (0.620 to 0.800)".
  static func text(_ estimate: IntervalEstimate?, decimals: Int) -> String {
    guard let estimate else { return "–" }
    let value = NumberText.plain(estimate.value, decimals: decimals)
    guard estimate.low != nil, estimate.high != nil else { return value }
    return "\(value) (\(range(estimate, decimals: decimals)))"
  }
}

extension Advantage {
  var estimate: IntervalEstimate { IntervalEstimate(value, low: low, high: high) }
}

extension Advantage.Outcome {
  /// In a table.
  var words: String {
    switch self {
    case .better: "better"
    case .worse: "worse"
    case .undecided: "not certain"
    case .unknown: "no interval"
    }
  }
}

extension String {
  var capitalizedFirst: String { prefix(1).uppercased() + dropFirst() }
}
