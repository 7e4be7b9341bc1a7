// The plots of the further studies: learning curves, streaming, PEFT methods, formats.

import Foundation

extension Findings {
  /// Held-out loss over events: the means by arm, the users behind them.
  func learningFigure(id: String) -> Figure? {
    let curves = results.heldOut.filter { !$0.points.isEmpty }
    guard !curves.isEmpty else { return nil }
    let means = curves.filter { $0.user == nil }
    let users = curves.filter { $0.user != nil }
    func series(_ curve: LearningCurve, _ label: String, _ index: Int) -> LinePlot.Series {
      .init(
        label: label,
        points: curve.points.compactMap { point in point.loss.map { (Double(point.events), $0) } },
        index: index)
    }
    let plot = LinePlot(
      horizontalAxis: "Events trained on",
      verticalAxis: "Held-out loss (nats per token), lower is better",
      series: means.enumerated().map { series($1, title(ofArm: $1.arm), $0) },
      background: users.map { series($0, "", 0) })
    let falls = means.filter { curve in
      guard let first = curve.points.first?.loss, let last = curve.points.last?.loss else {
        return false
      }
      return last < first
    }
    let heading: String
    if means.isEmpty {
      heading = "Held-out loss of \(NumberText.count(users.count, "user", "users")) while learning"
    } else if means.count == 1, let first = means[0].points.first?.loss,
      let last = means[0].points.last?.loss
    {
      heading =
        "Held-out loss \(last < first ? "falls" : "does not fall"): "
        + "\(NumberText.alone(first)) to \(NumberText.alone(last))"
    } else {
      heading =
        falls.count == means.count
        ? "Held-out loss falls as adapters learn"
        : "Held-out loss falls for \(falls.count) of \(means.count) arms"
    }
    let listed = 40
    let shown = means + users.prefix(listed)
    let rows = shown.map { curve -> [HTMLTable.Cell] in
      let losses = curve.points.compactMap(\.loss)
      let decimals = NumberText.decimals(losses)
      return [
        .text(title(ofArm: curve.arm)), .text(curve.user ?? "mean"),
        .number(NumberText.count(curve.points.last?.events ?? 0)),
        .number(NumberText.plain(losses.first, decimals: decimals)),
        .number(NumberText.plain(losses.min(), decimals: decimals)),
        .number(NumberText.plain(losses.last, decimals: decimals)),
      ]
    }
    return Figure(
      id: id, title: heading,
      description: "Curves of held-out loss over events trained on. "
        + means.map { curve in
          "\(title(ofArm: curve.arm)): from \(NumberText.alone(curve.points.first?.loss)) to "
            + "\(NumberText.alone(curve.points.last?.loss)) after "
            + NumberText.count(curve.points.last?.events ?? 0, "event", "events")
        }.joined(separator: "; ") + ".",
      table: HTMLTable(
        headers: [
          .text("Arm"), .text("User"), .number("Events"), .number("First"), .number("Lowest"),
          .number("Last"),
        ], rows: rows), drawing: plot.drawing,
      note: users.isEmpty
        ? ""
        : "Thin lines: single users."
          + (users.count > listed
            ? " \(NumberText.count(users.count - listed)) more stand in results.json." : ""))
  }

