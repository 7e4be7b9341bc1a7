// That a streaming study's shift policy trains when the worker would.

import Foundation
import ShiftDetection
import Storage
import Testing

@testable import Evaluation
@testable import Worker

@Suite struct StudyPolicyTests {
  @Test("the study's shift policy trains at the worker's events, on the worker's changes")
  func same() {
    var generator = SystemRandomNumberGenerator()
    let seed = generator.next()
    print("seed \(seed)")
    var reasons: Set<String> = []
    for round in 0..<40 {
      var random = Steps(state: seed &+ UInt64(round))
      var settings = WorkerConfiguration.Schedule()
      settings.firstAdapterEvents = 8 + random.below(30)
      settings.newEvents = 10 + random.below(40)
      settings.shiftEvents = 4 + random.below(12)
      settings.falseAlarmEvents = 60
      let policy = SchedulePolicy(settings: settings)
      var study = StreamingSchedule(
        policy: .onShift,
        rules: StreamingRules(
          every: 1, firstAdapterEvents: settings.firstAdapterEvents,
          newEvents: settings.newEvents, shiftEvents: settings.shiftEvents,
          falseAlarmEvents: settings.falseAlarmEvents))
      var facts = StreamFacts(
        eventCount: 0, lastTrainOrdinal: nil, lastTrainAt: nil, hasOpenJob: false,
        pendingShift: nil, alarmChange: nil, now: Date(timeIntervalSince1970: 1_769_850_000))
      var lastChange: Int64?
      var label = 0
      for event in 0..<200 {
        if random.below(40) == 0 { label += 1 }
        let alarms = study.alarms.count
        let training = study.observe(
          Observation(
            output: .label("label \(random.below(6) == 0 ? 9 : label % 4)"),
            input: "words of the event \(event)"))
        // The study's monitor is the worker's; its alarm is what the worker would have seen.
        facts.eventCount = Int64(event + 1)
        facts.alarmChange =
          study.alarms.count > alarms ? study.alarms.last.map { Int64($0.changedAt + 1) } : nil
        let result = policy.decide(facts)
        facts.pendingShift = result.pendingShift
        #expect(result.job?.rawValue == training?.reason.rawValue, "round \(round), event \(event)")
        guard result.job != nil else { continue }
        reasons.insert(result.job?.rawValue ?? "")
        lastChange = result.steps.last { $0.action == .train }?.changeOrdinal ?? lastChange
        #expect(
          training?.changedAt.map { Int64($0 + 1) } == lastChange, "round \(round), event \(event)")
        facts.lastTrainOrdinal = facts.eventCount
        facts.lastTrainAt = facts.now
      }
    }
    #expect(reasons == ["first_adapter", "shift", "new_events"])
  }

  /// A small generator with a seed that can be printed.
  private struct Steps {
    var state: UInt64

    mutating func below(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % UInt64(bound))
    }
  }
}
