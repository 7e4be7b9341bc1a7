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
      #expect(signals[0].statistic == nil && signals[0].observations == 0, "there is no loss")
      #expect(signals[0].explanation.contains("too few events"))
      #expect(signals[1].observations == number)
      #expect((signals[1].statistic != nil) == (number >= 8))
      guard let change = signals[1].changeIndex else { continue }
      // Outputs and inputs share the budget, and each of them has two tests.
      #expect(signals[1].arl0 == 4_000 && signals[2].arl0 == 4_000)
      #expect(change > 0 && change < number)
      #expect(!signals[1].before.isEmpty && !signals[1].after.isEmpty)
      #expect(signals[1].isAlarm == ((signals[1].rarity ?? 0) >= 4_000))
      #expect(signals[1].explanation.contains("no alarm before one in 4,000"))
    }
    #expect(monitor.observations == 20)
  }

  @Test("a signal that is off is neither tested nor charged for")
  func signalsOff() {
    var streams = Streams(seed: 4)
    var monitor = ShiftMonitor(configuration: .init(signals: [.output]))
    for index in 0..<40 {
      let signals = monitor.observe(observation(.labels, index >= 30, &streams))
      #expect(signals.map(\.kind) == [.output])
      if let threshold = signals[0].threshold, threshold > 0 { #expect(signals[0].arl0 == 2_000) }
    }
    var none = ShiftMonitor(configuration: .init(signals: []))
    #expect(none.observe(observation(.labels, false, &streams)).isEmpty)
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
    print(alarms.first?.explanation ?? "no alarm")
    #expect(alarms.first?.explanation.hasPrefix("labels chosen: horror") ?? false)
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

  @Test(
    "the state of a user and task stays below a kilobyte, whatever comes and however long",
    arguments: ["label", "rating", "text"])
  func bounded(kind: String) throws {
    var monitor = ShiftMonitor(configuration: .init(arl0: 1e9))
    var streams = Streams(seed: 14)
    var largest = 0
    for index in 0..<3_000 {
      let output: ObservedOutput =
        switch kind {
        case "label": .label("a label of the kind \(Int(streams.uniform() * 20))")
        case "rating": .rating(streams.normal() * 1_000)
        default: .text("\(streams.text()) \(index)!")
        }
      _ = monitor.observe(
        Observation(loss: streams.normal(), output: output, input: streams.text()))
      largest = max(largest, monitor.bytes.count)
    }
    print("\(kind): largest state \(largest) bytes")
    #expect(largest < 1_024)
    #expect(try ShiftMonitor(bytes: monitor.bytes) == monitor)
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

  @Test("hostile configurations are brought to what the tests can work with")
  func configuration() {
    #expect(ShiftMonitor.Configuration(arl0: .nan) == .init(arl0: 1_000))
    #expect(ShiftMonitor.Configuration(arl0: -1).arl0 == 20)
    #expect(ShiftMonitor.Configuration(arl0: .infinity).arl0 == 1_000)
  }

  @Test(
    "whole monitors keep the stated false-alarm rate",
    arguments: ["label", "rating", "text", "loss"])
  func falseAlarms(kind: String) {
    let arl0 = 300.0
    let events = 40_000
    var alarms: [String: Int] = [:]
    var streams = Streams(seed: 5_000)
    for user in 0..<(events / 400) {
      var monitor = ShiftMonitor(configuration: .init(arl0: arl0, seed: UInt32(user)))
      for _ in 0..<400 {
        let output: ObservedOutput =
          switch kind {
          case "label": .label(streams.pick([("a", 0.5), ("b", 0.2), ("c", 0.2), ("d", 0.1)]))
          case "rating": .rating(streams.pick([1, 3, 4, 4, 5]))
          default: .text(streams.text())
          }
        let loss = kind == "loss" ? exp(streams.normal()) : nil
        for signal in monitor.observe(
          Observation(loss: loss, output: output, input: streams.text())) where signal.isAlarm
        {
          alarms[signal.feature, default: 0] += 1
        }
      }
    }
    let count = alarms.values.reduce(0, +)
    print(
      "\(kind), ARL0 \(arl0), seed 5000: \(count) alarms in \(events), stated \(events / 300); \(alarms)"
    )
    let expected = Double(events) / arl0
    // A fifth, and three standard deviations of such a count.
    #expect(abs(Double(count) - expected) <= 0.2 * expected + 3 * expected.squareRoot())
  }
}
