// The settings of one fine-tuning.

import Foundation
import LanguageModel

/// How an adapter is trained. The defaults are those of the OPPU paper's LoRA runs.
public struct TrainingConfiguration: Sendable, Equatable, Codable {
  /// Rank r of the LoRA factors.
  public var rank = 8
  /// The update is scaled by alpha / rank, or by alpha / √rank with ``rankStabilized``.
  public var alpha: Float = 8
  /// rsLoRA (arXiv 2312.03732): scale by alpha / √rank.
  public var rankStabilized = false
  /// The projections that get an adapter, in every layer.
  public var targets: [Projection] = [.query, .value]
  /// Examples per optimiser step.
  public var batchSize = 16
  public var epochs = 2
  /// The learning rate at the end of the warm-up, from which it falls linearly to zero.
  public var learningRate: Float = 1e-4
  /// AdamW's decoupled weight decay, on every trained parameter.
  public var weightDecay: Float = 1e-2
  /// The gradient is scaled down to this norm where it is larger.
  public var clip: Float = 0.3
  /// The part of all steps in which the learning rate rises linearly from zero; 0 to 1.
  public var warmup = 0.1
  /// Probability with which an element of an adapter's input is dropped while training.
  public var dropout: Float = 0
  /// Seeds the initial factors, the order of examples and dropout.
  public var seed: UInt64 = 0
  /// Longest example in tokens; a longer prompt loses its oldest tokens.
  public var cutoff = 2048
  /// With a held-out set: stop after this many epochs in a row without a new lowest loss.
  public var patience = 1
  /// Bytes that the whole process is planned to need at most, weights included.
  public var memoryLimit = 1_181_116_006  // 1.1 GiB

  public init() {}

  /// What alpha and rank multiply the adapter's product with.
  public var scaling: Float {
    alpha / (rankStabilized ? Float(rank).squareRoot() : Float(rank))
  }

  /// - Throws: `TrainingError.configuration` naming the first setting out of range.
  public func validate() throws {
    func require(_ holds: Bool, _ problem: String) throws {
      if !holds { throw TrainingError.configuration(problem) }
    }
    try require((1...1024).contains(rank), "rank must be 1 to 1024, not \(rank)")
    try require(alpha.isFinite && alpha > 0, "alpha must be a positive number, not \(alpha)")
    try require(!targets.isEmpty, "targets must name at least one projection")
    try require(Set(targets).count == targets.count, "targets name a projection twice")
    try require((1...65_536).contains(batchSize), "batch must be 1 to 65536, not \(batchSize)")
    try require((1...10_000).contains(epochs), "epochs must be 1 to 10000, not \(epochs)")
    try require(
      learningRate.isFinite && learningRate > 0,
      "the learning rate must be a positive number, not \(learningRate)")
    try require(
      weightDecay.isFinite && weightDecay >= 0,
      "weight decay must be zero or more, not \(weightDecay)")
    try require(clip > 0, "clip must be positive, not \(clip)")
    try require((0...1).contains(warmup), "warmup must be 0 to 1, not \(warmup)")
    try require((0..<1).contains(dropout), "dropout must be 0 to below 1, not \(dropout)")
    try require(cutoff >= 2, "the cutoff must be at least 2 tokens, not \(cutoff)")
    try require(patience >= 1, "patience must be at least 1, not \(patience)")
  }
}

/// Why a fine-tuning could not be done.
public enum TrainingError: Error, Equatable, CustomStringConvertible, LocalizedError {
  /// A setting is out of range.
  case configuration(String)
  /// There is nothing to train on.
  case noExamples
  /// An example, counted from 0, cannot be used.
  case example(Int, String)
  /// The adapter to start from or to evaluate does not fit model or settings.
  case adapter(String)
  /// The plan needs more bytes than the limit allows.
  case memory(needed: Int, limit: Int, longestExample: Int)
  /// The loss or the gradient is no longer a number.
  case diverged(step: Int)

  public var description: String {
    switch self {
    case .configuration(let problem): "Training settings: \(problem)."
    case .noExamples: "There are no examples to train on."
    case .example(let index, let problem): "Example \(index) cannot be used: \(problem)."
    case .adapter(let problem): "The adapter does not fit: \(problem)."
    case .memory(let needed, let limit, let longest):
      "Training would need \(needed >> 20) MiB for examples of up to \(longest) tokens; the limit is "
        + "\(limit >> 20) MiB."
    case .diverged(let step):
      "The loss is not a finite number at step \(step); a lower learning rate may help."
    }
  }

  public var errorDescription: String? { description }
}
