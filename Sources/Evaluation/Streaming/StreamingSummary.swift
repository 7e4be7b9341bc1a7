// From streams' outcomes to a streaming study: metrics, costs, shares of the oracle's, curves.

import EvaluationReport
import Foundation
import Personalization

/// Sums up a streaming study of one task.
public struct StreamingSummary: Sendable {
  public let task: TaskDefinition
  public let outcomes: [StreamOutcome]
  private let statistics: EvaluationStatistics

  /// Points of a curve at most.
  private static let points = 60

  /// - Parameter seed: of the resampling.
  public init(task: TaskDefinition, outcomes: [StreamOutcome], seed: UInt64 = 1) {
    self.task = task
    self.outcomes = outcomes
    statistics = EvaluationStatistics(task: task, seed: seed)
  }

  /// Nil where the task has no metric.
  public func study(title: String) -> StreamingStudy? {
    guard let metric = task.metrics.first else { return nil }
    let policies = StreamingPolicy.allCases.filter { policy in
      outcomes.contains { $0.policy == policy }
    }
    var found = policies.map { policy(metric, $0) }
    if let oracle = found.first(where: { $0.name == StreamingPolicy.oracle.rawValue }) {
      for index in found.indices { share(&found[index], of: oracle, metric) }
    }
    let first = outcomes.filter { $0.policy == policies.first }
    return StreamingStudy(
      title: title, metric: MetricInfo(metric.rawValue, higherIsBetter: metric.higherIsBetter),
      users: first.count, events: first.reduce(0) { $0 + $1.golds.count }, policies: found,
      shifts: Set(first.flatMap(\.shifts)).sorted())
  }

  private func policy(_ metric: Metric, _ policy: StreamingPolicy) -> StreamingStudy.Policy {
    let members = outcomes.filter { $0.policy == policy }
    let answers = members.flatMap { outcome in
      zip(outcome.golds, outcome.predictions).map {
        (user: outcome.user, gold: $0, answer: $1)
      }
    }
    let estimate = statistics.estimate(metric, answers: answers)
    let trainings = members.flatMap(\.trainings)
    return StreamingStudy.Policy(
      name: policy.rawValue, title: policy.title, n: answers.count,
      value: IntervalEstimate(
        estimate?.value, low: estimate?.low, high: estimate?.high),
      trainingSeconds: trainings.reduce(0) { $0 + $1.cost.seconds },
      trainings: trainings.count,
      trainingTokens: trainings.reduce(0) { $0 + $1.cost.tokens },
      curve: curve(metric, members))
  }

  /// Over the first events of every stream; a stream that has ended stays as it was.
  private func curve(_ metric: Metric, _ members: [StreamOutcome]) -> [StreamingStudy.Point] {
    let longest = members.map(\.golds.count).max() ?? 0
    let count = min(longest, Self.points)
    return (0..<count).map { longest * ($0 + 1) / count }.compactMap { event in
      let trained = members.flatMap(\.trainings).filter { $0.after < event }
      let value = Metrics.value(
        of: metric, predictions: members.flatMap { Array($0.predictions.prefix(event)) },
        golds: members.flatMap { Array($0.golds.prefix(event)) }, task: task)
      guard let value else { return nil }
      return StreamingStudy.Point(
        event: event, value: value,
        seconds: trained.reduce(0) { $0 + $1.cost.seconds },
        tokens: trained.reduce(0) { $0 + $1.cost.tokens })
    }
  }

  /// Tokens are what a training costs anywhere; seconds depend on what else the machine does.
  private func share(
    _ policy: inout StreamingStudy.Policy, of oracle: StreamingStudy.Policy, _ metric: Metric
  ) {
    if let value = policy.value, let best = oracle.value {
      let (over, under) = metric.higherIsBetter ? (value, best) : (best, value)
      policy.shareOfOracleMetric = under > 0 ? over / under : nil
    }
    if let tokens = policy.trainingTokens, let most = oracle.trainingTokens, most > 0 {
      policy.shareOfOracleCost = Double(tokens) / Double(most)
    }
  }
}