  /// A stream under several training policies: cost, and both curves.
  func streamingFigures(_ study: StreamingStudy, id: String) -> [Figure] {
    let policies = study.policies
    guard !policies.isEmpty else { return [] }
    let decimals = NumberText.decimals(
      policies.flatMap { [$0.value, $0.low, $0.high].compactMap(\.self) })
    var figures = [costFigure(study, decimals: decimals, id: "\(id)-cost")]
    let name = MetricText.title(study.metric.name)
    func curves(_ value: @escaping (StreamingStudy.Point) -> Double?) -> [LinePlot.Series] {
      policies.enumerated().map { index, policy in
        .init(
          label: policy.title,
          points: policy.curve.compactMap { point in value(point).map { (Double(point.event), $0) }
          },
          index: index)
      }
    }
    func table(_ text: @escaping (StreamingStudy.Point) -> String) -> HTMLTable {
      let events = Self.sample(Array(Set(policies.flatMap { $0.curve.map(\.event) })).sorted())
      return HTMLTable(
        headers: [.number("Event")] + policies.map { .number($0.title) },
        rows: events.map { event in
          [.number(NumberText.count(event))]
            + policies.map { policy in
              .number(policy.curve.first { $0.event == event }.map(text) ?? "–")
            }
        })
    }
    guard policies.contains(where: { $0.curve.count > 1 }) else { return figures }
    let shifts = study.shifts.map(Double.init)
    let label = shifts.count == 1 ? "planted shift" : "planted shifts"
    let metricPlot = LinePlot(
      horizontalAxis: "Events", verticalAxis: "\(name) over all events so far",
      series: curves(\.value), events: shifts, eventLabel: label)
    figures.append(
      Figure(
        id: "\(id)-metric", title: "\(name) along the stream",
        description: "The metric over all events so far, by policy. "
          + Self.describe(policies) {
            NumberText.plain($0.value, decimals: decimals)
          },
        table: table { NumberText.plain($0.value, decimals: decimals) },
        drawing: metricPlot.drawing))
    let byTokens = study.countsTokens
    let costPlot = LinePlot(
      horizontalAxis: "Events",
      verticalAxis: byTokens ? "Tokens trained so far" : "Training time so far (seconds)",
      series: curves { byTokens ? $0.tokens.map(Double.init) : $0.seconds }, events: shifts,
      eventLabel: label)
    figures.append(
      Figure(
        id: "\(id)-cost-curve", title: "Cost along the stream",
        description: (byTokens ? "Tokens trained" : "Seconds of training") + " so far, by policy. "
          + Self.describe(policies) { Self.cost($0, byTokens: byTokens) },
        table: table {
          byTokens ? $0.tokens.map(NumberText.count) ?? "–" : NumberText.seconds($0.seconds)
        }, drawing: costPlot.drawing))
    return figures
  }

  private func costFigure(_ study: StreamingStudy, decimals: Int, id: String) -> Figure {
    let policies = study.policies
    let byTokens = study.countsTokens
    func cost(_ policy: StreamingStudy.Policy) -> Double {
      byTokens ? Double(policy.trainingTokens ?? 0) : policy.trainingSeconds
    }
    let name = MetricText.inSentence(study.metric.name)
    let points = policies.enumerated().map { index, policy in
      ScatterPlot.Point(
        label: policy.title,
        detail: "\(NumberText.plain(policy.value, decimals: decimals)), "
          + NumberText.count(policy.trainings, "training", "trainings"),
        x: cost(policy),
        estimate: IntervalEstimate(policy.value, low: policy.low, high: policy.high),
        mark: Mark.series(index))
    }
    var plot = ScatterPlot(
      horizontalAxis: byTokens ? "Tokens trained" : "Training time (seconds)",
      verticalAxis: "\(MetricText.title(study.metric.name)), "
        + (study.metric.higherIsBetter ? "higher is better" : "lower is better"),
      points: points)
    if let oracle = study.policy("oracle"), let value = oracle.value, cost(oracle) > 0 {
      let goal = StreamingStudy.goal
      plot.goal = (
        x: cost(oracle) * goal.cost,
        y: study.metric.higherIsBetter ? value * goal.metric : value / goal.metric,
        isAbove: study.metric.higherIsBetter
      )
    }
    let onShift = study.policy("on_shift")
    let title =
      if let onShift, let metric = onShift.shareOfOracleMetric, let cost = onShift.shareOfOracleCost
      {
        "\(onShift.title.capitalizedFirst): \(NumberText.percent(metric)) "
          + (study.metric.higherIsBetter ? "of the oracle’s \(name) " : "as good as the oracle ")
          + "for \(NumberText.percent(cost)) of its training"
      } else {
        "\(name.capitalizedFirst) against the cost of training"
      }
    return Figure(
      id: id, title: title,
      description: "Each policy's \(name) against the cost of its trainings. "
        + Self.describe(policies) {
          "\(NumberText.plain($0.value, decimals: decimals)) for "
            + Self.cost($0, byTokens: byTokens)
        },
      table: HTMLTable(
        headers: [
          .text("Policy"), .number(MetricText.title(study.metric.name)),
          .number("95 % interval"), .number("Of oracle’s"), .number("Trainings"),
          .number("Tokens"), .number("Of oracle’s"), .number("Training time"), .number("Events"),
        ],
        rows: policies.enumerated().map { index, policy in
          [
            .text(policy.title, mark: Mark.series(index)),
            .number(NumberText.plain(policy.value, decimals: decimals)),
            .number(
              Self.range(
                IntervalEstimate(policy.value, low: policy.low, high: policy.high),
                decimals: decimals)),
            .number(NumberText.percent(policy.shareOfOracleMetric)),
            .number(NumberText.count(policy.trainings)),
            .number(policy.trainingTokens.map(NumberText.count) ?? "–"),
            .number(NumberText.percent(policy.shareOfOracleCost)),
            .number(NumberText.seconds(policy.trainingSeconds)),
            .number(NumberText.count(policy.n)),
          ]
        }), drawing: plot.drawing,
      note: plot.goal == nil
        ? ""
        : "Shaded: \(study.metric.higherIsBetter ? "95 %" : "105 %") of the oracle’s \(name) "
          + "or better, for 20 % of its training or less.")
  }

