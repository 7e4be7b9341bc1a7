// Fine-tuning an adapter on examples: the public face of this module.

import Foundation
import LanguageModel
import LinearAlgebra
import RandomNumbers

/// Where a training is; given to the callback after every step.
public struct TrainingProgress: Sendable {
  /// Steps done, of `steps`.
  public let step: Int
  /// Of the whole training, if nothing ends it before.
  public let steps: Int
  /// Counted from 1.
  public let epoch: Int
  /// Mean token loss of this step's batch, before the step.
  public let loss: Double
  /// The gradient's norm before clipping.
  public let gradientNorm: Double
  /// Of this step, by the schedule.
  public let learningRate: Float
  /// Tokens of examples per second since the start.
  public let tokensPerSecond: Double
}

/// What a training made, and its figures.
public struct TrainingResult: Sendable {
  /// How a training ended.
  public enum End: String, Sendable, Codable {
    case completed
    /// The callback returned false.
    case stopped
    /// The held-out loss did not fall any more.
    case earlyStopped
  }

  /// The trained adapter alone, without the one that it was trained over.
  public let adapter: Adapter
  public let end: End
  /// The loss of every step's batch.
  public let losses: [Double]
  /// With a held-out set: the loss before training and after each epoch.
  public let heldOutLosses: [Double]
  /// With a held-out set: the epoch, from 1, whose weights the adapter has.
  public let bestEpoch: Int?
  /// What the training was planned to take of memory.
  public let plan: MemoryPlan
  public let report: FineTuningReport
}

/// Trains and evaluates adapters of one base model. Every call blocks until it is done and
/// computes on ``ThreadPool/shared``: call it on a thread of its own, not on Swift's cooperative
/// pool. Calls from several threads at once are safe; each has its own memory.
public struct AdapterTrainer: Sendable {
  /// The base model.
  public let model: LlamaModel
  public let configuration: TrainingConfiguration
  private let weights: FrozenWeights
  /// The adapter under the trained one; it is part of the model here.
  public let under: Adapter?
  private let layout: AdapterLayout

  /// - Parameter over: an adapter, frozen, over which others are trained and evaluated: the task's
  ///   under the users'. A result is to be stacked on it.
  /// - Throws: `TrainingError` for a setting out of range or an adapter of another model.
  public init(
    model: LlamaModel, configuration: TrainingConfiguration, over under: Adapter? = nil
  ) throws {
    try configuration.validate()
    if case .tokens(let tokens) = configuration.promptInitialization,
      let token = tokens.first(where: { $0 < 0 || Int($0) >= model.configuration.vocabulary })
    {
      throw TrainingError.configuration("token \(token) of the prompt is not in the vocabulary")
    }
    if configuration.method == .ia3,
      let biased = configuration.targets.first(where: { target in
        !configuration.feedForwardTargets.contains(target)
          && model.layers[0].bias(target) != nil
      })
    {
      throw TrainingError.configuration(
        "(IA)³ cannot be trained on \(biased.rawValue) of this model, which has biases there; "
          + "choose other targets or another method")
    }
    if let under, let biased = under.scaledBiases(of: model).first {
      throw TrainingError.adapter(
        "it scales \(biased.rawValue), which has biases in this model; nothing can be trained over it"
      )
    }
    self.model = model
    self.configuration = configuration
    self.under = under
    weights = try Self.weights(model, merged: under)
    layout = AdapterLayout(shape: weights.shape, method: configuration.adapterMethod)
  }

  private static func weights(_ model: LlamaModel, merged: Adapter?) throws -> FrozenWeights {
    var weights = FrozenWeights(model)
    if let merged {
      // A stack checks that its adapters have the model's sizes.
      do {
        weights.merged = try Adapter.stack([merged], configuration: model.configuration)
      } catch { throw TrainingError.adapter(error.description) }
    }
    return weights
  }

  /// The most tokens that an example has in a training: the cutoff, or what the model's context leaves.
  public var longestExample: Int {
    min(configuration.cutoff, model.configuration.contextLength - virtualTokens)
  }

