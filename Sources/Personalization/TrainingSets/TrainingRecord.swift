// What is kept of a training: how far it is while it runs, and its numbers afterwards.

/// How far a training is.
public struct JobProgress: Codable, Sendable, Hashable {
  /// Optimiser steps that are done, and that there will be at most.
  public var step: Int
  public var steps: Int
  /// Of the newest step, in nats per token; nil where it is no number.
  public var loss: Double?
  public var tokensPerSecond: Double?

  public init(step: Int, steps: Int, loss: Double? = nil, tokensPerSecond: Double? = nil) {
    self.step = step
    self.steps = steps
    self.loss = loss.flatMap { $0.isFinite ? $0 : nil }
    self.tokensPerSecond = tokensPerSecond.flatMap { $0.isFinite ? $0.rounded() : nil }
  }

  enum CodingKeys: String, CodingKey {
    case step, steps, loss
    case tokensPerSecond = "tokens_per_s"
  }
}

/// The numbers of a training that came to its end.
public struct TrainingNumbers: Codable, Sendable, Hashable {
  /// Different examples, and how many of them came again from before the newest events.
  public var examples: Int
  public var replayed: Int
  public var epochs: Int
  public var steps: Int
  /// Tokens that were learnt from, over all epochs.
  public var tokens: Int
  /// From the history to the gate.
  public var seconds: Double
  /// Mean training losses, in nats per token; nil where they are no numbers.
  public var lossFirstEpoch: Double?
  public var lossLastEpoch: Double?
  /// As text: a number of JSON may lose digits of it.
  public var seed: String
  /// The number of the first event that prompts of this adapter retrieve from: where the behaviour changed, and what
  /// came before tells of another; nil: from the first.
  public var retrievesFrom: Int64?

  public init(
    examples: Int, replayed: Int, epochs: Int, steps: Int, tokens: Int, seconds: Double,
    lossFirstEpoch: Double, lossLastEpoch: Double, seed: UInt64, retrievesFrom: Int64? = nil
  ) {
    self.retrievesFrom = retrievesFrom
    self.examples = examples
    self.replayed = replayed
    self.epochs = epochs
    self.steps = steps
    self.tokens = tokens
    self.seconds = seconds
    self.lossFirstEpoch = lossFirstEpoch.isFinite ? lossFirstEpoch : nil
    self.lossLastEpoch = lossLastEpoch.isFinite ? lossLastEpoch : nil
    self.seed = String(seed)
  }

  enum CodingKeys: String, CodingKey {
    case examples, replayed, epochs, steps, tokens, seconds, seed
    case lossFirstEpoch = "loss_first_epoch"
    case lossLastEpoch = "loss_last_epoch"
    case retrievesFrom = "retrieves_from"
  }
}

/// Where an adapter comes from.
public enum AdapterOrigin: Codable, Sendable, Hashable {
  case trained(TrainingNumbers)
  /// An operator brought it, from this file or folder.
  case imported(from: String)

  enum CodingKeys: String, CodingKey { case importedFrom = "imported_from" }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    if let from = try container.decodeIfPresent(String.self, forKey: .importedFrom) {
      self = .imported(from: from)
    } else {
      self = .trained(try TrainingNumbers(from: decoder))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    switch self {
    case .trained(let numbers): try numbers.encode(to: encoder)
    case .imported(let from):
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(from, forKey: .importedFrom)
    }
  }

  /// Nil for an imported one.
  public var numbers: TrainingNumbers? {
    if case .trained(let numbers) = self { numbers } else { nil }
  }
}

/// What a job that succeeded came to.
public enum JobResult: Codable, Sendable, Hashable {
  /// A new version of the adapter.
  case adapter(AdapterOrigin)
  /// No adapter, and why.
  case nothing(String)

  enum CodingKeys: String, CodingKey { case note }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    if let note = try container.decodeIfPresent(String.self, forKey: .note) {
      self = .nothing(note)
    } else {
      self = .adapter(try AdapterOrigin(from: decoder))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    switch self {
    case .adapter(let origin): try origin.encode(to: encoder)
    case .nothing(let note):
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(note, forKey: .note)
    }
  }
}
