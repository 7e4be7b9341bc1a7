// One test of a signal: its data, and words for what it compares.

import Foundation

/// The data of one permutation test in order of time.
struct Test {
  typealias Feature = (name: String, direction: RankStatistic.Direction, values: [Double?])

  /// The observation numbers compared.
  let rows: [Int]
  private let content: Content

  private enum Content {
    case numeric([Feature])
    case labels([String])
  }

  init(rows: [ShiftMonitor.Row], numeric: [Feature]) {
    self.rows = rows.map(\.index)
    content = .numeric(numeric)
  }

  init(rows: [ShiftMonitor.Row], labels: [String]) {
    self.rows = rows.map(\.index)
    content = .labels(labels)
  }

  var names: [String] {
    switch content {
    case .numeric(let features): features.map(\.name)
    case .labels: ["labels"]
    }
  }

  func run(_ test: PermutationTest, minimumSegment: Int, seed: UInt64) -> PermutationTest.Result {
    switch content {
    case .numeric(let features):
      return test.run(
        RankStatistic(
          features: features.map { ($0.direction, $0.values) }, count: rows.count,
          minimumSegment: minimumSegment), seed: seed)
    case .labels(let labels):
      var numbers: [String: Int] = [:]
      let categories = labels.map { label in
        let number = numbers[label] ?? numbers.count
        numbers[label] = number
        return number
      }
      return test.run(
        CategoryStatistic(categories: categories, minimumSegment: minimumSegment), seed: seed)
    }
  }

  /// A stretch of the data in words: a mean, or the commonest labels with their shares.
  func summary(_ range: Range<Int>, feature: Int) -> String {
    switch content {
    case .numeric(let features):
      let values = features[feature].values[range].compactMap { $0 }
      guard !values.isEmpty else { return "none" }
      let mean = values.reduce(0, +) / Double(values.count)
      return "mean " + String(format: "%.2f", mean)
    case .labels(let labels):
      var counts: [String: Int] = [:]
      for label in labels[range] { counts[label, default: 0] += 1 }
      let ranked = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
      return ranked.prefix(3).map { label, count in
        "\(label) \(Int((100 * Double(count) / Double(range.count)).rounded())) %"
      }.joined(separator: ", ")
    }
  }
}
