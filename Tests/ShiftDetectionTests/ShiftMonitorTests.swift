import Foundation
import Testing

@testable import ShiftDetection

@Suite struct ShiftMonitorTests {
  /// Plays `before` and then `after` observations; returns the number of observations after the change
  /// up to the first alarm, that alarm, and the alarms before the change.
  func play(
    before: Int, after: Int, configuration: ShiftMonitor.Configuration = .init(),
    _ make: (_ changed: Bool) -> Observation
  ) -> (delay: Int?, alarm: Signal?, early: Int) {
    var monitor = ShiftMonitor(configuration: configuration)
    var early = 0
    for index in 0..<(before + after) {
      let alarms = monitor.observe(make(index >= before)).filter(\.isAlarm)
      if let alarm = alarms.first {
        if index >= before { return (index - before + 1, alarm, early) }
        early += 1
      }
    }
    return (nil, nil, early)
  }

  enum Strong: CaseIterable {
    case labels
    case swappedRatings
    case style
    case loss
    case subject
  }

  func observation(_ kind: Strong, _ changed: Bool, _ streams: inout Streams) -> Observation {
    switch kind {
    case .labels:
      let old = [("horror", 0.6), ("comedy", 0.3), ("drama", 0.1)]
      let new = [("horror", 0.05), ("comedy", 0.15), ("drama", 0.8)]
      return Observation(
        output: .label(streams.pick(changed ? new : old)), input: streams.text())
    case .swappedRatings:
      // The ratings as a whole stay what they were: only the subjects that get them change.
      let subject = streams.pick([0, 1])
      let high = (subject == 0) != changed
      return Observation(
        output: .rating(high ? streams.pick([4, 5]) : streams.pick([1, 2])),
        input: streams.text(subject: subject))
    case .style:
      let text = streams.text()
      return Observation(
        output: .text(changed ? "[Team] " + text.capitalized : text), input: streams.text())
    case .loss:
      return Observation(
        loss: 2 + 0.5 * streams.normal(changed ? 1.5 : 0), output: .text(streams.text()),
        input: streams.text())
    case .subject:
      return Observation(input: streams.text(subject: changed ? 3 : streams.pick([0, 1])))
    }
  }

  @Test(
    "a strong change of behaviour is found within about a dozen events", arguments: Strong.allCases)
  func strongChanges(kind: Strong) {
    let trials = 40
    var delays: [Int] = []
    var early = 0
    var errors: [Int] = []
    for trial in 0..<trials {
      var streams = Streams(seed: 900 + UInt64(trial))
      let found = play(before: 24, after: 24) { observation(kind, $0, &streams) }
      early += found.early
      guard let delay = found.delay, let alarm = found.alarm else { continue }
      delays.append(delay)
      errors.append(abs((alarm.changeIndex ?? 0) - 24))
    }
    delays.sort()
    errors.sort()
    let within = delays.filter { $0 <= 12 }.count
    print(
      "\(kind): found \(delays.count) of \(trials), within 12: \(within), median delay",
      delays.isEmpty ? -1 : delays[delays.count / 2], "early \(early), median error of the place",
      errors.isEmpty ? -1 : errors[errors.count / 2])
    switch kind {
    case .style:
      #expect(within >= trials * 9 / 10)
    case .labels, .loss:
      #expect(within >= trials / 2)
      #expect(delays.count >= trials * 8 / 10)
    case .swappedRatings, .subject:
      #expect(delays.count >= trials * 4 / 10)
    }
    #expect(early <= 4, "of 960 observations at one in 1,000")
  }

  @Test(
    "every observation is answered by every signal with its numbers, before and after the warm-up")
  func quietFindings() {
    var streams = Streams(seed: 3)
    var monitor = ShiftMonitor()
    for number in 1...20 {
      let signals = monitor.observe(observation(.labels, false, &streams))
      #expect(signals.map(\.kind) == SignalKind.allCases)
      #expect(signals.allSatisfy { $0.threshold > 0 && $0.threshold < 0.01 && $0.arl0 == 3_000 })
      #expect(signals[0].pValue == nil && signals[0].observations == 0, "there is no loss")
      #expect(signals[1].observations == number)
      #expect((signals[1].pValue != nil) == (number >= 8))
      if let change = signals[1].changeIndex {
        #expect(change >= 4 && change <= number - 4)
        #expect(!signals[1].before.isEmpty && !signals[1].after.isEmpty)
      }
    }
    #expect(monitor.observations == 20)
  }

  @Test("one change is reported once, with what it was before and after")
  func onceOnly() {
    var streams = Streams(seed: 11)
    var monitor = ShiftMonitor()
    var alarms: [Signal] = []
    for index in 0..<64 {
      alarms += monitor.observe(observation(.labels, index >= 30, &streams)).filter(\.isAlarm)
    }
    #expect(alarms.count == 1)
    #expect(alarms.first?.kind == .output)
    #expect(alarms.first?.before.hasPrefix("horror") ?? false)
    #expect(alarms.first?.after.hasPrefix("drama") ?? false)
  }

