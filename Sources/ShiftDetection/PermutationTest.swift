// The test under all signals: is there a point that splits the observations better than chance would?

import Foundation

/// A statistic over all ways to split an ordered series in two.
protocol SplitStatistic {
  /// The number of observations.
  var count: Int { get }
  /// The largest value over all splits that leave `minimumSegment` on both sides, for the
  /// observations in the given order; `split` is the number of observations before the change.
  func maximum(over order: [Int32]) -> (value: Double, split: Int, feature: Int)
}

/// A permutation test of a split statistic.
///
/// Without a change the observations are exchangeable, and the maximum over all splits is distributed
/// as it is over random orders of the same observations: so the p-value is right for any distribution,
/// with ties, with any number of labels and from the first few observations on, where tables made for
/// continuous data are not.
struct PermutationTest {
  /// Random orders to try at most; decides the smallest p-value, 1 / (orders + 1).
  var orders: Int
  /// Stop as soon as so many random orders have reached the statistic (Besag and Clifford, 1991,
  /// "Sequential Monte Carlo p-values"): most series show no change and are dealt with at once.
  var enough = 20

  struct Result {
    let statistic: Double
    let split: Int
    let feature: Int
    let pValue: Double
  }

  func run(_ statistic: some SplitStatistic, seed: UInt64) -> Result {
    var order = (0..<Int32(statistic.count)).map { $0 }
    let observed = statistic.maximum(over: order)
    // Equal up to rounding counts as reached.
    let level = observed.value - 1e-9 * max(1, abs(observed.value))
    var generator = SplitMix64(seed: seed)
    var reached = 0
    var tried = 0
    while tried < orders, reached < enough {
      for last in stride(from: order.count - 1, to: 0, by: -1) {
        order.swapAt(last, generator.index(below: last + 1))
      }
      tried += 1
      if statistic.maximum(over: order).value >= level { reached += 1 }
    }
    let pValue =
      reached == enough ? Double(reached) / Double(tried) : Double(reached + 1) / Double(tried + 1)
    return Result(
      statistic: observed.value, split: observed.split, feature: observed.feature, pValue: pValue)
  }
}

/// Numeric features, compared by normal scores of their ranks.
///
/// Each feature's values become van der Waerden scores Φ⁻¹(rank / (n + 1)), ties sharing their mean
/// rank, scaled to variance 1; missing values and features without variance score 0. With S_k the sum
/// of the first k of n scores, |S_k| / √(k (n − k) / (n − 1)) has mean square 1 at every split under
/// random order (sampling without replacement). The statistic is the largest over splits and features.
struct RankStatistic: SplitStatistic {
  enum Direction {
    case either
    /// Only an increase counts.
    case up
  }

  let count: Int
  private let features: Int
  private let minimumSegment: Int
  /// [count × features]
  private let scores: [Double]
  private let isOneSided: [Bool]
  /// 1 / √(k (n − k) / (n − 1)) at split k.
  private let scale: [Double]

  /// - Parameter features: for each feature its direction and `count` values in order of time.
  init(
    features: [(direction: Direction, values: [Double?])], count: Int, minimumSegment: Int
  ) {
    self.count = count
    self.features = features.count
    self.minimumSegment = minimumSegment
    isOneSided = features.map { $0.direction == .up }
    var scores = [Double](repeating: 0, count: count * features.count)
    for (column, feature) in features.enumerated() {
      for (row, score) in Self.normalScores(feature.values).enumerated() {
        scores[row * features.count + column] = score
      }
    }
    self.scores = scores
    let total = Double(count)
    scale = (0...count).map { split in
      let k = Double(split)
      let variance: Double = k * (total - k) / max(1, total - 1)
      return variance > 0 ? 1 / variance.squareRoot() : 0
    }
  }

  func maximum(over order: [Int32]) -> (value: Double, split: Int, feature: Int) {
    var best = (value: 0.0, split: minimumSegment, feature: 0)
    var sums = [Double](repeating: 0, count: features)
    for k in 1...(count - minimumSegment) {
      let row = Int(order[k - 1]) * features
      let inRange = k >= minimumSegment
      for feature in 0..<features {
        sums[feature] += scores[row + feature]
        guard inRange else { continue }
        // The scores sum to 0, so a small start means a large rest: an increase.
        let value = (isOneSided[feature] ? -sums[feature] : abs(sums[feature])) * scale[k]
        if value > best.value { best = (value, k, feature) }
      }
    }
    return best
  }

