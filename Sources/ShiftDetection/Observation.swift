// What the monitor is shown, and what it says.

import Foundation

/// What a user chose or wrote.
public enum ObservedOutput: Codable, Sendable, Hashable {
  case label(String)
  case rating(Double)
  case text(String)
}

/// One behaviour event as the monitor sees it.
public struct Observation: Codable, Sendable, Hashable {
  /// Mean loss per token (nats) of the output under the active adapter, measured before that adapter
  /// was trained on the event; nil without an adapter.
  public var loss: Double?
  public var output: ObservedOutput?
  /// The input's text.
  public var input: String

  public init(loss: Double? = nil, output: ObservedOutput? = nil, input: String) {
    self.loss = loss
    self.output = output
    self.input = input
  }
}

/// The three tests.
public enum SignalKind: String, Codable, Sendable, CaseIterable {
  /// The active adapter predicts the user's outputs worse than it did.
  case loss
  /// The outputs themselves, or how they go with the inputs, have changed.
  case output
  /// The inputs have changed: other words, other length.
  case input
}

/// One test's finding after one observation, alarming or not.
public struct Signal: Codable, Sendable, Hashable {
  public let kind: SignalKind
  /// What was compared where the statistic is largest: `loss`, `labels`, `rating`, `subject`,
  /// outputs `by subject`, or a feature of text such as `words` or `capitals`.
  public let feature: String
  /// The two-sample statistic at the likeliest change: in standard deviations under no change, or for
  /// labels in multiples of the mean under no change. Nil before there are enough observations.
  public let statistic: Double?
  /// How often the same observations in random order give at least this statistic.
  public let pValue: Double?
  /// The alarm is raised at a p-value of at most this.
  public let threshold: Double
  /// The false-alarm rate that this signal is allowed: one in so many observations.
  public let arl0: Double
  /// The observations that were compared.
  public let observations: Int
  /// The number (from 0, since the monitor began) of the first observation after the likeliest change.
  public let changeIndex: Int?
  /// The feature before and after the likeliest change, for people.
  public let before: String
  public let after: String
  public let isAlarm: Bool
}
