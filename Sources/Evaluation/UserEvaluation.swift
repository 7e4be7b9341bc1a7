// One user through all arms: adapters trained, queries answered.

import FineTuning
import Foundation
import LanguageModel
import OPPU
import Personalization

/// A user with a history and queries whose right answers are known.
public struct EvaluatedUser: Sendable, Codable {
  public struct Query: Sendable, Codable {
    public var id: String
    public var input: [String: JSONValue]
    public var gold: String
  }
  public var id: String
  /// Oldest first.
  public var history: [HistoryItem]
  public var queries: [Query]
}

/// What one user gave in an evaluation.
public struct UserOutcome: Sendable, Codable {
  public struct Training: Sendable, Codable {
    public var examples: Int
    public var epochs: Int
    public var tokens: Int
    public var seconds: Double
    public var lossFirstEpoch: Double
    public var lossLastEpoch: Double
  }

  public var user: String
  public var historyItems: Int
  /// By arm, in the order of the user's queries; nil where no answer could be read.
  public var predictions: [String: [String?]]
  /// By arm: the time of its answers and of the user's own training for it.
  public var seconds: [String: Double]
  /// By variant's name.
  public var trainings: [String: Training]
}

/// Runs users through arms. The task adapters are trained before.
public struct UserEvaluation: Sendable {
  public let model: LlamaModel
  public let task: TaskDefinition
  public let settings: MethodSettings
  public let arms: [Arm]
  public let taskAdapters: [PromptVariant: Adapter]
  public let seed: UInt64

  public init(
    model: LlamaModel, task: TaskDefinition, settings: MethodSettings, arms: [Arm],
    taskAdapters: [PromptVariant: Adapter], seed: UInt64
  ) {
    self.model = model
    self.task = task
    self.settings = settings
    self.arms = arms
    self.taskAdapters = taskAdapters
    self.seed = seed
  }

  public func run(_ user: EvaluatedUser) throws -> UserOutcome {
    var outcome = UserOutcome(
      user: user.id, historyItems: user.history.count, predictions: [:], seconds: [:],
      trainings: [:])
    let retriever = HistoryRetriever(task: task, items: user.history)
    let clock = ContinuousClock()
    for (variant, arms) in Dictionary(grouping: arms, by: \.variant) {
      let prompts = try user.queries.map { try prompt($0.input, variant, retriever) }
      let prefixes = PrefixCache(byteLimit: 64 << 20)
      for arm in arms {
        let begin = clock.now
        let adapter = try adapter(of: arm, user, &outcome)
        let answers = try model.answer(
          prompts.map { question($0, adapter: adapter) }, prefixes: prefixes)
        outcome.predictions[arm.name] = answers.map(\.text)
        outcome.seconds[arm.name] = (clock.now - begin) / .seconds(1)
      }
    }
    return outcome
  }

  private func question(_ prompt: [Int32], adapter: Adapter?) -> Question {
    var question = Question(task: task, prompt: prompt, adapter: adapter)
    if case .free(let temperature, let topK, let topP) = settings.decoding {
      question.isFree = true
      question.sampling = SamplingOptions(
        temperature: temperature, topK: topK, topP: topP, seed: seed)
    }
    return question
  }

  private func prompt(
    _ input: [String: JSONValue], _ variant: PromptVariant, _ retriever: HistoryRetriever
  ) throws -> [Int32] {
    let encoder = ExampleEncoder(model: model, task: task, cutoff: settings.cutoff)
    let built = try encoder.prompts.build(
      input: input,
      retrieved: variant.retrieve > 0 ? retriever.retrieve(input, k: variant.retrieve) : [],
      profile: variant.profile ? ComputedProfile.text(for: retriever.items, task: task) : nil)
    return model.tokenizer.encode(built.text)
  }

  private func adapter(
    of arm: Arm, _ user: EvaluatedUser, _ outcome: inout UserOutcome
  ) throws -> Adapter? {
    let under = taskAdapters[arm.variant]
    switch arm.tuning {
    case .base: return nil
    case .task: return under
    case .user:
      let begin = Date()
      let training = PersonalTraining(
        model: model, task: task, settings: settings, variant: arm.variant, over: under)
      guard let result = try training.train(user.history, seed: seed) else { return under }
      outcome.trainings[arm.name] = UserOutcome.Training(
        examples: result.examples, epochs: result.epochs, tokens: result.report.tokens,
        seconds: Date().timeIntervalSince(begin), lossFirstEpoch: result.report.lossFirstEpoch,
        lossLastEpoch: result.report.lossLastEpoch)
      return try Adapter.stack(
        [under, result.adapter].compactMap { $0 }, configuration: model.configuration)
    }
  }
}
