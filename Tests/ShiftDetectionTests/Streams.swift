// Seeded streams for the tests of this module.

import Foundation
import RandomNumbers

@testable import ShiftDetection

struct Streams {
  private var generator: SplitMix64

  init(seed: UInt64) { generator = SplitMix64(seed: seed) }

  mutating func uniform() -> Double { generator.unit() }

  mutating func normal(_ mean: Double = 0) -> Double {
    mean + NormalScores.quantile(uniform())
  }

  mutating func bernoulli(_ rate: Double) -> Double { uniform() < rate ? 1 : 0 }

  mutating func pick<Element>(_ elements: [Element]) -> Element {
    elements[generator.index(below: elements.count)]
  }

  mutating func pick(_ weighted: [(String, Double)]) -> String {
    var left = uniform() * weighted.reduce(0) { $0 + $1.1 }
    for (name, weight) in weighted {
      left -= weight
      if left <= 0 { return name }
    }
    return weighted[weighted.count - 1].0
  }

  private static let words = """
    river house night train garden light song window market bridge winter letter kitchen orchard \
    harbour meadow clock ferry piano carousel umbrella staircase lighthouse summer autumn island \
    captain doctor teacher stranger sister village castle desert thunder silver copper velvet paper marble
    """.split(separator: " ").map(String.init)

  /// A text of some words of one of four subjects and some words of the first three: the fourth one's
  /// own words are new to whoever has not read about it.
  mutating func text(subject: Int? = nil) -> String {
    let subject = subject ?? generator.index(below: 3)
    let own = Array(Self.words[(subject * 10)..<(subject * 10 + 10)])
    let common = Array(Self.words[..<30])
    let count = 3 + generator.index(below: 4)
    return (0..<count).map { pick($0 < 2 ? own : common) }.joined(separator: " ")
  }
}
