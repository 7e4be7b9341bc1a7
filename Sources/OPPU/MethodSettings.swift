// The settings of the method as one value: what is trained, on what, and how answers are made.

import FineTuning
import Foundation
import LanguageModel
import Personalization

/// How one adapter is trained on examples of a task.
public struct AdaptationSettings: Sendable, Equatable, Codable {
  /// Optimiser, PEFT method and epochs; the seed is set by each training.
  public var training: TrainingConfiguration
  /// The most tokens that a training computes: epochs, then examples, are reduced to it.
  public var maximumTokens: Int

  /// - Parameter maximumTokens: over all epochs.
  public init(training: TrainingConfiguration, maximumTokens: Int) {
    self.training = training
    self.maximumTokens = maximumTokens
  }

  /// The training's settings for examples of these lengths: as many epochs as the tokens allow.
  public func configuration(
    tokensInEpoch tokens: Int, cutoff: Int, seed: UInt64
  ) -> TrainingConfiguration {
    var configuration = training
    configuration.cutoff = cutoff
    configuration.epochs = max(1, min(training.epochs, maximumTokens / max(1, tokens)))
    configuration.seed = seed
    return configuration
  }
}

/// How an answer is taken from the model.
public enum AnswerDecoding: Sendable, Equatable, Codable {
  /// Labels and ratings by the likelihood of every possible answer, texts greedily.
  case constrained
  /// A continuation that is sampled freely and then read, as the paper does.
  case free(temperature: Float, topK: Int, topP: Float)
}

/// All settings of the method.
public struct MethodSettings: Sendable, Equatable, Codable {
  /// The preset's, which stays when single settings are changed.
  public var name: String
  /// The personal adapter of one user.
  public var user: AdaptationSettings
  /// The task adapter of many users, under the personal ones.
  public var task: AdaptationSettings
  /// Tokens of the task adapters for prompts with items or a profile, which go on from the one for
  /// plain prompts: what it has learnt of the task need not be learnt again. 0: they are trained from
  /// scratch like that one.
  public var variantTokens: Int
  /// What of a history is trained on, held out and replayed.
  public var examples: TrainingSetSettings
  /// The longest example in tokens, answer included.
  public var cutoff: Int
  /// How the answers to evaluated questions are made.
  public var decoding: AnswerDecoding
  /// Who writes the profile of prompts that have one.
  public var profile: UserProfile.Kind

  /// - Parameters:
  ///   - variantTokens: 0 to train task adapters of other prompts from scratch.
  ///   - cutoff: in tokens.
  public init(
    name: String, user: AdaptationSettings, task: AdaptationSettings, variantTokens: Int = 0,
    examples: TrainingSetSettings, cutoff: Int, decoding: AnswerDecoding,
    profile: UserProfile.Kind = .computed
  ) {
    self.profile = profile
    self.name = name
    self.user = user
    self.task = task
    self.variantTokens = variantTokens
    self.examples = examples
    self.cutoff = cutoff
    self.decoding = decoding
  }

  /// These settings without what has no influence on task adapters, for comparing.
  public var ofTaskAdapters: MethodSettings {
    var settings = self
    settings.name = ""
    settings.user = task
    settings.decoding = .constrained
    return settings
  }

  /// Kinds of prompts in the order in which their task adapters are trained, the one that others go
  /// on from first.
  public func withParents(_ variants: [PromptVariant]) -> [PromptVariant] {
    guard variantTokens > 0, variants.contains(where: { $0 != .plain }) else { return variants }
    return [.plain] + variants.filter { $0 != .plain }
  }

  /// These settings with users' adapters of another PEFT method, at a learning rate of its kind: the
  /// few numbers of (IA)³ and of a prompt need larger steps than LoRA's factors.
  public func training(_ method: TrainingMethod) -> MethodSettings {
    var settings = self
    settings.user.training.method = method
    switch method {
    case .lora, .dora: break
    case .ia3:
      settings.user.training.learningRate = 1e-2
      settings.user.training.targets = IA3Settings().targets
      settings.user.training.dropout = 0
    case .promptTuning:
      settings.user.training.learningRate = 3e-2
      settings.user.training.dropout = 0
    }
    return settings
  }

  /// These settings with the newest events held out, by which a gate before serving judges.
  public var withHeldOutEvents: MethodSettings {
    var settings = self
    let standard = TrainingSetSettings()
    settings.examples.heldOutFraction = standard.heldOutFraction
    settings.examples.heldOutMinimum = standard.heldOutMinimum
    return settings
  }

  /// The settings with a name in ``presets``.
  /// - Throws: ``UnknownPresetError``.
  public static func preset(_ name: String) throws -> MethodSettings {
    guard let settings = presets.first(where: { $0.name == name }) else {
      throw UnknownPresetError(name: name)
    }
    return settings
  }

  /// All presets, the one for use first.
  public static let presets = [standard, alone, reference]

  /// What measures best on the default model, a small one: docs/presets.md has the search.
  public static let standard: MethodSettings = {
    var training = TrainingConfiguration()
    training.rank = 8
    training.alpha = 16
    training.targets = Projection.allCases
    training.learningRate = 6e-4
    training.clip = 1
    training.batchSize = 4
    training.epochs = 3
    var task = training
    task.learningRate = 1e-3
    // Nothing is held out: there is no gate where an adapter is not served.
    var examples = TrainingSetSettings()
    examples.heldOutFraction = 0
    examples.heldOutMinimum = 0
    return MethodSettings(
      name: "default",
      user: AdaptationSettings(training: training, maximumTokens: 12_000),
      task: AdaptationSettings(training: task, maximumTokens: 120_000),
      examples: examples, cutoff: 384, decoding: .constrained)
  }()

  /// For users' adapters with no task adapter under them: each has the task to learn as well as the
  /// user, so it is trained longer and at a higher rate.
  public static let alone: MethodSettings = {
    var settings = standard
    settings.name = "alone"
    settings.user.training.learningRate = 2e-3
    settings.user.training.epochs = 6
    settings.user.maximumTokens = 40_000
    settings.examples.replay = 16
    settings.cutoff = 256
    return settings
  }()

  /// The paper's settings (arXiv 2402.04401, its appendix and code), made for a model of 7·10⁹
  /// parameters: rank 8 on queries and values, batches of 16, learning rate 1e-4.
  public static let reference: MethodSettings = {
    var user = TrainingConfiguration()
    user.dropout = 0.05
    user.cutoff = 2048
    var task = user
    task.targets = [.query, .key, .value]
    task.epochs = 3
    var examples = TrainingSetSettings()
    examples.heldOutFraction = 0
    examples.heldOutMinimum = 0
    return MethodSettings(
      name: "reference",
      user: AdaptationSettings(training: user, maximumTokens: .max),
      task: AdaptationSettings(training: task, maximumTokens: .max),
      examples: examples, cutoff: 2048, decoding: .free(temperature: 0.1, topK: 10, topP: 0.9))
  }()
}

/// There is no preset of that name.
public struct UnknownPresetError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let name: String

  public var description: String {
    "there is no preset \"\(name)\"; there are "
      + MethodSettings.presets.map(\.name).joined(separator: ", ")
  }
  public var errorDescription: String? { description }
}
