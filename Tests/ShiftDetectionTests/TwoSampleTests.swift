import Foundation
import ShiftBaselines
import Testing

@testable import ShiftDetection

@Suite struct TwoSampleTestTests {
  @Test("without a difference p-values are spread evenly, with one they are small")
  func pValues() {
    var streams = Streams(seed: 21)
    var small = [0, 0, 0]
    let trials = 300
    for trial in 0..<trials {
      func vectors(_ count: Int, _ mean: Double) -> [[Double]] {
        (0..<count).map { _ in [streams.normal(mean), streams.normal()] }
      }
      let (first, second) = (vectors(10, 0), vectors(6, 0))
      let labels = (0..<24).map { _ in streams.pick(["a", "b", "c", "c"]) }
      let seed = UInt64(trial)
      let results = [
        TwoSampleTests.energy(first, second, permutations: 99, seed: seed),
        TwoSampleTests.mmd(first, second, permutations: 99, seed: seed),
        TwoSampleTests.labels(
          Array(labels.prefix(14)), Array(labels.suffix(10)), permutations: 99, seed: seed),
      ]
      for (index, result) in results.enumerated() where result.pValue <= 0.2 { small[index] += 1 }
    }
    print("p ≤ .2 in \(small) of \(trials), seed 21")
    for count in small[..<2] { #expect(abs(count - trials / 5) < 22) }
    // Many orders of labels are alike, so p is coarse.
    #expect(small[2] < trials / 5 + 22)
    let near = (0..<15).map { _ in [streams.normal()] }
    let far = (0..<10).map { _ in [streams.normal(3)] }
    #expect(TwoSampleTests.energy(near, far).pValue == 0.001)
    #expect(TwoSampleTests.mmd(near, far).pValue <= 0.002)
    #expect(
      TwoSampleTests.labels(["a", "a", "a", "b", "a"], ["b", "b", "c", "b"]).pValue < 0.1)
  }

  @Test("the p-value of four against four can be counted by hand")
  func exactness() {
    // Of the 70 ways to choose four of eight, two divide as far as this.
    let result = TwoSampleTests.labels(
      ["a", "a", "a", "a"], ["b", "b", "b", "b"], permutations: 40_000, seed: 5)
    #expect(abs(result.statistic - 16 * log(2)) < 1e-9)
    #expect(abs(result.pValue - 2.0 / 70) < 0.003)
    let numbers = TwoSampleTests.energy(
      [[1], [2], [3], [4]], [[5], [6], [7], [8]], permutations: 40_000, seed: 5)
    #expect(abs(numbers.statistic - 11) < 1e-9, "2 · (2 · 4 − 1.25 − 1.25)")
    #expect(abs(numbers.pValue - 2.0 / 70) < 0.003)
  }

  @Test("an empty sample is no evidence")
  func empty() {
    #expect(TwoSampleTests.energy([], [[1]]).pValue == 1)
    #expect(TwoSampleTests.labels(["a"], []).pValue == 1)
  }
}
