// Whether the shares of labels in a stream have changed.

import Foundation

/// Sequential detection of a change in the distribution of labels, for short streams.
///
/// For every border of the ``SplitHistogram`` with at least four values on both sides, the likelihood
/// ratio statistic G of "the shares differ before and after" (2 Σ observed · ln observed / expected; for
/// two labels that of two binomials) becomes evidence v on the scale of a log likelihood ratio of one
/// parameter: v = z² / 2 with z the normal number as improbable as G is under χ² with as many degrees of
/// freedom as there are labels, less one (Wilson and Hilferty, 1931). The statistic is that of Shiryaev
/// and Roberts, the sum of exp v over all possible places of the change; a border stands for as many as
/// its newer stretch has values. It is an e-detector in the sense of Shin, Ramdas and Rinaldo (2022)
/// whose increments are maximised, so that its thresholds come from simulation (``ThresholdTable``).
public struct LabelDetector: CompactState {
  /// Labels that are told apart; all further ones count as one.
  public static let maximumLabels = 15
  static let minimumSegment = 4
  static let other = maximumLabels
  private static let width = maximumLabels + 1

  /// Of each label, in order of first appearance: 32 bits of hash, and its beginning for people.
  private(set) var labels: [(hash: UInt32, name: String)] = []
  private var arrived = 0
  private var histogram = SplitHistogram(stride: width)

  public init() {}

  /// Values held.
  public var count: Int { histogram.count }
  package var cellTotals: [Int32] { histogram.totals }

  /// Takes one label; nil where there are too few values, or one label only.
  public mutating func update(_ label: String) -> Evidence? {
    update(cell: cell(of: label))
  }

  /// The number of a label, which it gets when it comes first.
  mutating func cell(of label: String) -> Int {
    let hash = TextFeatures.hash(label)
    if let known = labels.firstIndex(where: { $0.hash == hash }) { return known }
    guard labels.count < Self.maximumLabels else { return Self.other }
    labels.append((hash, TextFeatures.beginning(of: label, bytes: 8)))
    return labels.count - 1
  }

  /// Takes one label by its number, 0 … 15.
  public mutating func update(cell: Int) -> Evidence? {
    append(cell: cell)
    return evidence
  }

  package mutating func append(cell: Int) {
    histogram.append(1, at: min(max(cell, 0), Self.other))
    arrived = SplitHistogram.next(arrived)
  }

  /// What the values held say.
  public var evidence: Evidence? {
    let n = histogram.count
    guard n >= 2 * Self.minimumSegment else { return nil }
    return histogram.totals.withUnsafeBufferPointer { totals in
      histogram.sums.withUnsafeBufferPointer { sums in
        histogram.sizes.withUnsafeBufferPointer { sizes in
          Self.evidence(n, totals: totals, sums: sums, sizes: sizes, stretches: histogram.stretches)
        }
      }
    }
  }

  private static func evidence(
    _ n: Int, totals: UnsafeBufferPointer<Int32>, sums: UnsafeBufferPointer<Int32>,
    sizes: UnsafeBufferPointer<Int32>, stretches: Int
  ) -> Evidence? {
    withUnsafeTemporaryAllocation(of: Int32.self, capacity: width) { after in
      after.initialize(repeating: 0)
      return EntropyTable.shared.withUnsafeBufferPointer { entropy in
        scan(
          n, totals: totals, sums: sums, sizes: sizes, stretches: stretches, after: after,
          entropy: entropy)
      }
    }
  }

  private static func scan(
    _ n: Int, totals: UnsafeBufferPointer<Int32>, sums: UnsafeBufferPointer<Int32>,
    sizes: UnsafeBufferPointer<Int32>, stretches: Int,
    after: UnsafeMutableBufferPointer<Int32>,
    entropy: UnsafeBufferPointer<Double>
  ) -> Evidence? {
    var present = 0
    var used = 0
    var inverse = 0.0
    var pooled = -entropy[n]
    for cell in 0..<width where totals[cell] > 0 {
      present += 1
      used = cell + 1
      inverse += 1 / Double(totals[cell])
      pooled += entropy[Int(totals[cell])]
    }
    guard present > 1 else { return nil }
    let freedom = present - 1
    let tail = ChiSquareTail.shared[freedom]
    var m = 0
    var sum = 0.0
    var best = (value: -1.0, after: 0)
    var stretch = stretches - 1
    while stretch > 0 {
      let size = Int(sizes[stretch])
      m += size
      let row = stretch * width
      for cell in 0..<used { after[cell] &+= sums[row + cell] }
      stretch -= 1
      let k = n - m
      if m < minimumSegment { continue }
      if k < minimumSegment { break }
      var gain = -pooled - entropy[k] - entropy[m]
      for cell in 0..<used {
        let newer = after[cell]
        gain += entropy[Int(newer)] + entropy[Int(totals[cell] &- newer)]
      }
      let value = tail.evidence(2 * gain)
      sum += Double(size) * (value > 0 ? exp(value) : 1)
      if gain > best.value { best = (gain, m) }
    }
    guard sum > 0 else { return nil }
    return Evidence(
      statistic: log(sum), after: best.after, count: n,
      level: ThresholdTable.labels(
        count: n, labels: present, mean: Double(present) / inverse))
  }

