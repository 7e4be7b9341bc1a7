// What the numbers say: the best arms, how far they are apart, and whether that can be said.

import Foundation

/// How much better one arm is than another. Turned so that more is better, for errors too.
struct Advantage: Equatable {
  enum Outcome: Equatable {
    case better, worse
    /// The interval holds zero.
    case undecided
    /// No interval, or too little data for one.
    case unknown
  }

  var value: Double?
  var low: Double?
  var high: Double?
  var outcome: Outcome

  init(_ comparison: ArmComparison, higherIsBetter: Bool, isReversed: Bool, queries: Int) {
    let sign: Double = higherIsBetter == isReversed ? -1 : 1
    value = comparison.difference.map { $0 * sign }
    let ends = [comparison.low, comparison.high].compactMap { $0.map { $0 * sign } }
    guard ends.count == 2, let low = ends.min(), let high = ends.max(), value != nil else {
      outcome = .unknown
      return
    }
    self.low = low
    self.high = high
    // Resampling a single query gives an interval without width: it says nothing.
    if queries < 2 || (low == high && low != 0) {
      outcome = .unknown
    } else if low > 0 {
      outcome = .better
    } else if high < 0 {
      outcome = .worse
    } else {
      outcome = .undecided
    }
  }

  /// A difference whose interval nobody computed.
  init(value: Double) {
    self.value = value
    outcome = .unknown
  }
}

/// One task's results, read.
struct Findings {
  let results: EvaluationResults
  /// The metric that decides; nil where the results name none.
  let metric: MetricInfo?
  /// Every arm that has results, in the order of the list.
  let arms: [ArmInfo]
  /// The arms that are best by the first metric among those of a family.
  let bestBaseline: ArmInfo?
  let bestPrompt: ArmInfo?
  let bestPersonal: ArmInfo?

  init(_ results: EvaluationResults) {
    self.results = results
    let listed = results.armList.filter { results.arms[$0.name] != nil }
    let names = Set(listed.map(\.name))
    // An arm that the list does not know is shown, but nothing is measured against it.
    let others = results.arms.keys.filter { !names.contains($0) }.sorted()
      .map { ArmInfo(name: $0, title: $0, family: .baseline) }
    let arms = listed + others
    let metric = results.metrics.first
    func best(_ family: ArmInfo.Family) -> ArmInfo? {
      guard let metric else { return nil }
      return arms.filter {
        $0.family == family && results.arms[$0.name]?.values[metric.name] != nil
      }
      .reduce(nil as ArmInfo?) { best, arm in
        guard let best, let value = results.arms[arm.name]?.values[metric.name],
          let other = results.arms[best.name]?.values[metric.name]
        else { return best ?? arm }
        return (metric.higherIsBetter ? value > other : value < other) ? arm : best
      }
    }
    self.arms = arms
    self.metric = metric
    bestBaseline = best(.baseline)
    bestPrompt = best(.prompt)
    bestPersonal = best(.oppu)
  }

  func value(_ arm: ArmInfo?, _ metric: MetricInfo?) -> Double? {
    guard let arm, let metric else { return nil }
    return results.arms[arm.name]?.values[metric.name]
  }

  func estimate(_ arm: ArmInfo, _ metric: MetricInfo) -> IntervalEstimate {
    let interval = results.armIntervals[arm.name]?[metric.name]
    return IntervalEstimate(value(arm, metric), low: interval?.low, high: interval?.high)
  }

  func title(ofArm name: String) -> String { arms.first { $0.name == name }?.title ?? name }

  /// The largest number of queries that any arm answered.
  var queries: Int {
    results.arms.values.map(\.n).max() ?? results.streaming.map(\.events).max() ?? 0
  }

  /// The decimals of a metric's numbers in this task.
  func decimals(_ metric: MetricInfo) -> Int {
    NumberText.decimals(
      arms.flatMap { arm in
        let estimate = estimate(arm, metric)
        return [estimate.value, estimate.low, estimate.high].compactMap(\.self)
      })
  }

  /// The arms that hold the best value of a metric.
  func best(in metric: MetricInfo) -> Set<String> {
    let values = arms.compactMap { value($0, metric) }
    guard values.count > 1, let best = metric.higherIsBetter ? values.max() : values.min() else {
      return []
    }
    return Set(arms.filter { value($0, metric) == best }.map(\.name))
  }

