import Foundation
import RandomNumbers
import Testing

@testable import ShiftDetection

@Suite struct AlarmBudgetTests {
  let start = Date(timeIntervalSince1970: 1_800_000_000)

  @Test(
    "quiet users together raise as many false alarms a day as the budget, however many there are")
  func quietPopulation() {
    for users in [100, 10_000] {
      var budget = AlarmBudget(limits: .init(falseAlarmsPerDay: 4, falseShare: 0, arl0: 100...1e9))
      var generator = SplitMix64(seed: 31)
      var falseAlarms = 0
      let days = 60
      for hour in 0..<(24 * days) {
        // Ten events a user and day; each alarms with a chance of 1 / ARL0.
        let events = users * 10 / 24
        let rate = Double(events) / budget.arl0
        falseAlarms += poisson(rate, &generator)
        budget.record(
          events: events, alarms: 0, at: start.addingTimeInterval(Double(hour) * 3_600))
      }
      print("\(users) users, seed 31: \(falseAlarms) false alarms in \(days) days, budget 4 a day")
      #expect(abs(Double(falseAlarms) - 240) < 4 * 240.0.squareRoot() + 10)
      #expect(abs(budget.expectedFalseAlarmsPerDay - 4) < 0.01)
    }
  }

  func poisson(_ rate: Double, _ generator: inout SplitMix64) -> Int {
    var count = 0
    var product = generator.unit()
    while product > exp(-rate) {
      product *= generator.unit()
      count += 1
    }
    return count
  }

  @Test(
    "where many users really change, alarms come at a lower threshold, and a stated share is false")
  func discoveries() {
    var budget = AlarmBudget(limits: .init(falseAlarmsPerDay: 1, falseShare: 0.1, arl0: 100...1e9))
    var generator = SplitMix64(seed: 32)
    var (falseAlarms, alarms) = (0, 0)
    let quiet = AlarmBudget(limits: budget.limits)
    for hour in 0..<(24 * 90) {
      let events = 20_000
      let wrong = poisson(Double(events) / budget.arl0, &generator)
      // Two hundred real changes a day, found whatever the threshold.
      let right = poisson(200.0 / 24, &generator)
      if hour > 48 {
        falseAlarms += wrong
        alarms += wrong + right
      }
      budget.record(
        events: events, alarms: wrong + right, at: start.addingTimeInterval(Double(hour) * 3_600))
    }
    let share = Double(falseAlarms) / Double(alarms)
    print("seed 32: \(falseAlarms) of \(alarms) alarms are false")
    #expect(share < 0.1 + 1.0 / 200 + 0.02)
    #expect(budget.arl0 < 480_000 / (1 + 0.05 * 200), "one a day alone would be 480,000")
    #expect(quiet.arl0 == 100)
  }

  @Test("a burst of alarms is forgotten after some days, and the clock never goes back")
  func forgetting() {
    var budget = AlarmBudget(limits: .init(falseAlarmsPerDay: 1, falseShare: 0.1, arl0: 100...1e9))
    for hour in 0..<240 {
      budget.record(
        events: 1_000, alarms: hour == 100 ? 500 : 0,
        at: start.addingTimeInterval(Double(hour) * 3_600))
    }
    #expect(abs(budget.arl0 - 24_000) < 4_500)
    let before = budget
    budget.record(events: 0, alarms: 0, at: start)
    #expect(budget == before)
    budget.record(events: -5, alarms: -5, at: start.addingTimeInterval(240 * 3_600))
    #expect(budget.arl0.isFinite)
  }

  @Test("limits that cannot be are brought to the nearest that can, and the state survives JSON")
  func limits() throws {
    let limits = AlarmBudget.Limits(
      falseAlarmsPerDay: -.infinity, falseShare: 7, arl0: -5...(-1))
    #expect(limits.falseAlarmsPerDay == 1 && limits.falseShare == 0.9 && limits.arl0 == 20...20)
    var budget = AlarmBudget(limits: .init(falseAlarmsPerDay: 3))
    budget.record(events: 12_345, alarms: 7, at: start.addingTimeInterval(0.1))
    budget.record(events: 777, alarms: 1, at: start.addingTimeInterval(12_345.678))
    let copy = try JSONDecoder().decode(AlarmBudget.self, from: JSONEncoder().encode(budget))
    #expect(copy == budget)
  }
}
