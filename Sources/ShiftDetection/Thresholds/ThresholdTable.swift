// From a statistic to how rare it is, and from a stated false-alarm rate to the statistic.

import Foundation

/// The calibration of ``LabelDetector`` and ``NumberDetector``: statistics that quiet streams reach once
/// in a thousand and once in ten thousand values.
///
/// Made by `ThresholdSimulation` (Benchmarks/ShiftBaselines); `oppu-bench calibrate` prints the rows again. Between and beyond the
/// two rates the statistic grows with the logarithm of the rate, as Shiryaev-Roberts statistics do.
package enum ThresholdTable {
  /// Statistics of one cell of a table, as a line over the logarithm of ARL0.
  struct Level: Sendable, Hashable {
    /// At an ARL0 of a thousand.
    var atThousand: Double
    /// For each factor e.
    let slope: Double

    init(atThousand: Double, atTenThousand: Double) {
      slope = max(0.3, (atTenThousand - atThousand) / log(10))
      self.atThousand = atThousand - ThresholdTable.excess * slope
    }

    func threshold(arl0: Double) -> Double { atThousand + slope * log(arl0 / 1_000) }

    func rarity(of statistic: Double) -> Double {
      1_000 * exp(min((statistic - atThousand) / slope, 40))
    }
  }

  /// Simulated thresholds come down from above and stay a little too high: over all kinds of quiet
  /// streams, ten million events each, alarms were seen to be 5 % too rare (1 % of it because nothing is
  /// tested in a user's first seven events). This much of an e-fold of ARL0 is taken off.
  static let excess = 0.05

  /// First numbers of values of the rows of the tables; the last row holds for all beyond.
  package static let counts = [
    8, 10, 12, 14, 16, 20, 24, 33, 48, 64, 96, 128, 192, 256, 512, 1_024,
  ]

  /// The row for so many values held.
  package static func row(_ count: Int) -> Int {
    count >= 8 ? rowOfCount[min(count, rowOfCount.count - 1)] : 0
  }

  private static let rowOfCount: [Int] = (0...1_024).map { count in
    (counts.lastIndex { $0 <= count }) ?? 0
  }

  /// Of a detector of one direction a quiet stream's alarms are half those of both.
  static func numbers(count: Int, isOneSided: Bool) -> Level {
    var level = numberRows[row(count)]
    if isOneSided { level.atThousand -= level.slope * log(2) }
    return level
  }

  /// Numbers of labels present at which a further table begins.
  package static let labelClasses = [2, 3, 4, 6, 9, 13]
  /// Harmonic means of how often each label came at which a further row begins: rare labels make the
  /// statistic coarse.
  package static let rarityClasses = [0.0, 3, 6, 12, 24, 48, 96, 192]

  /// - Parameter mean: harmonic mean of how often each label came.
  static func labels(count: Int, labels: Int, mean: Double) -> Level {
    labelRows[labelRow(count: count, labels: labels, mean: mean)]
  }

  package static func labelRow(count: Int, labels: Int, mean: Double) -> Int {
    var kind = 0
    while kind + 1 < labelClasses.count, labelClasses[kind + 1] <= labels { kind += 1 }
    var rarity = 0
    while rarity + 1 < rarityClasses.count, rarityClasses[rarity + 1] <= mean { rarity += 1 }
    return (kind * rarityClasses.count + rarity) * counts.count + row(count)
  }
}
