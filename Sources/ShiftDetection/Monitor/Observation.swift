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
  /// What the user chose or wrote; nil where that is nothing.
  public var output: ObservedOutput?
  /// The input's text.
  public var input: String

  public init(loss: Double? = nil, output: ObservedOutput? = nil, input: String) {
    self.loss = loss
    self.output = output
    self.input = input
  }
}

/// What can change.
public enum SignalKind: String, Codable, Sendable, CaseIterable {
  /// The active adapter predicts the user's outputs worse than it did.
  case loss
  /// The outputs themselves, or how they go with the inputs, have changed.
  case output
  /// The inputs have changed: other words, other length.
  case input
}

/// One signal's finding after one observation, alarming or not: that of its rarest test.
public struct Signal: Codable, Sendable, Hashable {
  public let kind: SignalKind
  /// What was compared: `loss`, `labels`, `rating`, `fit` (of outputs to inputs), `novelty`, or a feature
  /// of text such as `words` or `capitals`.
  public let feature: String
  /// Shiryaev-Roberts statistic for a change (nats). Nil before there are enough observations.
  public let statistic: Double?
  /// The alarm is raised at a statistic of at least this.
  public let threshold: Double?
  /// A user who does not change shows such a statistic, in this test, once in so many events.
  public let rarity: Double?
  /// The false-alarm rate that this test is allowed: one in so many events.
  public let arl0: Double
  /// The observations that were compared.
  public let observations: Int
  /// The number (from 0, since the monitor began) of the first observation after the likeliest change.
  public let changeIndex: Int?
  /// The feature before and after the likeliest change, for people.
  public let before: String
  /// As `before`, of what came after.
  public let after: String
  /// Whether `statistic` reaches `threshold`.
  public let isAlarm: Bool
  /// All that in a sentence.
  public let explanation: String
}
