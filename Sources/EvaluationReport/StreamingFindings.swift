// What a streaming study says: whether training on shifts keeps the oracle's quality at a fraction of its cost.

import Foundation

extension StreamingStudy {
  /// The share of the oracle's metric that training on shifts is to keep, and of its cost at most.
  static let goal = (metric: 0.95, cost: 0.2)

  /// Whether every policy's tokens were counted, so that costs are tokens and not seconds.
  var countsTokens: Bool { policies.allSatisfy { $0.trainingTokens != nil } }

  func policy(_ name: String) -> Policy? { policies.first { $0.name == name } }

  /// Whether training on shifts reached the goal; nil without an oracle.
  var isGoalReached: Bool? {
    guard let policy = policy("on_shift"), let metric = policy.shareOfOracleMetric,
      let cost = policy.shareOfOracleCost
    else { return nil }
    return metric >= Self.goal.metric && cost <= Self.goal.cost
  }

  /// The finding in a sentence or two.
  var sentence: String {
    guard let policy = policy("on_shift"), let metric = policy.shareOfOracleMetric,
      let cost = policy.shareOfOracleCost, let isGoalReached
    else { return "\(title): no policy was compared with training at every event." }
    let name = MetricText.inSentence(self.metric.name)
    let quality =
      self.metric.higherIsBetter
      ? "\(NumberText.percent(metric)) of the \(name) of training at every event"
      : "\(NumberText.percent(metric)) of the quality (\(name)) of training at every event"
    return "\(title): training on shift has \(quality), for \(NumberText.percent(cost)) of its "
      + (countsTokens ? "tokens" : "training time") + ". The goal, "
      + "\(NumberText.percent(Self.goal.metric)) for \(NumberText.percent(Self.goal.cost)), is "
      + (isGoalReached ? "reached." : "not reached.")
  }
}

extension Findings {
  /// Whether the results are streaming studies and nothing else.
  var isStreamingOnly: Bool { arms.isEmpty && !results.streaming.isEmpty }

  var streamingSentence: String { results.streaming.map(\.sentence).joined(separator: " ") }
}

extension HTMLReport {
  /// The summary of a report that has streaming studies alone.
  var streamingSummary: Markup {
    let studies = findings.flatMap(\.results.streaming)
    let judged = studies.compactMap(\.isGoalReached)
    let reached = judged.filter { $0 }.count
    let headline =
      judged.isEmpty
      ? "Nothing was compared with training at every event."
      : "Training on detected shifts keeps the quality of training at every event at a fifth of its "
        + "cost in \(NumberText.count(reached)) of "
        + "\(NumberText.count(judged.count, "study", "studies"))."
    let items = findings.enumerated().map { index, task -> Markup in
      """
      <li><a href="#task-\(index + 1)">\(task.results.task)</a>
      <span>\(task.streamingSentence)</span></li>

      """
    }
    return """
      <section class="summary">
      <p class="lead">\(headline)</p>
      <ul class="outcomes">
      \(items)</ul>
      </section>

      """
  }
}