  /// A study of rows: methods, formats.
  func studyFigure(_ study: Study, id: String) -> Figure? {
    guard !study.rows.isEmpty else { return nil }
    let known = results.metrics.filter { metric in
      study.rows.contains { $0.values[metric.name] != nil }
    }
    let others = Set(study.rows.flatMap(\.values.keys)).subtracting(results.metrics.map(\.name))
      .sorted()
    func decimals(_ name: String) -> Int {
      let numbers = study.rows.compactMap { $0.values[name] }
        .flatMap { [$0.value, $0.low, $0.high].compactMap(\.self) }
      return numbers.allSatisfy { $0 == $0.rounded() && abs($0) > 1 }
        ? 0 : NumberText.decimals(numbers)
    }
    let table = HTMLTable(
      headers: [.text("Variant")]
        + known.map { .number(MetricText.title($0.name)) }
        + others.map { .number(MetricText.title($0).capitalizedFirst) }
        + [.number("Queries"), .number("Time")],
      rows: study.rows.map { row in
        [.text(row.label)]
          + (known.map(\.name) + others).map { name in
            .number(Self.text(row.values[name], decimals: decimals(name)))
          }
          + [.number(NumberText.count(row.n)), .number(NumberText.seconds(row.seconds))]
      })
    guard let metric = known.first else { return nil }
    let values = study.rows.compactMap { $0.values[metric.name]?.value }
    let best = metric.higherIsBetter ? values.max() : values.min()
    let leaders = study.rows.filter { $0.values[metric.name]?.value == best && best != nil }
    let rows = study.rows.map { row in
      DotPlot.Row(
        label: row.label, estimate: row.values[metric.name] ?? IntervalEstimate(nil),
        text: NumberText.plain(row.values[metric.name]?.value, decimals: decimals(metric.name)),
        mark: Mark(.oppu), isStrong: leaders.contains(row) && study.rows.count > 1)
    }
    let title =
      leaders.count == 1 && study.rows.count > 1
      ? "\(study.title): \(leaders[0].label) has the "
        + "\(metric.higherIsBetter ? "highest" : "lowest") \(MetricText.inSentence(metric.name))"
      : study.title
    let plot = DotPlot(panels: [.init(axis: MetricText.axis(metric), groups: [.init(rows: rows)])])
    return Figure(
      id: id, title: title,
      description: "\(study.title). "
        + rows.map { "\($0.label): \($0.tip)" }.joined(separator: "; ") + ".",
      table: table, drawing: plot.drawing)
  }

  private static func cost(_ policy: StreamingStudy.Policy, byTokens: Bool) -> String {
    byTokens
      ? NumberText.count(policy.trainingTokens ?? 0, "token", "tokens")
      : NumberText.seconds(policy.trainingSeconds)
  }

  private static func describe(
    _ policies: [StreamingStudy.Policy], _ text: (StreamingStudy.Policy) -> String
  ) -> String {
    policies.map { "\($0.title): \(text($0))" }.joined(separator: "; ") + "."
  }

  /// At most a dozen of the values, first and last among them.
  private static func sample(_ values: [Int]) -> [Int] {
    guard values.count > 12 else { return values }
    return (0..<12).map { values[$0 * (values.count - 1) / 11] }
  }
}
