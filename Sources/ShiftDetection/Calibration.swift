// From a false-alarm rate to a threshold, and the simulation that the numbers come from.

import Foundation

/// The calibration of one sequential permutation test.
///
/// A test at every observation with p-value threshold α has false alarms less often than once in 1 / α
/// observations, because consecutive tests share their data: an alarm in one mostly is an alarm in the
/// next. The simulation finds the mean number of observations up to the first alarm (ARL0).
public enum Calibration {
  /// Measured by `simulate(threshold:streams:length:seed:)` on independent continuous values, the kind of
  /// series with the most alarms (ties make the test stricter). docs/shift-detection.md gives the
  /// command; a test repeats a part of it.
  static let table: [(arl0: Double, threshold: Double)] = [
    (254, 0.03), (745, 0.01), (2_362, 0.003),
  ]

  /// The p-value threshold for an ARL0, by log-log interpolation, and beyond the table by its nearest
  /// ratio of the two.
  public static func threshold(arl0: Double) -> Double {
    guard let first = table.first, let last = table.last else { return 1 / arl0 }
    if arl0 <= first.arl0 { return min(0.5, first.threshold * first.arl0 / max(1, arl0)) }
    for (low, high) in zip(table, table.dropFirst()) where arl0 <= high.arl0 {
      let part = log(arl0 / low.arl0) / log(high.arl0 / low.arl0)
      return low.threshold * exp(part * log(high.threshold / low.threshold))
    }
    return last.threshold * last.arl0 / arl0
  }

  /// A series for a simulation.
  enum Series {
    case numeric([Double], RankStatistic.Direction)
    case categories([Int])

    var count: Int {
      switch self {
      case .numeric(let values, _): values.count
      case .categories(let values): values.count
      }
    }
  }

  /// The number of observations up to and with the first alarm of one test watching a series, from
  /// observation `start` on, as `ShiftMonitor` would run it; nil without an alarm.
  static func runLength(
    of series: Series, threshold: Double, start: Int = 0, window: Int = 200, warmUp: Int = 8,
    minimumSegment: Int = 4, seed: UInt64
  ) -> Int? {
    let test = PermutationTest(orders: Int((8 / threshold).rounded(.up)))
    var generator = SplitMix64(seed: seed)
    for end in max(warmUp, start + 1)...max(warmUp, start + 1, series.count)
    where end <= series.count {
      let range = max(0, end - window)..<end
      let result: PermutationTest.Result
      switch series {
      case .numeric(let values, let direction):
        let statistic = RankStatistic(
          features: [(direction, values[range].map { $0 })], count: range.count,
          minimumSegment: minimumSegment)
        result = test.run(statistic, seed: generator.next())
      case .categories(let values):
        let statistic = CategoryStatistic(
          categories: Array(values[range]), minimumSegment: minimumSegment)
        result = test.run(statistic, seed: generator.next())
      }
      if result.pValue <= threshold { return end }
    }
    return nil
  }

  /// Streams of independent continuous values, each watched up to its first alarm.
  ///
  /// - Returns: observations watched and alarms raised; their ratio estimates ARL0 (each stream is
  ///   watched for at most `length` observations).
  public static func simulate(threshold: Double, streams: Int, length: Int, seed: UInt64)
    -> (observations: Int, alarms: Int)
  {
    var generator = SplitMix64(seed: seed)
    var (observations, alarms) = (0, 0)
    for _ in 0..<streams {
      // Only ranks matter, so uniform values stand for any continuous distribution.
      let values = (0..<length).map { _ in Double(generator.next() >> 11) * 0x1p-53 }
      let end = runLength(
        of: .numeric(values, .either), threshold: threshold, seed: generator.next())
      observations += end ?? length
      alarms += end == nil ? 0 : 1
    }
    return (observations, alarms)
  }
}
