// Are two samples from one distribution? Permutation tests, exact for any sizes.

import Foundation
import RandomNumbers
import ShiftDetection

/// A test's outcome.
public struct TwoSampleResult: Sendable, Hashable, Codable {
  public let statistic: Double
  /// The share of random divisions of both samples together, the given one among them, with at least
  /// this statistic.
  public let pValue: Double
}

/// Two-sample permutation tests: without a difference every division of the values into parts of those
/// sizes is equally likely, so that the p-value is right for any distribution, with ties and however
/// few values there are.
public enum TwoSampleTests {
  /// Energy distance (Székely and Rizzo, 2004): 2 E|X − Y| − E|X − X′| − E|Y − Y′| times nm / (n + m).
  ///
  /// - Parameters: vectors of equal length; non-empty samples.
  public static func energy(
    _ first: [[Double]], _ second: [[Double]], permutations: Int = 999, seed: UInt64 = 1
  ) -> TwoSampleResult {
    let distances = pairs(first + second) { -$0.squareRoot() }
    return kernelTest(distances, first.count, second.count, permutations, seed)
  }

  /// Maximum mean discrepancy (Gretton and others, 2012), biased, with a Gaussian kernel as wide as the
  /// median distance, times nm / (n + m).
  public static func mmd(
    _ first: [[Double]], _ second: [[Double]], permutations: Int = 999, seed: UInt64 = 1
  ) -> TwoSampleResult {
    let all = first + second
    let squares = pairs(all) { $0 }.filter { $0 > 0 }.sorted()
    let width = squares.isEmpty ? 1 : squares[squares.count / 2]
    return kernelTest(
      pairs(all) { exp(-$0 / width) }, first.count, second.count, permutations, seed)
  }

  /// G test of labels: 2 Σ observed · ln (observed / expected).
  public static func labels(
    _ first: [String], _ second: [String], permutations: Int = 999, seed: UInt64 = 1
  ) -> TwoSampleResult {
    var numbers: [String: Int] = [:]
    let cells = (first + second).map { label in
      let number = numbers[label] ?? numbers.count
      numbers[label] = number
      return number
    }
    func entropy(_ count: Int) -> Double { count == 0 ? 0 : Double(count) * log(Double(count)) }
    var totals = [Int](repeating: 0, count: numbers.count)
    for cell in cells { totals[cell] += 1 }
    let fixed =
      entropy(cells.count) - entropy(first.count) - entropy(second.count)
      - totals.reduce(0) { $0 + entropy($1) }
    return test(cells.count, first.count, permutations, seed) { order in
      var counts = [Int](repeating: 0, count: totals.count)
      for index in order.prefix(first.count) { counts[cells[index]] += 1 }
      let sum = zip(counts, totals).reduce(0) { $0 + entropy($1.0) + entropy($1.1 - $1.0) }
      return max(0, 2 * (sum + fixed))
    }
  }

  // MARK: How

  /// f of the squared distance of every pair, row by row.
  private static func pairs(_ values: [[Double]], _ f: (Double) -> Double) -> [Double] {
    var result: [Double] = []
    result.reserveCapacity(values.count * values.count)
    for a in values {
      for b in values {
        result.append(f(zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }))
      }
    }
    return result
  }

  /// nm / (n + m) · (mean k within the first + within the second − 2 · between).
  private static func kernelTest(
    _ kernel: [Double], _ n: Int, _ m: Int, _ permutations: Int, _ seed: UInt64
  ) -> TwoSampleResult {
    let count = n + m
    guard n > 0, m > 0 else { return TwoSampleResult(statistic: 0, pValue: 1) }
    let rows = (0..<count).map { row in kernel[(row * count)..<((row + 1) * count)].reduce(0, +) }
    let total = rows.reduce(0, +)
    return test(count, n, permutations, seed) { order in
      let chosen = order.prefix(n)
      var within = 0.0
      var touching = 0.0
      for a in chosen {
        touching += rows[a]
        for b in chosen { within += kernel[a * count + b] }
      }
      let between = touching - within
      let rest = total - 2 * between - within
      let (first, second) = (Double(n), Double(m))
      return first * second / Double(count)
        * (within / (first * first) + rest / (second * second) - 2 * between / (first * second))
    }
  }

  private static func test(
    _ count: Int, _ first: Int, _ permutations: Int, _ seed: UInt64,
    statistic: ([Int]) -> Double
  ) -> TwoSampleResult {
    guard first > 0, first < count else { return TwoSampleResult(statistic: 0, pValue: 1) }
    var order = Array(0..<count)
    let observed = statistic(order)
    // Equal up to rounding counts as reached.
    let level = observed - 1e-9 * max(1, abs(observed))
    var generator = SplitMix64(seed: seed)
    var reached = 1
    for _ in 0..<max(1, permutations) {
      for index in 0..<first { order.swapAt(index, index + generator.index(below: count - index)) }
      if statistic(order) >= level { reached += 1 }
    }
    return TwoSampleResult(
      statistic: observed, pValue: Double(reached) / Double(max(1, permutations) + 1))
  }
}