  static func normalScores(_ values: [Double?]) -> [Double] {
    let present = values.indices.filter { values[$0] != nil }
    let order = present.sorted { (values[$0] ?? 0) < (values[$1] ?? 0) }
    var scores = [Double](repeating: 0, count: values.count)
    var start = 0
    while start < order.count {
      var end = start
      while end < order.count, values[order[end]] == values[order[start]] { end += 1 }
      let rank = Double(start + end + 1) / 2
      let score = normalQuantile(rank / Double(order.count + 1))
      for position in start..<end { scores[order[position]] = score }
      start = end
    }
    let mean = order.isEmpty ? 0 : order.reduce(0) { $0 + scores[$1] } / Double(order.count)
    for index in present { scores[index] -= mean }
    let variance = scores.reduce(0) { $0 + $1 * $1 } / Double(max(1, values.count))
    guard variance > 1e-12 else { return [Double](repeating: 0, count: values.count) }
    return scores.map { $0 / variance.squareRoot() }
  }

  /// Φ⁻¹ by Acklam's rational approximation (relative error below 1.2e-9).
  static func normalQuantile(_ p: Double) -> Double {
    func ratio(_ x: Double, _ above: [Double], _ below: [Double]) -> Double {
      above.reduce(0) { $0 * x + $1 } / (below.reduce(0) { $0 * x + $1 })
    }
    let tailAbove = [
      -7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838, -2.549732539343734,
      4.374664141464968, 2.938163982698783,
    ]
    let tailBelow = [
      7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996, 3.754408661907416, 1,
    ]
    if p < 0.02425 { return ratio((-2 * log(p)).squareRoot(), tailAbove, tailBelow) }
    if p > 1 - 0.02425 { return -ratio((-2 * log(1 - p)).squareRoot(), tailAbove, tailBelow) }
    let q = p - 0.5
    return q
      * ratio(
        q * q,
        [
          -3.969683028665376e+01, 2.209460984245205e+02, -2.759285104469687e+02,
          1.383577518672690e+02, -3.066479806614716e+01, 2.506628277459239,
        ],
        [
          -5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
          6.680131188771972e+01, -1.328068155288572e+01, 1,
        ])
  }
}

/// Categories, compared by the squared distance of their shares before and after.
///
/// With a_c the occurrences of category c among the first k of n and p_c its share of all, the
/// statistic at split k is Σ_c (a_c − k p_c)² over its mean under random order,
/// k (n − k) / (n − 1) × Σ_c p_c (1 − p_c). Unlike G or Pearson's χ² it does not leap when a category
/// with a single occurrence falls into a short segment.
struct CategoryStatistic: SplitStatistic {
  let count: Int
  private let minimumSegment: Int
  private let categories: [Int]
  private let shares: [Double]
  private let squaredShares: Double

  /// - Parameter categories: numbers from 0, in order of time.
  init(categories: [Int], minimumSegment: Int) {
    count = categories.count
    self.minimumSegment = minimumSegment
    self.categories = categories
    var counts = [Double](repeating: 0, count: (categories.max() ?? 0) + 1)
    for category in categories { counts[category] += 1 }
    shares = counts.map { $0 / Double(max(1, categories.count)) }
    squaredShares = shares.reduce(0) { $0 + $1 * $1 }
  }

  func maximum(over order: [Int32]) -> (value: Double, split: Int, feature: Int) {
    var best = (value: 0.0, split: minimumSegment, feature: 0)
    let spread = 1 - squaredShares
    guard spread > 1e-12 else { return best }
    // x is the vector a − k p; its squared length and its product with p are kept up to date.
    var seen = [Double](repeating: 0, count: shares.count)
    var length = 0.0
    var product = 0.0
    for k in 1...(count - minimumSegment) {
      let category = categories[Int(order[k - 1])]
      let share = shares[category]
      let x = seen[category] - Double(k - 1) * share
      length += 2 * (x - product) + 1 - 2 * share + squaredShares
      product += share - squaredShares
      seen[category] += 1
      guard k >= minimumSegment else { continue }
      let mean = Double(k) * Double(count - k) / Double(count - 1) * spread
      let value = length / mean
      if value > best.value { best = (value, k, 0) }
    }
    return best
  }
}
