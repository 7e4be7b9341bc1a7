// Streams that do not change, of every kind: what false alarms are counted on.

import Foundation
import RandomNumbers
import ShiftDetection

/// A kind of stream without a change. The names are those of the table in docs/shift-detection.md.
public enum QuietStream: String, CaseIterable, Sendable {
  case binary5 = "labels, 95/5"
  case binary20 = "labels, 80/20"
  case binary50 = "labels, 50/50"
  case three = "labels, 60/30/10"
  case rare = "labels, 90/5/5"
  case five = "labels, five alike"
  case fifteen = "labels, fifteen alike"
  case zipf = "labels, fifteen by Zipf's law"
  case ratingsEven = "ratings 1 to 5, all as often"
  case ratingsHigh = "ratings, three of four are 5"
  case normal = "numbers, normal"
  case exponential = "numbers, exponential"
  case lognormal = "losses, log-normal"
  case heavy = "numbers, Student's t, 2 degrees"
  case lossesUp = "losses, log-normal, increases only"

  /// Shares of labels; nil for numbers.
  var shares: [Double]? {
    switch self {
    case .binary5: [0.95, 0.05]
    case .binary20: [0.8, 0.2]
    case .binary50: [0.5, 0.5]
    case .three: [0.6, 0.3, 0.1]
    case .rare: [0.9, 0.05, 0.05]
    case .five: Array(repeating: 1, count: 5)
    case .fifteen: Array(repeating: 1, count: 15)
    case .zipf: (1...15).map { 1 / Double($0) }
    default: nil
    }
  }

  func number(_ generator: inout SplitMix64) -> Double {
    let u = generator.unit()
    switch self {
    case .ratingsEven: return Double(Int(u * 5)) + 1
    case .ratingsHigh: return u < 0.75 ? 5 : Double(Int((u - 0.75) * 16)) + 1
    case .exponential: return -log(u)
    case .lognormal, .lossesUp: return exp(NormalScores.quantile(u))
    case .heavy: return (2 * u - 1) / (2 * u * (1 - u)).squareRoot()
    default: return NormalScores.quantile(u)
    }
  }

  /// False alarms of many short streams.
  public struct Count: Sendable {
    public var events = 0
    public var alarms = 0

    public var arl0: Double { Double(events) / Double(max(1, alarms)) }
  }

  /// Watches users of 200 to 3,000 events each, up to so many events in all; after an alarm a user's
  /// detector begins anew.
  public func falseAlarms(arl0: Double, events: Int, seed: UInt64) -> Count {
    var generator = SplitMix64(seed: seed)
    var count = Count()
    var cumulative: [Double] = []
    for share in shares ?? [] { cumulative.append((cumulative.last ?? 0) + share) }
    let total = cumulative.last ?? 0
    while count.events < events {
      let length = Int(200 * pow(15, generator.unit()))
      let dither = UInt32(truncatingIfNeeded: generator.next())
      let direction: NumberDetector.Direction = self == .lossesUp ? .up : .either
      var labels = LabelDetector()
      var numbers = NumberDetector(direction: direction, seed: dither)
      for _ in 0..<length {
        count.events += 1
        let evidence: Evidence?
        if cumulative.isEmpty {
          evidence = numbers.update(number(&generator))
        } else {
          let u = generator.unit() * total
          evidence = labels.update(cell: cumulative.firstIndex { u < $0 } ?? 0)
        }
        guard let evidence, evidence.statistic >= evidence.threshold(arl0: arl0) else { continue }
        count.alarms += 1
        labels = LabelDetector()
        numbers = NumberDetector(direction: direction, seed: dither)
      }
    }
    return count
  }
}
