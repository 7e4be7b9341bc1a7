// Streams of 100 values, a change and 100 values: what detection is measured on.

import RandomNumbers
import ShiftDetection

/// A change of a stream, as in the table of docs/shift-detection.md.
public enum ChangedStream: String, CaseIterable, Sendable {
  case rateToHalf = "rate .2 to .5"
  case rateToTwoFifths = "rate .2 to .4"
  case meanByHalf = "mean + 0.5 sigma"
  case meanByOne = "mean + 1 sigma"
  case meanByTwo = "mean + 2 sigma"

  var isRate: Bool { self == .rateToHalf || self == .rateToTwoFifths }

  func value(isAfter: Bool, _ generator: inout SplitMix64) -> Double {
    let u = generator.unit()
    switch self {
    case .rateToHalf: return u < (isAfter ? 0.5 : 0.2) ? 1 : 0
    case .rateToTwoFifths: return u < (isAfter ? 0.4 : 0.2) ? 1 : 0
    case .meanByHalf: return NormalScores.quantile(u) + (isAfter ? 0.5 : 0)
    case .meanByOne: return NormalScores.quantile(u) + (isAfter ? 1 : 0)
    case .meanByTwo: return NormalScores.quantile(u) + (isAfter ? 2 : 0)
    }
  }

  public struct Detection: Sendable {
    public let trials: Int
    /// Values after the change, of each trial in which it was found, ascending.
    public internal(set) var delays: [Int] = []
    /// Alarms before the change.
    public internal(set) var early = 0

    public var share: Double { Double(delays.count) / Double(trials) }
    public var medianDelay: Double? {
      delays.isEmpty ? nil : Double(delays[(delays.count - 1) / 2] + delays[delays.count / 2]) / 2
    }
  }

  /// How often and how soon the change is found; after an early alarm the detector begins anew.
  public func detection(arl0: Double, trials: Int, seed: UInt64) -> Detection {
    var detection = Detection(trials: trials)
    for trial in 0..<trials {
      var generator = SplitMix64(seed: seed &+ UInt64(trial) &* 0x9E37_79B9)
      let dither = UInt32(truncatingIfNeeded: generator.next())
      var labels = LabelDetector()
      var numbers = NumberDetector(seed: dither)
      for index in 0..<200 {
        let value = value(isAfter: index >= 100, &generator)
        let evidence = isRate ? labels.update(cell: Int(value)) : numbers.update(value)
        guard let evidence, evidence.statistic >= evidence.threshold(arl0: arl0) else { continue }
        if index >= 100 {
          detection.delays.append(index - 99)
          break
        }
        detection.early += 1
        labels = LabelDetector()
        numbers = NumberDetector(seed: dither)
      }
    }
    detection.delays.sort()
    return detection
  }
}
