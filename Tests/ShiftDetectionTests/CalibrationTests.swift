import Foundation
import ShiftBaselines
import Testing

@testable import ShiftDetection

@Suite struct CalibrationTests {
  @Test("quiet streams of every kind alarm as often as stated", arguments: QuietStream.allCases)
  func falseAlarms(kind: QuietStream) {
    // The counts of the docs are of ten million events each (oppu-bench shift); here fewer events at a
    // rate ten times as high.
    let arl0 = 1_000.0
    let count = kind.falseAlarms(arl0: arl0, events: 200_000, seed: 2_024)
    let expected = Double(count.events) / arl0
    print(
      "\(kind.rawValue), seed 2024: \(count.alarms) alarms in \(count.events), stated \(expected)")
    // A fifth, and three standard deviations of such a count.
    #expect(abs(Double(count.alarms) - expected) <= 0.2 * expected + 3 * expected.squareRoot())
  }

  @Test("the simulation finds the thresholds of the table again")
  func reproducible() {
    let found = ThresholdSimulation(arl0: 1_000, alarms: 120, seed: 99).numbers()
    for (row, threshold) in found.enumerated() {
      guard let threshold else { continue }
      // A hundred and twenty alarms: a tenth of a nat, times four.
      #expect(abs(threshold - ThresholdTable.numberRows[row].atThousand) < 0.4, "row \(row)")
    }
  }

  @Test("a rarer alarm needs more evidence, in every cell of the table")
  func monotone() {
    for level in ThresholdTable.numberRows + ThresholdTable.labelRows {
      let thresholds = [20, 1_000, 10_000, 1e6, 1e9].map { level.threshold(arl0: $0) }
      #expect(thresholds == thresholds.sorted())
      #expect(abs(level.rarity(of: level.threshold(arl0: 5_000)) - 5_000) < 1e-6)
    }
    #expect(ThresholdTable.numberRows.count == ThresholdTable.counts.count)
    #expect(
      ThresholdTable.labelRows.count == ThresholdTable.counts.count
        * ThresholdTable.labelClasses.count * ThresholdTable.rarityClasses.count)
  }
}
