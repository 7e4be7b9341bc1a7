import Foundation
import Testing

@testable import ShiftDetection

@Suite struct CalibrationTests {
  /// OPPU_CALIBRATE=1 makes the counts that the shipped table and docs/shift-detection.md rest on.
  static let isFull = ProcessInfo.processInfo.environment["OPPU_CALIBRATE"] != nil

  @Test("thresholds fall steadily as fewer false alarms are allowed")
  func monotone() {
    let thresholds = [1, 50, 450, 1_000, 3_000, 30_000, 1e6].map(Calibration.threshold)
    #expect(thresholds == thresholds.sorted(by: >))
    #expect(thresholds.allSatisfy { $0 > 0 && $0 <= 0.1 })
    #expect(abs(Calibration.threshold(arl0: 450) - 0.009) < 1e-12)
  }

  @Test(
    "the three signals together keep the stated false-alarm rate",
    arguments: ["label", "rating", "text"], isFull ? [150.0, 600] : [150])
  func falseAlarms(kind: String, arl0: Double) {
    let streamCount = Self.isFull ? 200 : 30
    var observations = 0
    var alarms: [String: Int] = [:]
    for stream in 0..<streamCount {
      var streams = Streams(seed: 5_000 + UInt64(stream))
      var monitor = ShiftMonitor(configuration: .init(arl0: arl0, seed: UInt64(stream)))
      for _ in 0..<120 {
        let output: ObservedOutput =
          switch kind {
          case "label": .label(streams.pick([("a", 0.5), ("b", 0.2), ("c", 0.2), ("d", 0.1)]))
          case "rating": .rating(streams.pick([1, 3, 4, 4, 5]))
          default: .text(streams.text())
          }
        let signals = monitor.observe(
          Observation(loss: 2 + streams.normal(), output: output, input: streams.text()))
        observations += 1
        // The rate is that of first alarms: what follows one is a shorter, selected stream.
        if let alarm = signals.first(where: { $0.isAlarm }) {
          alarms["\(alarm.kind)", default: 0] += 1
          break
        }
      }
    }
    let expected = Double(observations) / arl0
    let count = alarms.values.reduce(0, +)
    print(
      "\(kind), ARL0 \(arl0), seed 5000: \(count) alarms in \(observations) observations;",
      "stated \(expected); \(alarms)")
    // Two and a half standard deviations of a Poisson count above what is stated.
    #expect(Double(count) <= expected + 2.5 * expected.squareRoot())
  }
}
