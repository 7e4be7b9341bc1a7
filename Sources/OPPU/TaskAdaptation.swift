// The task's adapter: what many users' histories teach about a task, under every user's own.

import FineTuning
import Foundation
import LanguageModel
import Personalization
import RandomNumbers

/// Trains a task adapter on users who are not its targets, with prompts of one variant.
public struct TaskAdaptation: Sendable {
  public let model: LlamaModel
  public let task: TaskDefinition
  /// Of these, `task`, `variantTokens`, `examples`, `cutoff` and `profile` decide the training.
  public let settings: MethodSettings
  /// What of the past stands in the prompts.
  public let variant: PromptVariant
  /// The adapter that training goes on from; nil to begin at the base model.
  public let parent: Adapter?

  /// - Parameter plain: the adapter for plain prompts, which others go on from where the settings say
  ///   so.
  public init(
    model: LlamaModel, task: TaskDefinition, settings: MethodSettings,
    variant: PromptVariant = .plain, plain: Adapter? = nil
  ) {
    parent = variant != .plain && settings.variantTokens > 0 ? plain : nil
    self.model = model
    self.task = task
    self.settings = settings
    self.variant = variant
  }

  /// Trains on histories, each oldest first, as often as the settings' tokens allow. Where they have
  /// more tokens than that, examples are drawn at random, later ones of a history as likely as earlier
  /// ones, and seen once: many examples teach more of a task than few that come again.
  /// - Throws: `TrainingError`, `PromptError`.
  public func train(
    _ histories: [[HistoryItem]], seed: UInt64,
    onStep: (TrainingProgress) -> Bool = { _ in true }
  ) throws -> TrainingResult {
    var adaptation = settings.task
    // What goes on draws other examples than its parent did.
    let seed = parent == nil ? seed : seed &+ 1
    if parent != nil { adaptation.maximumTokens = settings.variantTokens }
    let examples = try examples(histories, tokens: adaptation.maximumTokens, seed: seed)
    let configuration = adaptation.configuration(
      tokensInEpoch: examples.reduce(0) { $0 + $1.tokenCount }, cutoff: settings.cutoff,
      seed: seed)
    return try AdapterTrainer(model: model, configuration: configuration)
      .train(examples: examples, startingFrom: parent, onStep: onStep)
  }

  private func examples(
    _ histories: [[HistoryItem]], tokens: Int, seed: UInt64
  ) throws -> [TrainingExample] {
    let prompt = PersonalPrompt(model: model, task: task, variant: variant, settings: settings)
    var chosen = settings.examples
    chosen.heldOutMinimum = 0
    chosen.heldOutFraction = 0
    let builder = TrainingSetBuilder(prompts: prompt.texts, settings: chosen)
    // Positions are drawn before prompts are built: most of a large set is never needed.
    var places = histories.enumerated().flatMap { user, history in
      history.indices.map { (user: user, item: $0) }
    }
    var generator = SplitMix64(seed: seed)
    places.shuffle(using: &generator)
    var sets: [Int: [TrainingText]] = [:]
    var examples: [TrainingExample] = []
    var left = tokens
    for place in places {
      if sets[place.user] == nil {
        let history = histories[place.user]
        sets[place.user] = try builder.build(
          history: history,
          profile: settings.writtenProfile(
            of: history, task: task, variant: variant, model: model)?.text
        ).training
      }
      guard let text = sets[place.user]?[place.item] else { continue }
      let example = prompt.encode(text)
      left -= example.tokenCount
      guard left >= 0 || examples.isEmpty else { break }
      examples.append(example)
    }
    return examples
  }
}