  /// Values after the change, between the borders of stretches.
  func refined(after m: Int) -> Int { histogram.parts(after: m).after }

  /// Shares of the commonest labels before and after a place, as text.
  func summary(after m: Int) -> (before: String, after: String) {
    let parts = histogram.parts(after: m)
    return (words(parts.older), words(parts.newer))
  }

  private func words(_ shares: [Double]) -> String {
    let ranked = shares.indices.filter { shares[$0] > 0 }
      .sorted { (shares[$1], $0) < (shares[$0], $1) }
    return ranked.prefix(3).map { cell in
      let name = cell < labels.count ? labels[cell].name : "others"
      return "\(name) \(Int((100 * shares[cell]).rounded())) %"
    }.joined(separator: ", ")
  }

  // MARK: State

  public func write(to writer: inout StateWriter) {
    writer.unsigned(labels.count)
    for label in labels {
      writer.fixed(label.hash)
      writer.text(label.name)
    }
    writer.unsigned(arrived)
    for (stretch, size) in histogram.sizes.prefix(histogram.stretches).enumerated() {
      let counts = histogram.sums[(stretch * Self.width)..<((stretch + 1) * Self.width)]
      if size <= Self.listed {
        // Half a byte for each value.
        let cells = counts.enumerated().flatMap {
          Array(repeating: $0.offset, count: Int($0.element))
        }
        for first in stride(from: 0, to: cells.count, by: 2) {
          writer.byte(UInt8(cells[first] | (first + 1 < cells.count ? cells[first + 1] << 4 : 0)))
        }
      } else {
        for count in counts.prefix(labels.count) { writer.unsigned(Int(count)) }
      }
    }
  }

  /// Stretches of up to so many values are written as a list of labels.
  private static let listed = 16

  public init(reading reader: inout StateReader) throws {
    for _ in 0..<(try reader.unsigned(upTo: Self.maximumLabels)) {
      labels.append((try reader.fixed(UInt32.self), try reader.text(upTo: 64)))
    }
    arrived = try reader.unsigned(upTo: 5 * SplitHistogram.largestStretch)
    let known = labels.count
    histogram = try SplitHistogram(stride: Self.width, arrived: arrived) { size in
      var counts = [Int32](repeating: 0, count: Self.width)
      if size <= Self.listed {
        for first in stride(from: 0, to: size, by: 2) {
          let pair = try reader.byte()
          counts[Int(pair & 15)] += 1
          if first + 1 < size { counts[Int(pair >> 4)] += 1 }
        }
      } else {
        for cell in 0..<known { counts[cell] = Int32(try reader.unsigned(upTo: size)) }
        counts[Self.other] = Int32(size) - counts.reduce(0, +)
        guard counts[Self.other] >= 0 else { throw StateError("more labels than values") }
      }
      return counts
    }
  }

  public static func == (left: Self, right: Self) -> Bool {
    left.arrived == right.arrived && left.histogram == right.histogram
      && left.labels.elementsEqual(right.labels) { $0 == $1 }
  }

  public func hash(into hasher: inout Hasher) { hasher.combine(bytes) }
}

/// x ln x for counts.
enum EntropyTable {
  static let shared: [Double] = (0...(4 * SplitHistogram.largestStretch)).map {
    $0 == 0 ? 0 : Double($0) * log(Double($0))
  }
}

/// χ² tail probabilities on the scale of a log likelihood ratio of one parameter.
struct ChiSquareTail: Sendable {
  static let shared = (0...LabelDetector.maximumLabels).map { ChiSquareTail(freedom: $0) }

  private let freedom: Double
  private let center: Double
  private let inverseSpread: Double
  /// Below one standard deviation evidence counts as none: saves the roots of most borders.
  private let least: Double

  init(freedom: Int) {
    self.freedom = Double(max(1, freedom))
    let variance = 2 / (9 * self.freedom)
    center = 1 - variance
    inverseSpread = 1 / variance.squareRoot()
    least = self.freedom * pow(center + variance.squareRoot(), 3)
  }

  /// z² / 2 of Wilson and Hilferty's z; 0 where z < 1.
  @inline(__always)
  func evidence(_ statistic: Double) -> Double {
    guard statistic > least else { return 0 }
    let z = (cbrt(statistic / freedom) - center) * inverseSpread
    return min(z * z / 2, 300)
  }
}
