// One user through all arms: adapters trained, queries answered.

import FineTuning
import Foundation
import LanguageModel
import OPPU
import Personalization

/// What one user gave in an evaluation; the unit that a stopped evaluation goes on after.
public struct UserOutcome: Sendable, Codable {
  /// A training of the user's own adapter.
  public struct Training: Sendable, Codable {
    /// Of one epoch, replayed ones included.
    public var examples: Int
    /// As many as the settings' tokens allowed.
    public var epochs: Int
    /// Of all epochs.
    public var tokens: Int
    /// Wall-clock time, held-out losses included.
    public var seconds: Double
    /// The mean of the batches' losses in the first epoch and in the last, in nats per token.
    public var lossFirstEpoch: Double
    public var lossLastEpoch: Double
  }

  /// The user's id.
  public var user: String
  public var historyItems: Int
  /// Golds, predictions and losses are in their order.
  public var queryIDs: [String]
  /// Nil where nobody tells.
  public var golds: [String?]
  /// By arm, in the order of the queries; nil where no answer could be read.
  public var predictions: [String: [String?]]
  /// By arm with a model: the loss of each gold in nats per token.
  public var losses: [String: [Double]]
  /// By arm: the time of its answers, and of the user's own training for it.
  public var seconds: [String: Double]
  /// By arm.
  public var trainings: [String: Training]
  /// Why this user has no answers; nil where there are.
  public var failure: String?

  public init(
    user: String, historyItems: Int, queryIDs: [String], golds: [String?],
    predictions: [String: [String?]], losses: [String: [Double]] = [:],
    seconds: [String: Double], trainings: [String: Training], failure: String? = nil
  ) {
    self.failure = failure
    self.losses = losses
    self.user = user
    self.historyItems = historyItems
    self.queryIDs = queryIDs
    self.golds = golds
    self.predictions = predictions
    self.seconds = seconds
    self.trainings = trainings
  }

  /// Queries with a known answer.
  public var measured: Int { golds.count { $0 != nil } }
}

/// Runs users through arms. The task adapters are trained before.
public struct UserEvaluation: Sendable {
  public let model: LlamaModel
  /// The queries' task, and that of the histories' items; mostly one.
  public let task: TaskDefinition
  public let historyTask: TaskDefinition
  public let settings: MethodSettings
  /// By what their prompts hold; of a variant without one, users' adapters lie on the base model.
  public let taskAdapters: [PromptVariant: Adapter]
  /// Of trainings and of answers that are drawn.
  public let seed: UInt64

  /// - Parameter historyTask: nil: the queries' own.
  public init(
    model: LlamaModel, task: TaskDefinition, historyTask: TaskDefinition? = nil,
    settings: MethodSettings, taskAdapters: [PromptVariant: Adapter], seed: UInt64
  ) {
    self.model = model
    self.task = task
    self.historyTask = historyTask ?? task
    self.settings = settings
    self.taskAdapters = taskAdapters
    self.seed = seed
  }

  /// - Throws: errors of training, prompts and inference.
  public func run(_ user: LaMPUser, arms: [Arm]) throws -> UserOutcome {
    var outcome = UserOutcome(
      user: user.id, historyItems: user.history.count, queryIDs: user.queries.map(\.id),
      golds: user.queries.map(\.gold), predictions: [:], seconds: [:], trainings: [:])
    let retriever = HistoryRetriever(
      task: historyTask, items: user.history, method: settings.examples.retrieval)
    let written =
      arms.contains { $0.variant?.profile == true }
      ? try settings.writtenProfile(
        of: user.history, task: historyTask, variant: PromptVariant(profile: true), model: model
      )?.text : nil
    // Arms with the same prompts share what is computed of them.
    let prefixes = PrefixCache(byteLimit: 64 << 20)
    let clock = ContinuousClock()
    for arm in arms {
      let begin = clock.now
      var asked: (prompt: PersonalPrompt, texts: [String], adapter: Adapter?)?
      switch arm.source {
      case .majority:
        let commonest = Self.commonest(user.history.map(\.output))
        outcome.predictions[arm.name] = user.queries.map { _ in commonest }
      case .nearest(let k):
        outcome.predictions[arm.name] = user.queries.map {
          Self.commonest(
            retriever.retrieve(text: task.queryText($0.input), k: k).map(\.output))
        }
      case .model(let tuning, let variant):
        let adapter = try adapter(tuning, variant, arm, user, written, &outcome)
        let prompt = PersonalPrompt(
          model: model, task: task, historyTask: historyTask, variant: variant, settings: settings)
        let texts = try user.queries.map {
          try prompt.texts.build(input: $0.input, after: retriever, profile: written).text
        }
        outcome.predictions[arm.name] = try model.answer(
          texts.map { question(prompt.encode($0), adapter: adapter) }, prefixes: prefixes
        ).map(\.text)
        asked = (prompt, texts, adapter)
      }
      outcome.seconds[arm.name] = (clock.now - begin) / .seconds(1)
      if let (prompt, texts, adapter) = asked {
        let losses = try model.losses(
          of: zip(texts, user.queries).compactMap { text, query in
            query.gold.map { prompt.encode(text, task.completion(for: $0)) }
          }, adapter: adapter, prefixes: prefixes)
        guard losses.allSatisfy(\.isFinite) else { throw InferenceError.notFinite }
        outcome.losses[arm.name] = losses
      }
    }
    return outcome
  }

  /// The commonest text, of equally common ones the first.
  static func commonest(_ texts: [String]) -> String? {
    var counts: [String: Int] = [:]
    for text in texts { counts[text, default: 0] += 1 }
    let most = counts.values.max()
    return texts.first { counts[$0] == most }
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

  private func adapter(
    _ tuning: Arm.Tuning, _ variant: PromptVariant, _ arm: Arm, _ user: LaMPUser,
    _ profile: String?, _ outcome: inout UserOutcome
  ) throws -> Adapter? {
    let under = taskAdapters[variant]
    guard tuning == .user else { return tuning == .task ? under : nil }
    let clock = ContinuousClock()
    let begin = clock.now
    let training = PersonalTraining(
      model: model, task: historyTask, settings: settings, variant: variant, over: under)
    guard
      let result = try training.train(
        user.history, profile: variant.profile ? profile : nil, seed: seed)
    else { return under }
    outcome.trainings[arm.name] = UserOutcome.Training(
      examples: result.examples, epochs: result.epochs, tokens: result.report.tokens,
      seconds: (clock.now - begin) / .seconds(1), lossFirstEpoch: result.report.lossFirstEpoch,
      lossLastEpoch: result.report.lossLastEpoch)
    return try Adapter.stack(
      [under, result.adapter].compactMap { $0 }, configuration: model.configuration)
  }
}