  @Test("a new adapter's losses are compared with one another only, outputs go on")
  func newAdapter() {
    var streams = Streams(seed: 12)
    var monitor = ShiftMonitor()
    for _ in 0..<20 {
      _ = monitor.observe(
        Observation(loss: streams.normal(1), output: .rating(3), input: "the same"))
    }
    monitor.reset(after: .newAdapter)
    for number in 1...20 {
      let signals = monitor.observe(
        Observation(loss: streams.normal(9), output: .rating(3), input: "the same"))
      #expect(signals[0].observations == number)
      #expect(signals[1].observations == 20 + number)
      #expect(!signals[0].isAlarm)
    }
    monitor.reset(after: .everything)
    #expect(monitor.observe(Observation(input: "x"))[2].observations == 1)
    #expect(monitor.observations == 41)
  }

  @Test("a monitor stored as JSON in the middle of a stream says the same as one that was not")
  func storing() throws {
    var streams = Streams(seed: 13)
    var monitor = ShiftMonitor()
    var stored = monitor
    for index in 0..<40 {
      let observation = observation(.swappedRatings, index >= 24, &streams)
      let data = try JSONEncoder().encode(stored)
      stored = try JSONDecoder().decode(ShiftMonitor.self, from: data)
      #expect(stored.observe(observation) == monitor.observe(observation))
    }
    #expect(stored == monitor)
  }

  @Test("memory and state stay bounded however long the stream")
  func bounded() throws {
    var monitor = ShiftMonitor(configuration: .init(window: 60))
    var streams = Streams(seed: 14)
    for _ in 0..<300 {
      _ = monitor.observe(
        Observation(
          loss: streams.normal(), output: .label(streams.pick(["a", "b"])),
          input: (0..<500).map { "word\($0)" }.joined(separator: " ")))
    }
    #expect(monitor.rows.count <= 60)
    #expect(try JSONEncoder().encode(monitor).count < 60 * 700)
  }

  @Test("constant streams, infinite losses and empty texts raise nothing and break nothing")
  func degenerate() {
    var monitor = ShiftMonitor()
    for index in 0..<40 {
      let loss = index % 2 == 0 ? Double.nan : .infinity
      let signals = monitor.observe(Observation(loss: loss, output: .label("a"), input: ""))
      #expect(signals.allSatisfy { !$0.isAlarm })
    }
    for _ in 0..<40 {
      let signals = monitor.observe(Observation(loss: 1, output: .text(""), input: "same"))
      #expect(signals.allSatisfy { !$0.isAlarm || $0.kind != .loss })
    }
  }

  @Test("a permutation p-value is exact for a series that can be counted by hand")
  func exactness() {
    // 4 + 4 distinct values, all low before all high: of the 70 ways to choose which four come first,
    // 1 (one-sided) reaches the statistic at the only split.
    let values: [Double?] = [1, 2, 3, 4, 5, 6, 7, 8]
    let statistic = RankStatistic(
      features: [(.up, values)], count: 8, minimumSegment: 4)
    let result = PermutationTest(orders: 40_000, enough: 1_000_000).run(statistic, seed: 5)
    #expect(result.split == 4)
    #expect(abs(result.pValue - 1.0 / 70) < 0.003)
    let labels = CategoryStatistic(categories: [0, 0, 0, 0, 1, 1, 1, 1], minimumSegment: 4)
    let found = PermutationTest(orders: 40_000, enough: 1_000_000).run(labels, seed: 5)
    #expect(abs(found.statistic - 7) < 1e-9, "(n − 1) times the share explained, n = 8")
    #expect(abs(found.pValue - 2.0 / 70) < 0.003)
  }

  @Test("both statistics have mean 1 under random order")
  func normalisation() {
    var generator = SplitMix64(seed: 8)
    let categories = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 0]
    let numbers: [Double?] = [1, 1, 2, 3, 4, 5, 5, 5, 9, 9, nil, 0]
    // Segments of six leave one split of twelve.
    let labels = CategoryStatistic(categories: categories, minimumSegment: 6)
    let ranks = RankStatistic(features: [(.either, numbers)], count: 12, minimumSegment: 6)
    var (labelSum, rankSum) = (0.0, 0.0)
    let trials = 20_000
    for _ in 0..<trials {
      let order = (0..<12).map { Int32($0) }.shuffled(using: &generator)
      labelSum += labels.maximum(over: order).value
      let value = ranks.maximum(over: order).value
      rankSum += value * value
    }
    #expect(abs(labelSum / Double(trials) - 1) < 0.03)
    #expect(abs(rankSum / Double(trials) - 1) < 0.03)
  }

  @Test("hostile configurations are brought to what the tests can work with")
  func configuration() {
    let configuration = ShiftMonitor.Configuration(
      arl0: .nan, warmUp: -1, minimumSegment: 0, window: Int.max)
    #expect(configuration == .init(arl0: 1_000, warmUp: 4, minimumSegment: 2, window: 400))
  }
}
