// Which of two arms of an evaluation is better, and how sure that is.

import Foundation
import Personalization
import RandomNumbers

/// One query of an evaluation with the answers of two arms.
public struct PairedAnswer: Sendable, Hashable {
  public var user: String
  /// In the task's form.
  public var gold: String
  /// An arm's answer in the task's form, nil where none could be read.
  public var a: String?
  public var b: String?

  public init(user: String, gold: String, a: String?, b: String?) {
    self.user = user
    self.gold = gold
    self.a = a
    self.b = b
  }
}

/// A metric of one arm with its 95 % bootstrap interval over users and queries.
public struct Estimate: Codable, Sendable, Hashable {
  public var metric: Metric
  public var value: Double
  public var low: Double
  public var high: Double
  /// Queries that were measured.
  public var queries: Int
  public var users: Int
}

/// Two arms on the same queries.
public struct Comparison: Codable, Sendable, Hashable {
  /// The arms' names.
  public var a: String
  public var b: String
  public var metric: Metric
  /// How much better a is: its value less b's, and for errors b's less its own, so that above zero
  /// always means that a is better.
  public var difference: Double
  /// The paired 95 % bootstrap interval of the difference.
  public var low: Double
  public var high: Double
  /// How likely a difference of at least this size is, either way, if the arms were exchangeable on
  /// every query (a paired permutation test).
  public var p: Double
  /// Queries that were measured.
  public var queries: Int
  public var users: Int

  /// Whether the interval lies above zero: a is better.
  public var isBetter: Bool { low > 0 }
  /// Whether the interval lies below zero: a is worse.
  public var isWorse: Bool { high < 0 }
}

/// Intervals and tests of metrics over an evaluation's answers. Every figure depends on the answers
/// and the seed alone.
public struct EvaluationStatistics: Sendable {
  public let task: TaskDefinition
  /// Of the bootstrap.
  public var resamples: Int
  /// Of the permutation test.
  public var permutations: Int
  /// Of what is drawn in both.
  public var seed: UInt64

  public init(
    task: TaskDefinition, resamples: Int = 2_000, permutations: Int = 2_000, seed: UInt64 = 1
  ) {
    self.task = task
    self.resamples = resamples
    self.permutations = permutations
    self.seed = seed
  }

  /// One arm's metric; nil without answers.
  public func estimate(
    _ metric: Metric, answers: [(user: String, gold: String, answer: String?)]
  ) -> Estimate? {
    guard !answers.isEmpty else { return nil }
    let golds = answers.map(\.gold)
    let table = AnswerTable(metric, answers.map(\.answer), golds, task)
    let bootstrap = ClusterBootstrap(
      users: answers.map(\.user), resamples: resamples, seed: seed)
    let value = table.value(drawn: [Int](repeating: 1, count: answers.count))
    let interval = bootstrap.interval { table.value(drawn: $0) } ?? (value, value)
    return Estimate(
      metric: metric, value: value, low: interval.low, high: interval.high,
      queries: answers.count, users: bootstrap.users)
  }

  /// How much better arm a is than arm b.
  public func compare(
    _ a: String, _ b: String, metric: Metric, answers: [PairedAnswer]
  ) -> Comparison {
    let golds = answers.map(\.gold)
    let first = AnswerTable(metric, answers.map(\.a), golds, task)
    let second = AnswerTable(metric, answers.map(\.b), golds, task)
    let sign: Double = metric.higherIsBetter ? 1 : -1
    func difference(_ drawn: [Int]) -> Double {
      sign * (first.value(drawn: drawn) - second.value(drawn: drawn))
    }
    let found = difference([Int](repeating: 1, count: answers.count))
    let bootstrap = ClusterBootstrap(users: answers.map(\.user), resamples: resamples, seed: seed)
    let interval = bootstrap.interval(of: difference) ?? (found, found)
    return Comparison(
      a: a, b: b, metric: metric, difference: found, low: interval.low, high: interval.high,
      p: permutationTest(first, second, found: found), queries: answers.count,
      users: bootstrap.users)
  }

