import Foundation
import ShiftBaselines
import Testing

@testable import ShiftDetection

@Suite struct DetectorTests {
  /// The share of streams of 100 values, a change and 100 values in which the change is found.
  func detection(trials: Int, arl0: Double, _ run: (Int, inout Streams) -> Int?) -> Double {
    var found = 0
    for trial in 0..<trials {
      var streams = Streams(seed: 7_000 + UInt64(trial))
      if run(trial, &streams) != nil { found += 1 }
    }
    return Double(found) / Double(trials)
  }

  @Test("at an ARL0 of 10,000 a rate moving from .2 to .5 is found in four of five streams")
  func rate() {
    let share = detection(trials: 1_500, arl0: 10_000) { _, streams in
      var detector = LabelDetector()
      for index in 0..<200 {
        let cell = Int(streams.bernoulli(index < 100 ? 0.2 : 0.5))
        guard let evidence = detector.update(cell: cell),
          evidence.statistic >= evidence.threshold(arl0: 10_000)
        else { continue }
        if index >= 100 { return index }
        detector = LabelDetector()
      }
      return nil
    }
    print("rate .2 to .5 at ARL0 10,000, seed 7000: \(share)")
    #expect(share >= 0.8)
  }

  @Test("at an ARL0 of 10,000 a mean that moves by a standard deviation is nearly always found")
  func mean() {
    let share = detection(trials: 800, arl0: 10_000) { trial, streams in
      var detector = NumberDetector(seed: UInt32(trial))
      for index in 0..<200 {
        guard let evidence = detector.update(streams.normal(index < 100 ? 0 : 1)),
          evidence.statistic >= evidence.threshold(arl0: 10_000)
        else { continue }
        if index >= 100 { return index }
        detector = NumberDetector(seed: UInt32(trial))
      }
      return nil
    }
    print("mean + 1 sigma at ARL0 10,000, seed 7000: \(share)")
    #expect(share >= 0.95)
  }

  @Test("the change is placed near where it was, and described by what it was before and after")
  func place() throws {
    var streams = Streams(seed: 5)
    var labels = LabelDetector()
    var numbers = NumberDetector()
    for index in 0..<160 {
      let isAfter = index >= 120
      _ = labels.update(
        streams.pick(
          isAfter ? [("horror", 0.1), ("drama", 0.9)] : [("horror", 0.8), ("drama", 0.2)]))
      _ = numbers.update(10 + streams.normal(isAfter ? 2 : 0))
    }
    let label = try #require(labels.evidence)
    let number = try #require(numbers.evidence)
    #expect(abs(labels.refined(after: label.after) - 40) <= 5)
    #expect(abs(numbers.refined(after: number.after) - 40) <= 5)
    #expect(label.rarity > 1e6 && number.rarity > 1e6)
    let words = labels.summary(after: label.after)
    #expect(words.before.hasPrefix("horror") && words.after.hasPrefix("drama"))
    let typical = try #require(numbers.summary(after: number.after))
    #expect(abs(typical.before - 10) < 0.5)
    #expect(typical.after > 11)
  }

  @Test("of a detector of increases a decrease raises nothing")
  func oneSided() {
    var down = NumberDetector(direction: .up)
    var up = NumberDetector(direction: .up)
    var streams = Streams(seed: 6)
    var rarest = 0.0
    for index in 0..<200 {
      let noise = streams.normal()
      rarest = max(rarest, down.update(noise - (index < 100 ? 0 : 3))?.rarity ?? 0)
      _ = up.update(noise + (index < 100 ? 0 : 3))
    }
    #expect(rarest < 10_000)
    #expect((up.evidence?.rarity ?? 0) > 1e9)
  }

  @Test("every state comes back bit for bit at every length, and then goes on the same")
  func roundTrip() throws {
    var streams = Streams(seed: 8)
    var labels = LabelDetector()
    var numbers = NumberDetector()
    var adwin = ADWIN(delta: 0.3, clock: 1)
    var pageHinkley = PageHinkley(threshold: 8)
    var kswin = KSWIN(alpha: 0.05)
    for index in 0..<5_000 {
      if index < 300 || index % 97 == 0 {
        labels = try again(labels)
        numbers = try again(numbers)
        adwin = try again(adwin)
        pageHinkley = try again(pageHinkley)
        kswin = try again(kswin)
      }
      let value = streams.normal(Double(index / 700))
      _ = labels.update("label \(abs(Int(value * 3)) % 20)")
      _ = numbers.update(value.rounded())
      adwin.update(value)
      pageHinkley.update(value)
      kswin.update(value)
    }
  }

  func again<State: CompactState>(_ state: State) throws -> State {
    let copy = try State(bytes: state.bytes)
    #expect(copy == state && copy.bytes == state.bytes)
    let json = try JSONDecoder().decode([State].self, from: JSONEncoder().encode([state]))
    #expect(json == [state])
    return copy
  }

  @Test("bytes that are no state are refused with a reason, whatever they are")
  func badStates() throws {
    var labels = LabelDetector()
    var numbers = NumberDetector()
    var streams = Streams(seed: 9)
    for _ in 0..<100 {
      _ = labels.update(streams.pick(["a", "b", "c"]))
      _ = numbers.update(streams.normal())
    }
    #expect(throws: StateError.self) { try LabelDetector(bytes: Array(labels.bytes.dropLast())) }
    #expect(throws: StateError.self) { try NumberDetector(bytes: numbers.bytes + [0]) }
    #expect(throws: StateError.self) { try ADWIN(bytes: []) }
    #expect(throws: StateError.self) { try ShiftMonitor(bytes: [255, 1, 2]) }
    // Whatever is flipped is read or refused, and what is read can be used.
    for position in 0..<numbers.bytes.count {
      for flip: UInt8 in [1, 64, 255] {
        var bytes = numbers.bytes
        bytes[position] ^= flip
        if var read = try? NumberDetector(bytes: bytes) { _ = read.update(1) }
      }
    }
    for position in 0..<labels.bytes.count {
      for flip: UInt8 in [1, 64, 255] {
        var bytes = labels.bytes
        bytes[position] ^= flip
        if var read = try? LabelDetector(bytes: bytes) { _ = read.update("a") }
      }
    }
  }

  @Test("a number in sixteen bits keeps its order and its size")
  func compactNumbers() {
    let values = [
      -1e300, -5_000, -2_048, -1, -0.001, 0, 1e-5, 0.5, 1, 4, 5, 2_047, 3_000, 1e9, 1e300,
    ]
    let compact = values.map(CompactNumber.init)
    #expect(compact == compact.sorted())
    #expect(Set(compact).count == values.count)
    for (value, number) in zip(values, compact) where abs(value) < 1e6 {
      #expect(abs(number.value - value) <= 0.02 * abs(value) + 1e-6)
    }
    #expect(CompactNumber(-0.0) == CompactNumber(0))
  }

  @Test("the sizes of stretches follow from how many values came")
  func stretches() {
    var histogram = SplitHistogram(stride: 1)
    var arrived = 0
    for index in 0..<6_000 {
      histogram.append(1, at: 0)
      arrived = SplitHistogram.next(arrived)
      let sizes = histogram.sizes.prefix(histogram.stretches).map { Int($0) }
      #expect(sizes == SplitHistogram.sizes(after: arrived), "after \(index + 1)")
      #expect(sizes.reduce(0, +) == histogram.count && Int(histogram.totals[0]) == histogram.count)
      #expect(histogram.count <= SplitHistogram.largest)
      if index + 1 <= SplitHistogram.largest { #expect(histogram.count == index + 1) }
    }
  }
}
