// The program that made the table of thresholds.

import Foundation
import RandomNumbers
import ShiftDetection

/// Finds the statistics at which quiet streams alarm at a stated rate, by simulation.
///
/// Streams are simulated one after the other, each up to its first alarm or its end. Every value changes
/// the threshold of its cell (so many values, so many labels, so rare) a little: down, and at an alarm up, by as
/// much as 1 / rate values push it down (Robbins and Monro, 1951). It settles where alarms come at the
/// rate; the mean over the second half of the values is taken.
public struct ThresholdSimulation: Sendable {
  /// One false alarm in so many values.
  public let arl0: Double
  /// False alarms to see in each cell.
  public let alarms: Int
  public let seed: UInt64

  public init(arl0: Double, alarms: Int, seed: UInt64) {
    self.arl0 = arl0
    self.alarms = alarms
    self.seed = seed
  }

  /// Thresholds of ``NumberDetector`` by row of the table.
  public func numbers() -> [Double?] {
    var cells = Cells(count: ThresholdTable.counts.count, arl0: arl0, target: Double(alarms))
    var generator = SplitMix64(seed: seed)
    for length in lengths() {
      var detector = NumberDetector(seed: UInt32(truncatingIfNeeded: generator.next()))
      for _ in 0..<length {
        guard let evidence = detector.update(generator.unit()) else { continue }
        if cells.isAlarm(evidence.statistic, cell: ThresholdTable.row(evidence.count)) { break }
      }
    }
    return cells.thresholds
  }

  /// Thresholds of ``LabelDetector`` by row of the table, from streams of so many labels; cells that
  /// they do not reach are nil.
  public func labels(_ kinds: ClosedRange<Int>) -> [Double?] {
    let perRow = ThresholdTable.rarityClasses.count
    let count = ThresholdTable.labelClasses.count * perRow * ThresholdTable.counts.count
    var cells = Cells(count: count, arl0: arl0, target: Double(alarms))
    var generator = SplitMix64(seed: seed &+ UInt64(kinds.lowerBound) << 32)
    for length in lengths(times: perRow) {
      let shares = Self.shares(kinds, &generator)
      var detector = LabelDetector()
      for _ in 0..<length {
        detector.append(cell: Self.draw(shares, &generator))
        guard let evidence = detector.evidence else { continue }
        if cells.isAlarm(evidence.statistic, cell: detector.cellOfTable) { break }
      }
    }
    return cells.thresholds
  }

  /// The source of ThresholdValues.swift.
  ///
  /// - Parameters: false alarms to see in each cell at an ARL0 of 1,000 and of 10,000; about ten minutes
  ///   of one core with the default.
  public static func source(alarms: (Int, Int) = (300, 150), seed: UInt64 = 5) -> String {
    let kinds = ThresholdTable.labelClasses
    let limits = zip(kinds, kinds.dropFirst() + [17]).map { $0.0...($0.1 - 1) }
    let sizes = [1_000.0, 10_000]
    let results = Results()
    // The longest first.
    DispatchQueue.concurrentPerform(iterations: 2 * (limits.count + 1)) { index in
      let level = 1 - index / (limits.count + 1)
      let kind = index % (limits.count + 1)
      let simulation = ThresholdSimulation(
        arl0: sizes[level], alarms: level == 0 ? alarms.0 : alarms.1, seed: seed)
      results.set(
        level, kind, kind == limits.count ? simulation.numbers() : simulation.labels(limits[kind]))
    }
    let levels = (0..<2).map { level in
      (
        numbers: filled(results.get(level, limits.count), width: ThresholdTable.counts.count),
        labels: joined(limits.indices.map { results.get(level, $0) })
      )
    }
    func rows(_ low: [Double], _ high: [Double]) -> String {
      zip(low, high).map { String(format: "%.2f, %.2f,", $0, max($0 + 0.7, $1)) }
        .enumerated().reduce("") {
          $0 + ($1.offset % 6 == 0 ? "\n    " : " ") + $1.element
        }
    }
    return """
      // Statistics that quiet streams reach once in 1,000 and once in 10,000 values, in pairs.
      // Written by `oppu-bench calibrate --seed \(seed)` (see ThresholdSimulation); not by hand.

      extension ThresholdTable {
        /// By values held.
        static let numberRows: [Level] = levels([\(rows(levels[0].numbers, levels[1].numbers))
        ])

        /// By labels present, how often each came, values held.
        static let labelRows: [Level] = levels([\(rows(levels[0].labels, levels[1].labels))
        ])

        private static func levels(_ pairs: [Double]) -> [Level] {
          stride(from: 0, to: pairs.count, by: 2).map {
            Level(atThousand: pairs[$0], atTenThousand: pairs[$0 + 1])
          }
        }
      }
      """ + "\n"
  }

  /// What the tasks found, by level and kind.
  private final class Results: @unchecked Sendable {
    // Every access holds the lock.
    private let lock = NSLock()
    private var values: [[Int]: [Double?]] = [:]

    func set(_ level: Int, _ kind: Int, _ thresholds: [Double?]) {
      lock.withLock { values[[level, kind]] = thresholds }
    }

    func get(_ level: Int, _ kind: Int) -> [Double?] {
      lock.withLock { values[[level, kind]] ?? [] }
    }
  }

