// When to train, and when a candidate may serve: tables of facts and decisions.

import Foundation
import RandomNumbers
import Testing

@testable import Personalization

@Suite struct SchedulePolicyTests {
  private let now = Date(timeIntervalSince1970: 1_769_850_000)

  private var policy: SchedulePolicy {
    var rules = ScheduleRules()
    rules.firstAdapterEvents = 16
    rules.newEvents = 32
    rules.shiftEvents = 10
    rules.shiftPatience = .seconds(300)
    return SchedulePolicy(rules: rules)
  }

  private func facts(
    _ events: Int64, trained: Int64? = nil, open: Bool = false, pending: PendingShift? = nil,
    alarm: Int64? = nil, hours: Double = 1
  ) -> StreamFacts {
    StreamFacts(
      eventCount: events, lastTrainOrdinal: trained,
      lastTrainAt: trained.map { _ in now - hours * 3_600 },
      hasOpenJob: open, pendingShift: pending, alarmChange: alarm, now: now)
  }

  private func shift(change: Int64, secondsAgo: Double = 0) -> PendingShift {
    PendingShift(
      changeOrdinal: change, alarmOrdinal: change + 3, alarmedAt: now - secondsAgo)
  }

  @Test("a first adapter is trained as soon as there are enough events, and not before")
  func firstAdapter() {
    #expect(policy.decide(facts(15)) == PolicyResult())
    for events: Int64 in [16, 17, 400] {
      let result = policy.decide(facts(events))
      #expect(result.training == .firstAdapter)
      #expect(result.steps == [.train(.firstAdapter, changeOrdinal: nil)])
    }
  }

  @Test("a further adapter is trained after enough new events")
  func newEvents() {
    #expect(policy.decide(facts(47, trained: 16)).training == nil)
    let result = policy.decide(facts(48, trained: 16))
    #expect(result.training == .newEvents)
    #expect(result.steps == [.train(.newEvents, changeOrdinal: nil)])
  }

  @Test("nothing is enqueued while a job of the stream is open, whatever else is so")
  func openJob() {
    #expect(policy.decide(facts(16, open: true)).training == nil)
    #expect(policy.decide(facts(200, trained: 16, open: true)).training == nil)
    let pending = shift(change: 20, secondsAgo: 10_000)
    let result = policy.decide(facts(200, trained: 16, open: true, pending: pending))
    #expect(result.training == nil)
    #expect(result.pendingShift == pending, "a shift waits for the open job")
    // And is trained on at the first look after it.
    #expect(policy.decide(facts(200, trained: 16, pending: pending)).training == .shift)
  }

