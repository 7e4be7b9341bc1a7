// From a stated false-alarm rate to the p-value threshold of one test.

import Foundation

/// The calibration of the sequential permutation tests.
///
/// A test at every observation with p-value threshold α has false alarms less often than once in 1 / α
/// observations, because consecutive tests share their data: an alarm in one mostly is an alarm in the
/// next. How much less is measured by simulation: ARL0, the mean number of observations up to the first
/// alarm of streams that do not change, is α⁻¹ times about four in the first 120 observations, and more
/// later in a stream; so streams that go on have fewer false alarms than stated.
public enum Calibration {
  /// ARL0 of one signal and the threshold that gives it. The first two rows: 600 simulated streams of
  /// 120 observations each (a third each with labels, ratings and text as output), watched by whole
  /// monitors up to their first alarm; docs/shift-detection.md gives command and counts, and a test
  /// repeats a part of it every time. The last row is not simulated: it
  /// continues them with α × ARL0 falling by a twentieth for each threefold ARL0, a little faster than
  /// simulated single tests were seen to fall (from 7.6 at α = .03 to 6.7 at α = .001).
  static let table: [(arl0: Double, threshold: Double)] = [
    (450, 0.009), (1_800, 0.0021), (30_000, 0.00011),
  ]

  /// The p-value threshold for an ARL0 of one test, by log-log interpolation in the table; outside of
  /// it at the ratio of its nearest row.
  public static func threshold(arl0: Double) -> Double {
    let arl0 = max(1, arl0)
    guard let first = table.first, let last = table.last else { return 1 / arl0 }
    if arl0 <= first.arl0 { return min(0.1, first.threshold * first.arl0 / arl0) }
    for (low, high) in zip(table, table.dropFirst()) where arl0 <= high.arl0 {
      let part = log(arl0 / low.arl0) / log(high.arl0 / low.arl0)
      return low.threshold * exp(part * log(high.threshold / low.threshold))
    }
    return last.threshold * last.arl0 / arl0
  }
}
