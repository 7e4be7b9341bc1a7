import Foundation
import Testing

@testable import ShiftDetection

@Suite struct CalibrationTests {
  /// Prints the numbers that the shipped table is made from; minutes, so only on request.
  @Test(
    "the calibration table is what the simulation finds",
    .enabled(if: ProcessInfo.processInfo.environment["OPPU_CALIBRATE"] != nil))
  func calibrate() {
    for (threshold, streams, length) in [
      (0.03, 600, 400), (0.01, 600, 400), (0.003, 800, 400), (0.001, 1_200, 400),
    ] {
      let start = Date()
      let (observations, alarms) = Calibration.simulate(
        threshold: threshold, streams: streams, length: length, seed: 20_261_122)
      let arl0 = Double(observations) / Double(max(1, alarms))
      print(
        "threshold \(threshold): \(observations) observations, \(alarms) alarms, ARL0 \(arl0),",
        "ratio \(arl0 * threshold), \(Date().timeIntervalSince(start)) s")
      fflush(nil)
    }
  }
}