  @Test("an alarm is written down and waits for events of the new behaviour")
  func alarmWaits() {
    let result = policy.decide(facts(30, trained: 16, alarm: 27))
    #expect(result.steps == [.noticed(changeOrdinal: 27)])
    #expect(result.training == nil)
    #expect(
      result.pendingShift
        == PendingShift(changeOrdinal: 27, alarmOrdinal: 30, alarmedAt: now))
  }

  @Test(
    "a shift is trained on once there are enough events from the change on",
    arguments: [(35, false), (36, true), (60, true)] as [(Int64, Bool)])
  func shiftEvents(_ events: Int64, _ trains: Bool) {
    let pending = shift(change: 27)
    let result = policy.decide(facts(events, trained: 16, pending: pending))
    #expect(result.training == (trains ? .shift : nil))
    #expect(result.pendingShift == (trains ? nil : pending))
    if trains {
      #expect(result.steps == [.train(.shift, changeOrdinal: 27)])
    }
  }

  @Test("an alarm with enough events already is trained on at once")
  func alarmTrains() {
    let result = policy.decide(facts(40, trained: 16, alarm: 27))
    #expect(
      result.steps == [.noticed(changeOrdinal: 27), .train(.shift, changeOrdinal: 27)])
    #expect(result.training == .shift)
    #expect(result.pendingShift == nil)
  }

  @Test("a shift does not wait longer than its patience for events that do not come")
  func patience() {
    let young = shift(change: 27, secondsAgo: 299)
    #expect(policy.decide(facts(30, trained: 16, pending: young)).training == nil)
    let old = shift(change: 27, secondsAgo: 300)
    #expect(policy.decide(facts(30, trained: 16, pending: old)).training == .shift)
  }

  @Test("new events do not train over a shift that waits")
  func shiftBeforeNewEvents() {
    let pending = shift(change: 95)
    let result = policy.decide(facts(100, trained: 16, pending: pending))
    #expect(result.training == nil)
    #expect(result.pendingShift == pending)
  }

  @Test(
    "an old adapter is trained anew where there are some events, and looked at when it gets old")
  func age() {
    let old = policy.decide(facts(24, trained: 16, hours: 168))
    #expect(old.training == .age && old.nextLook == nil)
    #expect(policy.decide(facts(23, trained: 16, hours: 1_000)) == PolicyResult(), "too few events")
    let young = policy.decide(facts(24, trained: 16, hours: 100))
    #expect(young.training == nil)
    #expect(young.nextLook == now + 68 * 3_600)
  }

  @Test("what waits for time says when to look again")
  func nextLook() {
    let waiting = policy.decide(facts(30, trained: 16, pending: shift(change: 27, secondsAgo: 100)))
    #expect(waiting.nextLook == now + 200)
    let open = policy.decide(facts(60, trained: 16, open: true, pending: shift(change: 20)))
    #expect(open.nextLook == now + SchedulePolicy.openJobPause)
    #expect(policy.decide(facts(17, trained: 16)).nextLook == nil)
  }

  @Test("a newer alarm takes the place of one that waits")
  func newerAlarm() {
    let result = policy.decide(facts(33, trained: 16, pending: shift(change: 20), alarm: 31))
    #expect(result.pendingShift?.changeOrdinal == 31)
    #expect(result.training == nil)
  }

  @Test("an alarm before the first adapter is trained into the first adapter")
  func alarmBeforeFirst() {
    let early = policy.decide(facts(12, alarm: 9))
    #expect(early.training == nil)
    #expect(early.pendingShift?.changeOrdinal == 9)
    let first = policy.decide(facts(16, pending: early.pendingShift))
    #expect(first.training == .firstAdapter)
    #expect(first.steps == [.train(.firstAdapter, changeOrdinal: 9)])
    #expect(first.pendingShift == nil)
  }

  @Test("candidates that are always rejected are trained once for every round of new events")
  func rejectedDoesNotLoop() {
    // Many looks at each event, as polling does; jobs end at once and never give an active adapter.
    var trained: Int64?
    var jobs: [Int64] = []
    for events: Int64 in 1...112 {
      for _ in 0..<5 {
        let result = policy.decide(facts(events, trained: trained))
        if result.training != nil {
          jobs.append(events)
          trained = events
        }
      }
    }
    #expect(jobs == [16, 48, 80, 112])
  }

  @Test("a shift whose candidate was rejected is not trained on again")
  func rejectedShift() {
    let first = policy.decide(facts(36, trained: 16, pending: shift(change: 27)))
    #expect(first.training == .shift)
    #expect(policy.decide(facts(36, trained: 36, pending: first.pendingShift)) == PolicyResult())
    #expect(policy.decide(facts(37, trained: 36, pending: first.pendingShift)) == PolicyResult())
  }
}

@Suite struct PromotionGateTests {
  private let gate = PromotionGate(minimumGain: 0.05)

  @Test("a candidate that is better by the share asked for is promoted, with its numbers")
  func better() throws {
    let record = gate.judge(parent: [1.0, 2.0, 3.0], candidate: [0.5, 1.5, 2.2])
    #expect(record.promoted)
    #expect(record.heldOutExamples == 3)
    #expect(record.parentLoss == 2.0)
    #expect(abs(try #require(record.candidateLoss) - 1.4) < 1e-12)
    #expect(abs(try #require(record.difference) + 0.6) < 1e-12)
    // Differences −0.5, −0.5, −0.8: variance 0.03; of two degrees of freedom 80 % lie below 1.0607.
    #expect(abs(try #require(record.differenceUpperBound) + 0.6 - 1.06066 * 0.1) < 1e-5)
  }

  @Test("a candidate that is worse, equal, or not better enough is not")
  func notBetter() {
    #expect(!gate.judge(parent: [2, 2], candidate: [3, 3]).promoted)
    #expect(!gate.judge(parent: [2, 2], candidate: [2, 2]).promoted)
    #expect(!gate.judge(parent: [2, 2], candidate: [1.91, 1.91]).promoted)
    #expect(gate.judge(parent: [2, 2], candidate: [1.89, 1.89]).promoted)
  }

  @Test("a candidate whose loss is no number is never promoted")
  func notFinite() {
    #expect(!gate.judge(parent: [2, 2], candidate: [1, .nan]).promoted)
    #expect(!gate.judge(parent: [2, 2], candidate: [1, .infinity]).promoted)
    #expect(!gate.judge(parent: [2, 2], candidate: [1, -.infinity]).promoted)
    #expect(!gate.judge(parent: [.nan, 2], candidate: [1, 1]).promoted)
  }

