// Differences of losses on the same events, and what can be said of their mean.

/// Mean and bounds of paired differences.
struct PairedDifferences: Sendable {
  let count: Int
  let mean: Double
  /// Of the mean; nil for fewer than two.
  let standardError: Double?

  init(_ differences: [Double]) {
    count = differences.count
    let n = Double(count)
    let mean = count > 0 ? differences.reduce(0, +) / n : 0
    self.mean = mean
    let squares = differences.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    standardError = count > 1 ? (squares / (n - 1) / n).squareRoot() : nil
  }

  /// From sums, as they are kept between looks.
  init(count: Int, sum: Double, sumOfSquares: Double) {
    self.count = count
    let n = Double(count)
    mean = count > 0 ? sum / n : 0
    let squares = max(0, sumOfSquares - n * mean * mean)
    standardError = count > 1 ? (squares / (n - 1) / n).squareRoot() : nil
  }

  /// The mean is below this with the given confidence (Student's t); nil for fewer than two.
  func upperBound(confidence: Double) -> Double? {
    standardError.map { mean + StudentT.quantile(confidence, degrees: count - 1) * $0 }
  }

  func lowerBound(confidence: Double) -> Double? {
    standardError.map { mean - StudentT.quantile(confidence, degrees: count - 1) * $0 }
  }
}