  /// What training on `examples` would need, before it starts.
  /// - Throws: `TrainingError`.
  public func memoryPlan(for examples: [TrainingExample]) throws -> MemoryPlan {
    try plan(for: try checked(examples))
  }

  /// Trains an adapter.
  /// - Parameters:
  ///   - heldOut: evaluated before training and after each epoch; training stops after `patience`
  ///     epochs without a new lowest loss, and the result has the weights of the best epoch.
  ///   - startingFrom: an adapter of the same method and settings to go on from; else PEFT's
  ///     initialisation, with which LoRA, DoRA and (IA)³ begin at the base model.
  ///   - onStep: called after every step; false stops training, and what was reached so far counts.
  /// - Throws: `TrainingError`.
  public func train(
    examples: [TrainingExample], heldOut: [TrainingExample] = [],
    startingFrom: Adapter? = nil, onStep: (TrainingProgress) -> Bool = { _ in true }
  ) throws -> TrainingResult {
    guard !examples.isEmpty else { throw TrainingError.noExamples }
    let examples = try checked(examples)
    let heldOut = try checked(heldOut)
    if let settings = startingFrom?.lora, layout.rank > 0,
      abs(settings.scaling - configuration.scaling) > 1e-6
    {
      throw TrainingError.adapter(
        "it is scaled by \(settings.scaling), these settings by \(configuration.scaling)")
    }
    let sizes = (examples + heldOut).map(\.tokenCount)
    let run = try TrainingRun(
      weights: weights, layout: layout, scaling: configuration.scaling,
      parameters: try startingFrom.map(layout.parameters)
        ?? layout.initialParameters(
          seed: configuration.seed, weights: weights, prompt: configuration.promptInitialization),
      dropout: configuration.dropout, seed: configuration.seed, longest: sizes.max() ?? 0,
      batchRows: batchRows(examples + heldOut), memoryLimit: configuration.memoryLimit)

    let size = configuration.batchSize
    let stepsPerEpoch = (examples.count + size - 1) / size
    let steps = stepsPerEpoch * configuration.epochs
    let schedule = LinearSchedule(
      warmupSteps: Int(Double(steps) * configuration.warmup), steps: steps)
    var order = SplitMix64(seed: configuration.seed ^ 0x6F72_6465_7200)
    var losses: [Double] = []
    var tokens = 0
    var end = TrainingResult.End.completed
    var heldOutLosses: [Double] = []
    var best: (epoch: Int, loss: Double, parameters: FloatBuffer)?
    var worse = 0
    let clock = ContinuousClock()
    let start = clock.now
    if !heldOut.isEmpty { heldOutLosses.append(run.loss(of: heldOut).mean) }
    training: for epoch in 1...configuration.epochs {
      let shuffled = examples.shuffled(using: &order)
      for first in stride(from: 0, to: shuffled.count, by: size) {
        let batch = Array(shuffled[first..<min(first + size, shuffled.count)])
        let step = losses.count
        let rate = configuration.learningRate * schedule.factor(step)
        let loss = run.gradient(of: batch)
        let norm = run.step(
          rate: rate, decay: configuration.weightDecay, clip: configuration.clip)
        guard loss.isFinite, norm.isFinite else { throw TrainingError.diverged(step: step + 1) }
        losses.append(loss)
        tokens += batch.reduce(0) { $0 + $1.tokenCount }
        let progress = TrainingProgress(
          step: step + 1, steps: steps, epoch: epoch, loss: loss, gradientNorm: norm,
          learningRate: rate, tokensPerSecond: Double(tokens) / ((clock.now - start) / .seconds(1)))
        if !onStep(progress) {
          end = .stopped
          break
        }
      }
      if !heldOut.isEmpty {
        let loss = run.loss(of: heldOut).mean
        heldOutLosses.append(loss)
        if loss < best?.loss ?? .infinity {
          let copy = FloatBuffer(uninitialized: run.parameters.count)
          copy.pointer.initialize(from: run.parameters.pointer, count: copy.count)
          best = (epoch, loss, copy)
          worse = 0
        } else {
          worse += 1
          if worse >= configuration.patience, epoch < configuration.epochs, end == .completed {
            end = .earlyStopped
          }
        }
      }
      if end != .completed { break training }
    }
    let seconds = (clock.now - start) / .seconds(1)
    let adapter = try layout.adapter(
      best?.parameters ?? run.parameters, model: model, over: under)
    let report = FineTuningReport(
      tokens: tokens, losses: losses, batchSize: size, examples: examples.count,
      stepsPerEpoch: stepsPerEpoch, seconds: seconds, heldOut: heldOutLosses,
      bestEpoch: best?.epoch)
    return TrainingResult(
      adapter: adapter, end: end, losses: losses, heldOutLosses: heldOutLosses,
      bestEpoch: best?.epoch, plan: run.plan, report: report)
  }