  @Test("with nothing held out, or losses that do not pair, nothing is promoted")
  func nothing() {
    for record in [
      gate.judge(parent: [], candidate: []), gate.judge(parent: [2], candidate: [1, 1]),
    ] {
      #expect(!record.promoted)
      #expect(record.candidateLoss == nil && record.parentLoss == nil)
      #expect(record.verdict.contains("nothing held out"))
    }
  }

  @Test("one held-out example is enough to judge")
  func single() {
    // With nothing that tells chance from gain it has to gain ten times as much.
    #expect(gate.judge(parent: [2], candidate: [0.9]).promoted)
    #expect(!gate.judge(parent: [2], candidate: [1.1]).promoted)
    #expect(gate.judge(parent: [2], candidate: [0.9]).differenceUpperBound == nil)
  }

  @Test("a gain that one event makes and the others deny is not beyond chance")
  func byChance() {
    let record = gate.judge(parent: [2, 2, 2, 2], candidate: [2.1, 2.1, 2.1, 0.5])
    #expect((record.candidateLoss ?? 9) < 1.9, "the mean alone would do")
    #expect(!record.promoted)
    #expect(record.verdict.contains("by chance"))
    #expect(gate.judge(parent: [2, 2, 2, 2], candidate: [1.7, 1.8, 1.6, 1.7]).promoted)
  }

  @Test("a candidate that beats an active version which is worse than no adapter has to beat both")
  func baseToo() {
    let worseThanBase = gate.judge(parent: [4, 4, 4], candidate: [3, 3, 3], base: [2, 2, 2])
    #expect(!worseThanBase.promoted)
    #expect(worseThanBase.verdict.contains("base model"))
    #expect(worseThanBase.baseLoss == 2 && worseThanBase.parentLoss == 4)
    #expect(gate.judge(parent: [4, 4, 4], candidate: [1, 1, 1], base: [2, 2, 2]).promoted)
    #expect(!gate.judge(parent: [4, 4], candidate: [1, 1], base: [2]).promoted, "no pairs")
  }

  @Test("a record can be stored, whatever the losses were")
  func storable() throws {
    let record = gate.judge(parent: [2, 2], candidate: [.nan, .infinity], base: [.nan, 2])
    #expect(throws: Never.self) { try JSONEncoder().encode(record) }
    #expect(record.verdict.contains("not a number"))
  }
}

@Suite struct LiveTrialTests {
  private let rules = LiveTrial.Rules()

  @Test("a version that is plainly worse on live events is rolled back within a few")
  func worse() {
    var trial = LiveTrial(against: 1)
    var needed = 0
    for event in 1...32 {
      needed = event
      if trial.observe(active: 6 + 0.3 * Double(event % 3), before: 2, rules: rules) { break }
    }
    #expect(trial.state == .rolledBack)
    #expect(needed <= 6)
    let again = trial.observe(active: 9, before: 1, rules: rules)
    #expect(!again, "once")
  }

  @Test("a version that is as good passes, and is rolled back by chance no more often than stated")
  func quiet() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("seed \(seed)")
    var generator = SplitMix64(seed: seed)
    var rolledBack = 0
    for _ in 0..<2_000 {
      var trial = LiveTrial(against: nil)
      for _ in 0..<40 {
        let noise = (0..<6).reduce(0.0) { sum, _ in
          sum + Double.random(in: -0.5...0.5, using: &generator)
        }
        _ = trial.observe(active: 3 + noise, before: 3, rules: rules)
      }
      if trial.state == .rolledBack { rolledBack += 1 } else { #expect(trial.state == .passed) }
    }
    // 5 % are allowed; 2,000 trials scatter by half a percent.
    #expect(rolledBack < 130, "\(rolledBack) of 2,000")
  }

  @Test("a loss that is not a number counts as the worst")
  func notANumber() {
    var trial = LiveTrial(against: 1)
    for _ in 0..<4 { _ = trial.observe(active: .nan, before: 2, rules: rules) }
    #expect(trial.state == .rolledBack)
  }

  @Test("quantiles of Student's t are those of the tables")
  func quantiles() {
    for (p, degrees, value) in [
      (0.95, 1, 6.3138), (0.95, 2, 2.9200), (0.8, 2, 1.0607), (0.975, 5, 2.5706),
      (0.99, 10, 2.7638),
      (0.9, 31, 1.3095), (0.995, 4, 4.6041),
    ] {
      #expect(abs(StudentT.quantile(p, degrees: degrees) - value) < 1e-4)
      #expect(abs(StudentT.quantile(1 - p, degrees: degrees) + value) < 1e-4)
    }
  }
}
