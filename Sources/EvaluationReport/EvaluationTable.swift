// A task's results on a terminal: a table of arms, further comparisons, and the finding in words.

import Foundation
import TextTables

/// The results of one task as text for a terminal of 100 columns.
public struct EvaluationTable: Sendable {
  private let findings: Findings

  public init(_ results: EvaluationResults) { findings = Findings(results) }

  /// Several lines, without a line break at the end.
  public var text: String {
    let results = findings.results
    var parts = [heading]
    if !findings.arms.isEmpty { parts.append(armTable) }
    if let comparisons { parts.append(comparisons) }
    parts += results.streaming.map(streamTable)
    var words = [findings.words]
    if !results.users.leftOut.isEmpty {
      let reasons = Set(results.users.leftOut.map(\.reason)).sorted().joined(separator: "; ")
      words.append(
        "\(NumberText.count(results.users.leftOut.count, "user was", "users were")) left out: "
          + "\(reasons).")
    }
    if !results.notes.isEmpty {
      words.append(
        "The data has \(NumberText.count(results.notes.count, "problem", "problems")); "
          + "\(EvaluationResults.fileName) lists them under \"notes\".")
    }
    parts.append(Self.wrap(words.joined(separator: " "), width: 96))
    return parts.joined(separator: "\n\n")
  }

  private var heading: String {
    let results = findings.results
    return "\(Self.plain(results.task)) (\(Self.plain(results.kind))): "
      + "\(NumberText.count(results.users.done.count, "user", "users")), "
      + NumberText.count(findings.queries, "query", "queries")
  }

  /// One row per arm. Only the deciding metric has its interval here: there is no room for more.
  private var armTable: String {
    let results = findings.results
    let best = Dictionary(
      results.metrics.map { ($0.name, findings.best(in: $0)) }, uniquingKeysWith: { $1 })
    func value(_ arm: ArmInfo, _ metric: MetricInfo) -> String {
      let decimals = findings.decimals(metric)
      let estimate = findings.estimate(arm, metric)
      let sign = best[metric.name]?.contains(arm.name) == true ? "*" : " "
      let text = NumberText.plain(estimate.value, decimals: decimals) + sign
      guard metric == findings.metric else { return text }
      return text + " " + Self.range(estimate, decimals: decimals)
    }
    let table = TextTable<ArmInfo> { arm in
      var columns = [Column(title: "Arm", value: Self.cut(arm.title, 20))]
      for metric in results.metrics {
        columns.append(
          Column(
            title: Self.cut(MetricText.title(metric.name), 12)
              + (metric == findings.metric ? ", 95 % interval" : ""),
            value: value(arm, metric), align: .right))
      }
      columns.append(
        Column(
          title: "n", value: NumberText.count(results.arms[arm.name]?.n ?? 0), align: .right))
      columns.append(
        Column(
          title: "Seconds", value: Self.seconds(results.arms[arm.name]?.seconds ?? 0),
          align: .right))
      if let prompt = findings.bestPrompt {
        columns.append(
          Column(
            title: "Better than \(Self.cut(prompt.title, 16)) by", value: difference(arm, prompt),
            align: .right))
      }
      return columns
    }
    let text = table.string(for: findings.arms)
    let isMarked = best.values.contains { !$0.isEmpty }
    return text + (isMarked ? "\n* best in its column" : "")
  }

  private func difference(_ arm: ArmInfo, _ prompt: ArmInfo) -> String {
    guard let metric = findings.metric, arm.name != prompt.name,
      let advantage = findings.advantage(of: arm, over: prompt, metric)
    else { return "–" }
    return Self.text(advantage, decimals: findings.decimals(metric))
  }

