// A promoted version on trial: its losses on the events that come, beside those of what it replaced.
//
// The gate judged on few events, and those were held out of the same weeks that it was trained on. Each event
// after the promotion is predicted by the active version and by the one that it replaced (or by the model
// without an adapter), before anybody learns from it. As soon as the active one is worse beyond doubt, it is
// rolled back. After `events` events without that it has passed.
//
// The bound is looked at after every event, so that chance gets many tries. The error allowed to the k-th look
// is 6 / (π² k²) of the whole, which sums to it (a union bound over all looks).

import Foundation

/// The trial of a promoted version, event by event. A pure value.
public struct LiveTrial: Codable, Sendable, Equatable {
  /// How a trial stands.
  public enum State: String, Codable, Sendable {
    case running, passed
    case rolledBack = "rolled_back"
  }

  /// The version that the active one replaced; nil: the model without an adapter.
  public var against: Int?
  public var state = State.running
  /// Taken so far.
  public var events = 0
  /// Sums over the events, in nats per token: of the active version, and of what it replaced.
  public var loss = 0.0
  public var lossBefore = 0.0
  /// Of the differences (active − before) and their squares.
  public private(set) var sum = 0.0
  public private(set) var sumOfSquares = 0.0
  /// Lower bound of the mean difference (active − before) at the newest look that had one.
  public private(set) var lowerBound: Double?

  enum CodingKeys: String, CodingKey {
    case against, state, events, loss, sum
    case lossBefore = "loss_before"
    case sumOfSquares = "sum_of_squares"
    case lowerBound = "lower_bound"
  }

  public init(against: Int?) { self.against = against }

  /// How long a trial goes on, and what ends it before.
  public struct Rules: Sendable, Equatable {
    /// Events after which the version has passed; 0 for no trials.
    public var events: Int
    /// Events before the first look.
    public var minimumEvents = 4
    /// Chance of rolling back a version that is not worse.
    public var error = 0.05
    /// The share by which the mean loss has to be higher, at least.
    public var margin = 0.02

    public init(events: Int = 32) { self.events = events }
  }

  /// In nats per output token; 0 before the first event.
  public var meanLoss: Double { events > 0 ? loss / Double(events) : 0 }
  /// The same, of what it replaced.
  public var meanLossBefore: Double { events > 0 ? lossBefore / Double(events) : 0 }

  /// Takes one event's losses.
  /// - Returns: whether the version has to be rolled back.
  public mutating func observe(active: Double, before: Double, rules: Rules) -> Bool {
    guard state == .running else { return false }
    // A loss that is not a number is the worst that there is; a cap keeps the sums usable.
    let active = active.isFinite ? min(active, 100) : 100
    let before = before.isFinite ? min(before, 100) : 100
    events += 1
    loss += active
    lossBefore += before
    sum += active - before
    sumOfSquares += (active - before) * (active - before)
    guard events >= rules.minimumEvents else { return false }
    let look = Double(events - rules.minimumEvents + 1)
    let allowed = rules.error * 6 / (Double.pi * Double.pi * look * look)
    lowerBound = PairedDifferences(count: events, sum: sum, sumOfSquares: sumOfSquares)
      .lowerBound(confidence: 1 - allowed)
    if let lowerBound, lowerBound > 0, meanLoss > meanLossBefore * (1 + rules.margin) {
      state = .rolledBack
      return true
    }
    if events >= rules.events { state = .passed }
    return false
  }
}
