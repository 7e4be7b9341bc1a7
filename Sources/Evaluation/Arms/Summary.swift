// From users' outcomes to the results of a task: metrics, intervals, comparisons.

import EvaluationReport
import Foundation
import OPPU
import Personalization

/// Sums up an evaluation of one task.
public struct Summary: Sendable {
  public let task: TaskDefinition
  public let arms: [Arm]
  public let outcomes: [UserOutcome]
  private let statistics: EvaluationStatistics

  /// - Parameter seed: of the resampling.
  public init(task: TaskDefinition, arms: [Arm], outcomes: [UserOutcome], seed: UInt64 = 1) {
    self.task = task
    self.arms = arms
    self.outcomes = outcomes
    statistics = EvaluationStatistics(task: task, seed: seed)
  }

  /// The parts of a task's results that follow from the answers alone.
  public func fill(_ results: inout EvaluationResults) {
    results.metrics = task.metrics.map {
      MetricInfo($0.rawValue, higherIsBetter: $0.higherIsBetter)
    }
    results.armList = arms.map { ArmInfo(name: $0.name, title: $0.title, family: $0.family) }
    for arm in arms {
      let answers = answers(of: arm, outcomes)
      var values: [String: Double] = [:]
      for metric in task.metrics {
        guard let estimate = statistics.estimate(metric, answers: answers) else { continue }
        values[metric.rawValue] = estimate.value
        results.armIntervals[arm.name, default: [:]][metric.rawValue] = Interval(
          estimate.low, estimate.high)
      }
      let losses = outcomes.flatMap { $0.losses[arm.name] ?? [] }
      if !losses.isEmpty { values["loss"] = losses.reduce(0, +) / Double(losses.count) }
      let trainings = outcomes.compactMap { $0.trainings[arm.name]?.seconds }
      if !trainings.isEmpty {
        values["training_seconds"] = trainings.reduce(0, +)
        values["longest_training_seconds"] = trainings.max()
      }
      results.arms[arm.name] = ArmResult(
        values: values, n: answers.count,
        seconds: outcomes.reduce(0) { $0 + ($1.seconds[arm.name] ?? 0) })
    }
    results.comparisons = comparisons()
    results.activity = activity()
  }

  private func answers(
    of arm: Arm, _ outcomes: [UserOutcome]
  ) -> [(user: String, gold: String, answer: String?)] {
    outcomes.flatMap { outcome in
      zip(outcome.golds, outcome.predictions[arm.name] ?? []).compactMap { gold, answer in
        gold.map { (user: outcome.user, gold: $0, answer: answer) }
      }
    }
  }

  /// The arm that is best by the task's first metric among those of a family; nil where none answered.
  public func best(_ family: ArmInfo.Family) -> Arm? {
    guard let metric = task.metrics.first else { return nil }
    let sign: Double = metric.higherIsBetter ? 1 : -1
    let candidates = arms.filter { $0.family == family }.compactMap { arm in
      let answers = answers(of: arm, outcomes)
      return Metrics.value(
        of: metric, predictions: answers.map(\.answer), golds: answers.map(\.gold), task: task
      ).map { (arm: arm, value: sign * $0) }
    }
    return candidates.max { $0.value < $1.value }?.arm
  }

  /// Every arm against the best prompt-based one; the best OPPU arm against every other arm.
  private func comparisons() -> [ArmComparison] {
    guard !outcomes.isEmpty else { return [] }
    var pairs: [(Arm, Arm)] = []
    if let prompt = best(.prompt) {
      pairs += arms.filter { $0 != prompt }.map { ($0, prompt) }
    }
    if let oppu = best(.oppu) {
      pairs += arms.filter { other in
        other != oppu && !pairs.contains { $0.0 == oppu && $0.1 == other }
      }.map { (oppu, $0) }
    }
    return pairs.flatMap { a, b in task.metrics.map { compare(a, b, $0) } }
  }

  private func compare(_ a: Arm, _ b: Arm, _ metric: Metric) -> ArmComparison {
    let paired = zip(answers(of: a, outcomes), answers(of: b, outcomes)).map { one, other in
      PairedAnswer(user: one.user, gold: one.gold, a: one.answer, b: other.answer)
    }
    let found = statistics.compare(a.name, b.name, metric: metric, answers: paired)
    // Ours counts better as more; the file has a's value less b's, whatever is better.
    guard !metric.higherIsBetter else {
      return ArmComparison(
        a: a.name, b: b.name, metric: metric.rawValue, difference: found.difference,
        low: found.low, high: found.high)
    }
    return ArmComparison(
      a: a.name, b: b.name, metric: metric.rawValue, difference: -found.difference,
      low: -found.high, high: -found.low)
  }

  private func activity() -> [ActivityLevel] {
    let bins = ActivityBins(lengths: outcomes.map(\.historyItems), levels: 3)
    guard bins.count > 1 else { return [] }
    return (0..<bins.count).compactMap { level in
      let members = outcomes.filter { bins.level(of: $0.historyItems) == level }
      let lengths = members.map(\.historyItems)
      guard let low = lengths.min(), let high = lengths.max() else { return nil }
      return ActivityLevel(
        level: bins.name(of: level) + " items", lowItems: low, highItems: high,
        users: members.count, n: members.reduce(0) { $0 + $1.measured },
        arms: estimates(members))
    }
  }

  /// All arms' metrics with intervals over some of the users.
  public func estimates(
    _ members: [UserOutcome]
  ) -> [String: [String: IntervalEstimate]] {
    var found: [String: [String: IntervalEstimate]] = [:]
    for arm in arms {
      for metric in task.metrics {
        guard let estimate = statistics.estimate(metric, answers: answers(of: arm, members))
        else { continue }
        found[arm.name, default: [:]][metric.rawValue] = IntervalEstimate(
          estimate.value, low: estimate.low, high: estimate.high)
      }
    }
    return found
  }
}

extension Arm {
  /// What kind of arm it is.
  public var family: ArmInfo.Family {
    switch source {
    case .majority, .nearest: .baseline
    case .model(.base, _): .prompt
    case .model(.task, _): .task
    case .model(.user, _): .oppu
    }
  }
}