  /// The comparisons that the table of arms does not hold: others by the deciding metric, and the
  /// claim by the other metrics.
  private var comparisons: String? {
    struct Line {
      var pair: String
      var metric: String
      var difference: String
      var outcome: String
    }
    let prompt = findings.bestPrompt?.name
    let claimed = Set([findings.bestPersonal?.name, prompt].compactMap(\.self))
    let lines = findings.results.comparisons.compactMap { comparison -> Line? in
      guard let metric = findings.results.metrics.first(where: { $0.name == comparison.metric }),
        let a = findings.arms.first(where: { $0.name == comparison.a }),
        let b = findings.arms.first(where: { $0.name == comparison.b }),
        metric == findings.metric
          ? a.name != prompt && b.name != prompt : Set([a.name, b.name]) == claimed,
        let advantage = findings.advantage(of: a, over: b, metric)
      else { return nil }
      return Line(
        pair: "\(Self.cut(a.title, 20)) over \(Self.cut(b.title, 20))",
        metric: Self.cut(MetricText.inSentence(metric.name), 12),
        difference: Self.text(advantage, decimals: findings.decimals(metric)),
        outcome: advantage.outcome.words)
    }
    guard !lines.isEmpty else { return nil }
    let table = TextTable<Line> { line in
      [
        Column(title: "Comparison", value: line.pair),
        Column(title: "Metric", value: line.metric),
        Column(title: "Better by, 95 % interval", value: line.difference, align: .right),
        Column(title: "So it is", value: line.outcome),
      ]
    }
    return table.string(for: lines)
  }

  /// One row per policy of a stream.
  private func streamTable(_ study: StreamingStudy) -> String {
    let decimals = NumberText.decimals(
      study.policies.flatMap { [$0.value, $0.low, $0.high].compactMap(\.self) })
    let table = TextTable<StreamingStudy.Policy> { policy in
      let estimate = IntervalEstimate(policy.value, low: policy.low, high: policy.high)
      return [
        Column(title: "Trained", value: Self.cut(policy.title, 16)),
        Column(
          title: Self.cut(MetricText.title(study.metric.name), 12) + ", 95 % interval",
          value: NumberText.plain(policy.value, decimals: decimals) + " "
            + Self.range(estimate, decimals: decimals), align: .right),
        Column(
          title: "Of oracle's", value: NumberText.percent(policy.shareOfOracleMetric),
          align: .right),
        Column(title: "Trainings", value: NumberText.count(policy.trainings), align: .right),
        Column(
          title: "Tokens", value: policy.trainingTokens.map(NumberText.count) ?? "–",
          align: .right),
        Column(
          title: "Of oracle's", value: NumberText.percent(policy.shareOfOracleCost), align: .right),
        Column(title: "Seconds", value: Self.seconds(policy.trainingSeconds), align: .right),
      ]
    }
    let size =
      "\(NumberText.count(study.users, "stream", "streams")), "
      + NumberText.count(study.events, "event", "events")
    return "\(Self.plain(study.title)): \(size)\n"
      + table.string(for: study.policies)
  }

  private static func seconds(_ seconds: Double) -> String {
    NumberText.plain(seconds, decimals: seconds >= 100 ? 0 : seconds >= 10 ? 1 : 2)
  }

  private static func text(_ advantage: Advantage, decimals: Int) -> String {
    let value = NumberText.signed(advantage.value, decimals: decimals)
    guard let low = advantage.low, let high = advantage.high else { return value }
    return "\(value) [\(NumberText.signed(low, decimals: decimals)), "
      + "\(NumberText.signed(high, decimals: decimals))]"
  }

  private static func range(_ estimate: IntervalEstimate, decimals: Int) -> String {
    guard let low = estimate.low, let high = estimate.high else { return "" }
    return "[\(NumberText.plain(low, decimals: decimals)), "
      + "\(NumberText.plain(high, decimals: decimals))]"
  }

  /// Text from outside without what a terminal would act on.
  private static func plain(_ text: String) -> String {
    String(
      String.UnicodeScalarView(
        text.unicodeScalars.map {
          $0.properties.generalCategory == .control || $0.properties.generalCategory == .format
            ? "\u{FFFD}" : $0
        }))
  }

  private static func cut(_ text: String, _ length: Int) -> String {
    let text = plain(text)
    return text.count > length ? text.prefix(length - 1) + "…" : text
  }

  private static func wrap(_ text: String, width: Int) -> String {
    var lines: [String] = []
    var line = ""
    for word in plain(text).split(separator: " ") {
      if !line.isEmpty, line.count + 1 + word.count > width {
        lines.append(line)
        line = ""
      }
      line += line.isEmpty ? String(word) : " \(word)"
    }
    return (lines + [line]).joined(separator: "\n")
  }
}