  /// How much better `a` is than `b`; without an interval where none was computed.
  func advantage(of a: ArmInfo, over b: ArmInfo, _ metric: MetricInfo) -> Advantage? {
    let queries = min(results.arms[a.name]?.n ?? 0, results.arms[b.name]?.n ?? 0)
    for comparison in results.comparisons where comparison.metric == metric.name {
      if comparison.a == a.name, comparison.b == b.name {
        return Advantage(
          comparison, higherIsBetter: metric.higherIsBetter, isReversed: false, queries: queries)
      }
      if comparison.a == b.name, comparison.b == a.name {
        return Advantage(
          comparison, higherIsBetter: metric.higherIsBetter, isReversed: true, queries: queries)
      }
    }
    guard let first = value(a, metric), let second = value(b, metric) else { return nil }
    return Advantage(value: metric.higherIsBetter ? first - second : second - first)
  }

  /// OPPU's best variant against the best prompt-based arm, by the first metric.
  var claim: Advantage? {
    guard let metric, let bestPersonal, let bestPrompt else { return nil }
    return advantage(of: bestPersonal, over: bestPrompt, metric)
  }

  /// The claim in a sentence, with its numbers.
  var sentence: String {
    guard let metric else { return "No metric was computed." }
    if queries == 0, !arms.isEmpty {
      return results.users.done.isEmpty
        ? "No user was evaluated: there is nothing to measure."
        : "The data has no known answers: there are predictions, and nothing is measured."
    }
    guard let bestPersonal else { return "No arm with a user's own adapter was run." }
    guard let bestPrompt else { return "No prompt-based arm was run to compare with." }
    let decimals = decimals(metric)
    let values =
      "\(MetricText.inSentence(metric.name)) "
      + "\(NumberText.plain(value(bestPersonal, metric), decimals: decimals)) against "
      + NumberText.plain(value(bestPrompt, metric), decimals: decimals)
    let pair = "\(bestPersonal.title) and the best prompt-based arm, \(bestPrompt.title)"
    guard let claim else { return "\(pair), cannot be compared." }
    let difference = Self.text(claim, decimals: decimals)
    switch claim.outcome {
    case .better:
      return "\(bestPersonal.title) beats the best prompt-based arm, "
        + "\(bestPrompt.title): \(values), better by \(difference)."
    case .worse:
      return "\(bestPersonal.title) does worse than the best prompt-based arm, "
        + "\(bestPrompt.title): \(values), a difference of \(difference)."
    case .undecided:
      return "\(pair), cannot be told apart: \(values), a difference of \(difference)."
    case .unknown:
      return "Nothing can be said about \(pair): \(values), "
        + (queries < 2 ? "from too few queries for an interval." : "without an interval.")
    }
  }

  /// The claim and what stands in its way.
  var words: String {
    if isStreamingOnly { return streamingSentence }
    return [sentence, baselineSentence].compactMap(\.self).joined(separator: " ")
  }

  /// Where an arm without a model does better than OPPU's best variant, a sentence that says so.
  var baselineSentence: String? {
    guard let metric, let bestPersonal, let bestBaseline,
      let advantage = advantage(of: bestPersonal, over: bestBaseline, metric),
      let difference = advantage.value
    else { return nil }
    let decimals = decimals(metric)
    let value = NumberText.plain(value(bestBaseline, metric), decimals: decimals)
    let text = Self.text(advantage, decimals: decimals)
    let atStart = bestBaseline.title.capitalizedFirst
    switch advantage.outcome {
    case .better:
      let subject = claim?.outcome == .better ? "It also" : bestPersonal.title
      return "\(subject) beats \(bestBaseline.title), which needs no model (\(value)), by \(text)."
    case .worse: return "\(atStart), which needs no model, does better: \(value)."
    case .undecided, .unknown:
      return difference < 0
        ? "\(atStart), which needs no model, stands at \(value): not beaten."
        : "\(atStart), which needs no model, stands at \(value): "
          + "the difference, \(text), is not certain."
    }
  }

  /// "0.151 (95 % interval 0.060 to 0.242)"; with signs where the interval holds zero.
  static func text(_ advantage: Advantage, decimals: Int) -> String {
    let write = advantage.outcome == .better ? NumberText.plain : NumberText.signed
    let value = write(advantage.value, decimals)
    guard let low = advantage.low, let high = advantage.high else { return value }
    return "\(value) (95 % interval \(write(low, decimals)) to \(write(high, decimals)))"
  }

  /// Whether an arm without a model stands in the way of the claim.
  var isBaselineUnbeaten: Bool {
    guard let metric, let bestPersonal, let bestBaseline else { return false }
    return advantage(of: bestPersonal, over: bestBaseline, metric)?.outcome != .better
  }
}
