// How many false alarms a whole population of users may raise.

import Foundation

/// The false-alarm rate that each user's monitor may have, so that all users together stay within a
/// budget: alpha investing (Foster and Stine, 2008) in continuous time.
///
/// With Λ events a day over all users and an ARL0 of L events, quiet users raise Λ / L false alarms a
/// day. L is set so that this equals the budget: `falseAlarmsPerDay`, and `falseShare` for every alarm
/// that was raised in the last day. So in the long run at most `falseShare` of the alarms are false, but
/// for the fixed budget: where many users really change, more is found. Both rates are means that forget
/// at e⁻¹ a day, so a burst counts, and is forgotten.
///
/// A pure value: the clock comes from outside, the state is five numbers.
public struct AlarmBudget: Codable, Sendable, Hashable {
  /// What a population may have of false alarms, and within which ARL0.
  public struct Limits: Codable, Sendable, Hashable {
    /// False alarms a day over the population whatever else is raised.
    public var falseAlarmsPerDay: Double
    /// Further false alarms for each alarm of the last day, below one; 0 turns this off.
    public var falseShare: Double
    /// ARL0 is kept in this range of events: it never gets worse than the lower bound states.
    public var arl0: ClosedRange<Double>

    /// Values outside of what can be worked with are brought to the nearest that can.
    public init(
      falseAlarmsPerDay: Double, falseShare: Double = 0.1,
      arl0: ClosedRange<Double> = 1_000...1e7
    ) {
      self.falseAlarmsPerDay = max(falseAlarmsPerDay.isFinite ? falseAlarmsPerDay : 1, 1e-6)
      self.falseShare = min(max(falseShare.isFinite ? falseShare : 0, 0), 0.9)
      self.arl0 = max(arl0.lowerBound, 20)...max(arl0.upperBound, 20)
    }
  }

  public var limits: Limits
  private static let day = 86_400.0
  /// Since when events are counted, and until when (seconds since 1970).
  private var began: Double?
  private var now = 0.0
  /// Events and alarms, each forgotten at e⁻¹ a day.
  private var events = 0.0
  private var alarms = 0.0

  public init(limits: Limits) { self.limits = limits }

  /// Counts what the monitors of all users saw and raised up to a time; times do not go back.
  public mutating func record(events newEvents: Int, alarms newAlarms: Int, at time: Date) {
    let seconds = time.timeIntervalSince1970
    if began == nil {
      began = seconds
      now = seconds
    }
    let passed = max(0, seconds - now)
    let kept = exp(-passed / Self.day)
    events = events * kept + Double(max(0, newEvents))
    alarms = alarms * kept + Double(max(0, newAlarms))
    now += passed
  }

  /// Events a day. In the first day the rate so far; the first hour counts as an hour.
  public var eventsPerDay: Double {
    guard let began else { return 0 }
    let days = max(now - began, 3_600) / Self.day
    return events / (1 - exp(-days))
  }

  /// What each user's monitor may have now: one false alarm in so many events.
  public var arl0: Double {
    let allowed = limits.falseAlarmsPerDay + limits.falseShare * alarms
    return min(max(eventsPerDay / allowed, limits.arl0.lowerBound), limits.arl0.upperBound)
  }

  /// False alarms a day that are to be expected now.
  public var expectedFalseAlarmsPerDay: Double { eventsPerDay / arl0 }
}