  /// The share of random exchanges of the two arms' answers, query by query, whose difference is at
  /// least as large; the found one counts as one of them (Phipson and Smyth, 2010).
  private func permutationTest(
    _ first: AnswerTable, _ second: AnswerTable, found: Double
  ) -> Double {
    var generator = SplitMix64(seed: seed &+ 1)
    var swapped = [Bool](repeating: false, count: first.count)
    var hits = 0
    for _ in 0..<max(1, permutations) {
      for query in swapped.indices { swapped[query] = generator.next() >> 63 == 1 }
      let one = first.value(swapped: swapped, with: second)
      let other = second.value(swapped: swapped, with: first)
      // The tolerance keeps sums in another order from counting as smaller.
      if abs(one - other) >= abs(found) - 1e-12 { hits += 1 }
    }
    return Double(hits + 1) / Double(max(1, permutations) + 1)
  }
}

/// One arm's answers, reduced to what a metric needs, so that thousands of resamples are cheap.
private struct AnswerTable {
  private enum Content {
    /// A mean over the queries; for RMSE of squares, of which the root is taken.
    case mean([Double], isRoot: Bool)
    /// Label numbers, −1 for what is no label.
    case labels(predictions: [Int], golds: [Int], count: Int)
  }

  private let content: Content
  let count: Int

  init(_ metric: Metric, _ predictions: [String?], _ golds: [String], _ task: TaskDefinition) {
    count = golds.count
    switch metric {
    case .macroF1:
      var numbers: [String: Int] = [:]
      for (number, label) in task.labels.enumerated() { numbers[label] = number }
      func number(_ text: String?) -> Int {
        let label = text?.trimmingCharacters(in: .whitespacesAndNewlines)
        return label.flatMap { numbers[$0] } ?? -1
      }
      content = .labels(
        predictions: predictions.map(number), golds: golds.map(number), count: task.labels.count)
    case .rootMeanSquaredError:
      let errors = zip(predictions, golds).map { prediction, gold in
        Metrics.score(of: .meanAbsoluteError, prediction: prediction, gold: gold, task: task) ?? 0
      }
      content = .mean(errors.map { $0 * $0 }, isRoot: true)
    case .accuracy, .meanAbsoluteError, .rouge1, .rougeL:
      content = .mean(
        zip(predictions, golds).map { prediction, gold in
          Metrics.score(of: metric, prediction: prediction, gold: gold, task: task) ?? 0
        }, isRoot: false)
    }
  }

  /// The metric with each query as often as it was drawn.
  func value(drawn: [Int]) -> Double { value(drawn: { drawn[$0] }, source: { _ in self }) }

  /// The metric with another arm's answers in place of this one's where `swapped` says so.
  func value(swapped: [Bool], with other: AnswerTable) -> Double {
    value(drawn: { _ in 1 }, source: { swapped[$0] ? other : self })
  }

  private func value(drawn: (Int) -> Int, source: (Int) -> AnswerTable) -> Double {
    switch content {
    case .mean(_, let isRoot):
      var (sum, total) = (0.0, 0)
      for query in 0..<count {
        guard case .mean(let values, _) = source(query).content else { continue }
        let times = drawn(query)
        sum += Double(times) * values[query]
        total += times
      }
      let mean = total == 0 ? 0 : sum / Double(total)
      return isRoot ? mean.squareRoot() : mean
    case .labels(_, let golds, let labelCount):
      var (hits, shown) = (
        [Int](repeating: 0, count: labelCount), [Int](repeating: 0, count: labelCount)
      )
      for query in 0..<count {
        guard case .labels(let predictions, _, _) = source(query).content else { continue }
        let (prediction, gold, times) = (predictions[query], golds[query], drawn(query))
        if prediction >= 0 { shown[prediction] += times }
        if gold >= 0 { shown[gold] += times }
        if prediction >= 0, prediction == gold { hits[gold] += times }
      }
      let sum = zip(hits, shown).reduce(0.0) { sum, label in
        label.1 == 0 ? sum : sum + 2 * Double(label.0) / Double(label.1)
      }
      return labelCount == 0 ? 0 : sum / Double(labelCount)
    }
  }
}