  /// The losses of examples with an adapter, or of the base model without one. Any adapter of
  /// this model will do, whatever its method and settings.
  /// - Throws: `TrainingError`.
  public func loss(of examples: [TrainingExample], adapter: Adapter?) throws -> HeldOutLoss {
    guard !examples.isEmpty else { throw TrainingError.noExamples }
    let examples = try checked(examples)
    var weights = weights
    var state: AdapterTensors?
    if let adapter {
      if let settings = adapter.lora, !settings.dora {
        let layout = AdapterLayout(shape: weights.shape, method: .lora(settings))
        state = AdapterTensors(
          layout: layout, scaling: settings.scaling, parameters: try layout.parameters(of: adapter),
          gradients: nil)
      } else {
        // Any other adapter is part of the weights meanwhile.
        do {
          weights.merged = try Adapter.stack(
            [under, adapter].compactMap { $0 }, configuration: model.configuration)
        } catch { throw TrainingError.adapter(error.description) }
      }
    }
    let virtualTokens = weights.merged?.virtualTokenCount ?? 0
    let longest = virtualTokens + (examples.map(\.tokenCount).max() ?? 0)
    let workspace = PassWorkspace(weights: weights, longest: longest)
    return TrainingRun.loss(
      of: examples,
      packs: PackedBatch.split(
        examples, rowLimit: max(longest, MemoryPlan.enoughRows), sharePrefix: true,
        virtualTokens: virtualTokens),
      workspace: workspace, adapter: state)
  }

  /// What training takes where the longest example has `longest` tokens and the largest batch
  /// `batchRows`. Throws ``TrainingError/memory`` where that is over the configuration's limit.
  public func plan(longest: Int, batchRows: Int) throws -> MemoryPlan {
    try MemoryPlan(
      weights: weights, layout: layout, drops: configuration.dropout > 0,
      longest: virtualTokens + longest, batchRows: virtualTokens + batchRows,
      limit: configuration.memoryLimit)
  }

  private func plan(for examples: [TrainingExample]) throws -> MemoryPlan {
    try plan(
      longest: examples.map(\.tokenCount).max() ?? 0, batchRows: batchRows(examples))
  }

  private var virtualTokens: Int { (under?.virtualTokenCount ?? 0) + layout.virtualTokens }

  /// The most tokens that a batch can have.
  private func batchRows(_ examples: [TrainingExample]) -> Int {
    examples.map(\.tokenCount).sorted(by: >).prefix(configuration.batchSize).reduce(0, +)
  }

  /// The examples cut to the cutoff, which no example's completion may exceed.
  private func checked(_ examples: [TrainingExample]) throws -> [TrainingExample] {
    let vocabulary = weights.shape.vocabulary
    let cutoff = longestExample
    return try examples.enumerated().map { index, example in
      guard let cut = example.truncated(to: cutoff, keeping: model.tokenizer.beginning) else {
        throw TrainingError.example(
          index,
          "its completion has \(example.completion.count) tokens, more than the cutoff of "
            + "\(cutoff)")
      }
      guard cut.lossCount > 0 else {
        throw TrainingError.example(index, "it has no token to learn")
      }
      for token in cut.prompt + cut.completion where token < 0 || Int(token) >= vocabulary {
        throw TrainingError.example(
          index, "token \(token) is not in the vocabulary of \(vocabulary)")
      }
      return cut
    }
  }
}
