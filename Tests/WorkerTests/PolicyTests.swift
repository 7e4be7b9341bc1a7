// When to train, and when a candidate may serve: tables of facts and decisions.

import Foundation
import Storage
import Testing

@testable import Worker

@Suite struct SchedulePolicyTests {
  private let now = Date(timeIntervalSince1970: 1_769_850_000)

  private var policy: SchedulePolicy {
    var settings = WorkerConfiguration.Schedule()
    settings.firstAdapterEvents = 16
    settings.newEvents = 32
    settings.shiftEvents = 10
    settings.shiftPatience = .seconds(300)
    return SchedulePolicy(settings: settings)
  }

  private func facts(
    _ events: Int64, trained: Int64? = nil, open: Bool = false, pending: PendingShift? = nil,
    alarm: Int64? = nil
  ) -> StreamFacts {
    StreamFacts(
      eventCount: events, lastTrainOrdinal: trained, hasOpenJob: open, pendingShift: pending,
      alarmChange: alarm, now: now)
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
      #expect(result.job == .firstAdapter)
      #expect(result.steps == [.init(action: .train, reason: "first_adapter")])
    }
  }

  @Test("a further adapter is trained after enough new events")
  func newEvents() {
    #expect(policy.decide(facts(47, trained: 16)) == PolicyResult())
    let result = policy.decide(facts(48, trained: 16))
    #expect(result.job == .newEvents)
    #expect(result.steps == [.init(action: .train, reason: "new_events")])
  }

  @Test("nothing is enqueued while a job of the stream is open, whatever else is so")
  func openJob() {
    #expect(policy.decide(facts(16, open: true)).job == nil)
    #expect(policy.decide(facts(200, trained: 16, open: true)).job == nil)
    let pending = shift(change: 20, secondsAgo: 10_000)
    let result = policy.decide(facts(200, trained: 16, open: true, pending: pending))
    #expect(result.job == nil)
    #expect(result.pendingShift == pending, "a shift waits for the open job")
    // And is trained on at the first look after it.
    #expect(policy.decide(facts(200, trained: 16, pending: pending)).job == .shift)
  }

  @Test("an alarm is written down and waits for events of the new behaviour")
  func alarmWaits() {
    let result = policy.decide(facts(30, trained: 16, alarm: 27))
    #expect(result.steps == [.init(action: .wait, reason: "shift_detected", changeOrdinal: 27)])
    #expect(result.job == nil)
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
    #expect(result.job == (trains ? .shift : nil))
    #expect(result.pendingShift == (trains ? nil : pending))
    if trains {
      #expect(result.steps == [.init(action: .train, reason: "shift", changeOrdinal: 27)])
    }
  }

  @Test("an alarm with enough events already is trained on at once")
  func alarmTrains() {
    let result = policy.decide(facts(40, trained: 16, alarm: 27))
    #expect(result.steps.map(\.reason) == ["shift_detected", "shift"])
    #expect(result.job == .shift)
    #expect(result.pendingShift == nil)
  }

  @Test("a shift does not wait longer than its patience for events that do not come")
  func patience() {
    let young = shift(change: 27, secondsAgo: 299)
    #expect(policy.decide(facts(30, trained: 16, pending: young)).job == nil)
    let old = shift(change: 27, secondsAgo: 300)
    #expect(policy.decide(facts(30, trained: 16, pending: old)).job == .shift)
  }

  @Test("new events do not train over a shift that waits")
  func shiftBeforeNewEvents() {
    let pending = shift(change: 95)
    let result = policy.decide(facts(100, trained: 16, pending: pending))
    #expect(result.job == nil)
    #expect(result.pendingShift == pending)
  }

  @Test("a newer alarm takes the place of one that waits")
  func newerAlarm() {
    let result = policy.decide(facts(33, trained: 16, pending: shift(change: 20), alarm: 31))
    #expect(result.pendingShift?.changeOrdinal == 31)
    #expect(result.job == nil)
  }

  @Test("an alarm before the first adapter is trained into the first adapter")
  func alarmBeforeFirst() {
    let early = policy.decide(facts(12, alarm: 9))
    #expect(early.job == nil)
    #expect(early.pendingShift?.changeOrdinal == 9)
    let first = policy.decide(facts(16, pending: early.pendingShift))
    #expect(first.job == .firstAdapter)
    #expect(first.steps.last?.changeOrdinal == 9)
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
        if result.job != nil {
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
    #expect(first.job == .shift)
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
    // Differences −0.5, −0.5, −0.8: variance 0.03, so −0.6 + 1.645 · √(0.03 / 3).
    #expect(abs(try #require(record.differenceUpperBound) + 0.4355) < 1e-9)
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
    let record = gate.judge(parent: [2], candidate: [1])
    #expect(record.promoted)
    #expect(record.differenceUpperBound == -1)
  }
}