  /// One table of those of all numbers of labels; each part from the streams that were made for it,
  /// where they reach it.
  private static func joined(_ parts: [[Double?]]) -> [Double] {
    let width = ThresholdTable.counts.count
    let block = ThresholdTable.rarityClasses.count * width
    var table: [Double?] = []
    for (kind, part) in parts.enumerated() {
      for index in (kind * block)..<((kind + 1) * block) {
        // Streams with more labels, on their way to them.
        table.append(part[index] ?? parts.lazy.compactMap { $0[index] }.first)
      }
    }
    for kind in parts.indices {
      for row in 0..<width {
        let cell = { (mass: Int) in kind * block + mass * width + row }
        let masses = ThresholdTable.rarityClasses.indices
        for mass in masses where table[cell(mass)] == nil {
          // Cells that streams hardly come to: the nearest that they do.
          let nearest = masses.filter { table[cell($0)] != nil }
            .min { abs($0 - mass) < abs($1 - mass) }
          if let nearest { table[cell(mass)] = table[cell(nearest)] }
        }
        // That the rarer of two labels came once is no change: the statistic of so few is so coarse
        // that no threshold has the rate.
        if ThresholdTable.labelClasses[kind] == 2, let next = table[cell(1)] {
          table[cell(0)] = next + 1
        }
      }
    }
    return filled(table, width: width)
  }

  /// Gaps get what came before them.
  private static func filled(_ values: [Double?], width: Int) -> [Double] {
    var result: [Double] = []
    for (index, value) in values.enumerated() {
      let before =
        index % width > 0 ? result[index - 1] : values[index...].lazy.compactMap { $0 }.first
      result.append(value ?? before ?? 7)
    }
    return result
  }

  /// Lengths of streams, so that each row of the table gets its values, with as few as can be: long
  /// streams pass through all rows before their last.
  private func lengths(times: Int = 1) -> [Int] {
    let starts = ThresholdTable.counts
    let values = Double(alarms * times) * arl0
    var result: [Int] = []
    for (row, start) in starts.enumerated().reversed() {
      let end = row + 1 < starts.count ? starts[row + 1] : 2_200
      // Some streams alarm before they come so far.
      let reaching = exp(-Double(start) / arl0)
      let streams = Int(values / Double(end - start) / reaching) - result.count
      if streams > 0 { result += Array(repeating: end - 1, count: streams) }
    }
    var generator = SplitMix64(seed: seed)
    return result.shuffled(using: &generator)
  }

  /// Shares of labels, from nearly even to a few that are rare: Dirichlet; of two, log-uniform.
  private static func shares(
    _ kinds: ClosedRange<Int>, _ generator: inout SplitMix64
  ) -> [Double] {
    let count = kinds.lowerBound + generator.index(below: kinds.count)
    if count == 2 {
      let rare = exp(log(0.01) + generator.unit() * (log(0.5) - log(0.01)))
      return [rare, 1]
    }
    let concentration = exp(log(0.3) + generator.unit() * log(30))
    var weights = (0..<count).map { _ in gamma(concentration, &generator) }
    let total = weights.reduce(0, +)
    var sum = 0.0
    for index in weights.indices {
      sum += weights[index] / total
      weights[index] = sum
    }
    return weights
  }

  private static func draw(_ cumulative: [Double], _ generator: inout SplitMix64) -> Int {
    let u = generator.unit()
    return cumulative.firstIndex { u < $0 } ?? cumulative.count - 1
  }

  /// A gamma variate (Marsaglia and Tsang, 2000).
  private static func gamma(_ shape: Double, _ generator: inout SplitMix64) -> Double {
    if shape < 1 { return gamma(shape + 1, &generator) * pow(generator.unit(), 1 / shape) }
    let d = shape - 1.0 / 3
    let c = 1 / (9 * d).squareRoot()
    while true {
      let x = NormalScores.quantile(generator.unit())
      let v = pow(1 + c * x, 3)
      if v > 0, log(generator.unit()) < x * x / 2 + d - d * v + d * log(v) { return d * v }
    }
  }

  /// The thresholds as they settle.
  private struct Cells {
    private struct Cell {
      var threshold = 7.0
      var values = 0.0
      var sum = 0.0
      var summed = 0.0
    }

    private var cells: [Cell]
    private let arl0: Double
    /// Values after which a threshold is taken for settled.
    private let settled: Double

    init(count: Int, arl0: Double, target: Double) {
      cells = Array(repeating: Cell(threshold: log(arl0)), count: count)
      self.arl0 = arl0
      settled = arl0 * target * 0.4
    }

    mutating func isAlarm(_ statistic: Double, cell index: Int) -> Bool {
      let isAlarm = statistic >= cells[index].threshold
      cells[index].values += 1
      let gain = 2 * arl0 / (cells[index].values + 8 * arl0)
      cells[index].threshold += gain * ((isAlarm ? 1 : 0) - 1 / arl0)
      if cells[index].values > settled {
        cells[index].sum += cells[index].threshold
        cells[index].summed += 1
      }
      return isAlarm
    }

    var thresholds: [Double?] { cells.map { $0.summed > 0 ? $0.sum / $0.summed : nil } }
  }
}

extension LabelDetector {
  /// The row of the table that the values held are judged by.
  var cellOfTable: Int {
    let totals = cellTotals.filter { $0 > 0 }
    let inverse = totals.reduce(0.0) { $0 + 1 / Double($1) }
    return ThresholdTable.labelRow(
      count: count, labels: totals.count, mean: Double(totals.count) / inverse)
  }
}
