// The settings of one fine-tuning.

import Foundation
import LanguageModel

/// What is trained.
public enum TrainingMethod: String, Sendable, Equatable, Codable, CaseIterable {
  case lora
  /// LoRA with trained magnitudes (arXiv 2402.09353).
  case dora
  /// Scales of keys, values and the down projection's input (arXiv 2205.05638).
  case ia3
  /// Embeddings before the prompt (arXiv 2104.08691).
  case promptTuning = "prompt_tuning"
}

/// Where the virtual tokens of prompt tuning begin; PEFT's RANDOM, SAMPLE_VOCAB and TEXT.
public enum PromptInitialization: Sendable, Equatable, Codable {
  /// Standard normal numbers, PEFT's default.
  case random
  /// The embeddings of tokens drawn from the vocabulary.
  case sampleVocabulary
  /// The embeddings of these tokens, over again where there are too few.
  case tokens([Int32])
}

/// How an adapter is trained. The defaults are those of the OPPU paper's LoRA runs.
public struct TrainingConfiguration: Sendable, Equatable, Codable {
  /// What is trained; the settings of other methods have no effect.
  public var method = TrainingMethod.lora
  /// Rank r of the LoRA factors.
  public var rank = 8
  /// The update is scaled by alpha / rank, or by alpha / √rank with ``rankStabilized``.
  public var alpha: Float = 8
  /// rsLoRA (arXiv 2312.03732): scale by alpha / √rank.
  public var rankStabilized = false
  /// The projections that get an adapter, in every layer.
  public var targets: [Projection] = [.query, .value]
  /// With (IA)³, those of the targets whose input is scaled: down_proj and o_proj can be.
  public var feedForwardTargets: [Projection] = [.down]
  /// With prompt tuning, the number of embeddings.
  public var virtualTokens = 20
  /// With prompt tuning, what the embeddings begin as.
  public var promptInitialization = PromptInitialization.random
  /// Examples per optimiser step.
  public var batchSize = 16
  /// Times that every example is gone through.
  public var epochs = 2
  /// The learning rate at the end of the warm-up, from which it falls linearly to zero.
  public var learningRate: Float = 1e-4
  /// AdamW's decoupled weight decay, on every trained parameter.
  public var weightDecay: Float = 1e-2
  /// The gradient is scaled down to this norm where it is larger.
  public var clip: Float = 0.3
  /// The part of all steps in which the learning rate rises linearly from zero; 0 to 1.
  public var warmup = 0.1
  /// Probability with which an element of the input of A is dropped while training; LoRA and DoRA.
  public var dropout: Float = 0
  /// Seeds the initial factors, the order of examples and dropout.
  public var seed: UInt64 = 0
  /// Longest example in tokens; a longer prompt loses its oldest tokens.
  public var cutoff = 2048
  /// With a held-out set: stop after this many epochs in a row without a new lowest loss.
  public var patience = 1
  /// Bytes that the whole process is planned to need at most, weights included.
  public var memoryLimit = 1_181_116_006  // 1.1 GiB

  /// The defaults: those of the OPPU paper's LoRA runs.
  public init() {}

  /// The settings for a method, with PEFT's targets of it: for (IA)³ keys, values and the down
  /// projection.
  public init(method: TrainingMethod) {
    self.method = method
    if method == .ia3 { targets = IA3Settings().targets }
  }

  /// Takes on the method of an adapter with its settings, as to go on from it.
  public mutating func take(_ adapter: AdapterMethod) {
    switch adapter {
    case .lora(let settings):
      method = settings.dora ? .dora : .lora
      rank = settings.rank
      alpha = settings.alpha
      rankStabilized = settings.rankStabilized
      targets = settings.targets
    case .ia3(let settings):
      method = .ia3
      targets = settings.targets
      feedForwardTargets = settings.feedForward
    case .promptTuning(let tokens):
      method = .promptTuning
      virtualTokens = tokens
    }
  }

  /// The method with its settings.
  public var adapterMethod: AdapterMethod {
    switch method {
    case .lora, .dora:
      .lora(
        LoRASettings(
          rank: rank, alpha: alpha, targets: targets, rankStabilized: rankStabilized,
          dora: method == .dora))
    case .ia3: .ia3(IA3Settings(targets: targets, feedForward: feedForwardTargets))
    case .promptTuning: .promptTuning(virtualTokens: virtualTokens)
    }
  }

  /// Whether training with these settings can go on from an adapter.
  public func canContinue(_ adapter: Adapter) -> Bool {
    switch (adapterMethod, adapter.methods.count == 1 ? adapter.methods.first : nil) {
    case (.lora(let ours), .lora(let theirs)):
      ours.rank == theirs.rank && ours.targets == theirs.targets && ours.dora == theirs.dora
        && abs(ours.scaling - theirs.scaling) <= 1e-6
    case (let ours, let theirs): ours == theirs
    }
  }

  /// What alpha and rank multiply the product of LoRA's factors with.
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
    if method == .ia3 {
      try require(
        Set(feedForwardTargets).isSubset(of: targets),
        "feed-forward targets must be among the targets")
      try require(
        Set(feedForwardTargets).isSubset(of: [.down, .output]),
        "(IA)³ can be trained on the input of down_proj and o_proj only")
    }
    if method == .ia3 || method == .promptTuning {
      try require(dropout == 0, "dropout is for lora and dora, not \(method.rawValue)")
    }
    if method == .promptTuning {
      try require(
        (1...4096).contains(virtualTokens), "virtual tokens must be 1 to 4096, not \(virtualTokens)"
      )
      if case .tokens(let tokens) = promptInitialization {
        try require(!tokens.isEmpty, "a prompt to begin with needs a token")
      }
    }
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
