// A user's own adapter from that user's history, and what the held-out events say of it.

import FineTuning
import Foundation
import LanguageModel
import Personalization

/// Trains adapters of single users for one task. A value without state that changes: a training
/// depends on the arguments of the one call and nothing else.
public struct PersonalTraining: Sendable {
  /// What a training made.
  public struct Result: Sendable {
    /// The user's own adapter, to be stacked on the task's.
    public let adapter: Adapter
    /// The figures of the training itself.
    public let report: FineTuningReport
    /// Examples trained on, and how many of them the parent had learnt before.
    public let examples: Int
    /// Of `examples`, those that the parent had learnt before.
    public let replayed: Int
    /// Times that every example was gone through: the settings', or fewer where the tokens allow no
    /// more.
    public let epochs: Int
    /// Mean losses per output token of each held-out example, in nats, in one order.
    public let heldOut: HeldOut
    /// See `TrainingSet.trainedThrough`.
    public let trainedThrough: Int
  }

  /// Held-out losses of what is compared.
  public struct HeldOut: Sendable {
    /// With the new adapter.
    public let candidate: [Double]
    /// With the adapter that training began from; without one, as `without`.
    public let parent: [Double]
    /// With the task's adapter, or the base model, alone.
    public let without: [Double]
  }

  public let model: LlamaModel
  /// Whose examples and answers they are.
  public let task: TaskDefinition
  /// Of these, `user`, `examples` and `cutoff` decide the training.
  public let settings: MethodSettings
  /// What of the past stands in the prompts.
  public let variant: PromptVariant
  /// The task's adapter.
  public let under: Adapter?

  /// - Parameter under: the task's adapter, frozen; nil to train on the base model itself.
  public init(
    model: LlamaModel, task: TaskDefinition, settings: MethodSettings,
    variant: PromptVariant = .plain, over under: Adapter? = nil
  ) {
    self.model = model
    self.task = task
    self.settings = settings
    self.variant = variant
    self.under = under
  }

  /// Trains on a history, oldest first.
  /// - Parameters:
  ///   - parent: the user's adapter to go on from, without the task's.
  ///   - trainedThrough: how many of the oldest items `parent` was trained on.
  ///   - changedAt: after a shift, the position of the first event of the new behaviour.
  ///   - profile: the written one that prompts with a profile carry (`writtenProfile` of the settings);
  ///     nil: the computed one.
  ///   - seed: with the history's length it decides everything that is drawn at random.
  ///   - onStep: called after each step; returns false to stop, which gives nil.
  /// - Returns: nil where there is nothing to train on, or `onStep` stopped.
  /// - Throws: `TrainingError`, `PromptError`.
  public func train(
    _ history: [HistoryItem], from parent: Adapter? = nil, trainedThrough: Int = 0,
    changedAt: Int? = nil, profile: String? = nil, seed: UInt64,
    onStep: (TrainingProgress) -> Bool = { _ in true }
  ) throws -> Result? {
    // Every length of a history draws anew, so that a candidate that was not good enough is not made
    // again in the same way.
    let seed = seed &+ UInt64(history.count)
    let prompt = PersonalPrompt(model: model, task: task, variant: variant, settings: settings)
    var chosen = settings.examples
    chosen.seed = seed
    let set = try TrainingSetBuilder(prompts: prompt.texts, settings: chosen).build(
      history: history, trainedThrough: trainedThrough, changedAt: changedAt,
      profile: profile)
    guard !set.training.isEmpty else { return nil }
    let training = affordable(set.training.map(prompt.encode))
    let heldOut = set.heldOut.map(prompt.encode)
    let configuration = settings.user.configuration(
      tokensInEpoch: training.reduce(0) { $0 + $1.tokenCount }, cutoff: settings.cutoff,
      seed: seed)
    let trainer = try AdapterTrainer(model: model, configuration: configuration, over: under)
    let result = try trainer.train(examples: training, startingFrom: parent, onStep: onStep)
    guard result.end != .stopped else { return nil }
    func losses(_ adapter: Adapter?) throws -> [Double] {
      let layers = [under, adapter].compactMap(\.self)
      return try model.losses(
        of: heldOut,
        adapter: layers.isEmpty
          ? nil : Adapter.stack(layers, configuration: model.configuration))
    }
    let without = try losses(nil)
    return Result(
      adapter: result.adapter, report: result.report, examples: training.count,
      replayed: set.training.filter(\.isReplay).count, epochs: configuration.epochs,
      heldOut: HeldOut(
        candidate: try losses(result.adapter),
        parent: try parent.map(losses) ?? without, without: without),
      trainedThrough: set.trainedThrough)
  }

  /// The newest examples that the tokens of a training allow, oldest first.
  private func affordable(_ examples: [TrainingExample]) -> [TrainingExample] {
    var left = settings.user.maximumTokens
    let kept = examples.reversed().prefix { example in
      left -= example.tokenCount
      return left >= 0
    }
    return kept.isEmpty ? examples.suffix(1) : kept.reversed()
  }
}
