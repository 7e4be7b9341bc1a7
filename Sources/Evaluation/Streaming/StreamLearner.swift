// What predicts the events of a stream and learns from them: the model with the user's adapter.

import FineTuning
import Foundation
import JSON
import LanguageModel
import OPPU
import Personalization

/// Predicts and learns. Of an event that is to be predicted it is shown the input alone.
public protocol StreamLearner {
  /// What was learnt.
  associatedtype Knowledge

  /// The answer to an input; nil where none can be read.
  /// - Parameter earlier: the user's events before it.
  func answer(
    _ input: [String: JSONValue], earlier: HistoryRetriever, with knowledge: Knowledge?
  ) throws -> String?

  /// How badly an event was predicted, in nats per token of its output.
  func loss(
    of item: HistoryItem, earlier: HistoryRetriever, with knowledge: Knowledge
  ) throws -> Double

  /// Learns from the events so far.
  /// - Parameters:
  ///   - knowledge: what to go on from.
  ///   - changedAt: the position of the first event of the behaviour that is to be learnt.
  /// - Returns: nil where there was nothing to learn.
  func learn(
    _ history: [HistoryItem], from knowledge: Knowledge?, changedAt: Int?
  ) throws -> (knowledge: Knowledge, cost: StreamTrainingCost)?
}

/// What one training computed.
public struct StreamTrainingCost: Codable, Sendable, Hashable {
  /// Examples of an epoch, and how many of them had been learnt before.
  public var examples: Int
  public var replayed: Int
  /// Times that every example was gone through.
  public var epochs: Int
  /// Tokens of all epochs.
  public var tokens: Int
  /// Wall-clock time.
  public var seconds: Double

  public init(examples: Int, replayed: Int, epochs: Int, tokens: Int, seconds: Double) {
    self.examples = examples
    self.replayed = replayed
    self.epochs = epochs
    self.tokens = tokens
    self.seconds = seconds
  }
}

/// The user's adapter over the task's, trained as the worker trains it.
public struct AdapterLearner: StreamLearner {
  /// What a training left.
  public struct Knowledge: Sendable {
    /// The user's own.
    public let adapter: Adapter
    /// Over the task's.
    public let stacked: Adapter
    /// Events of the stream that it was trained on or could have been.
    public let trainedThrough: Int
    /// What the model wrote of the user for its prompts.
    public let profile: UserProfile?
  }

  /// How the adapters are trained, over which adapter, and what stands in the prompts.
  public let training: PersonalTraining
  private let prompt: PersonalPrompt
  private let seed: UInt64
  /// An event's loss finds the prompt that its answer had.
  private let prefixes = PrefixCache(byteLimit: 32 << 20)

  private var model: LlamaModel { training.model }
  private var task: TaskDefinition { training.task }

  /// - Parameter seed: of trainings and of answers that are drawn.
  public init(training: PersonalTraining, seed: UInt64) {
    self.training = training
    self.seed = seed
    prompt = PersonalPrompt(
      model: training.model, task: training.task, variant: training.variant,
      settings: training.settings)
  }

  /// The model's answer with both adapters; before the first training with the task's, if any.
  public func answer(
    _ input: [String: JSONValue], earlier: HistoryRetriever, with knowledge: Knowledge?
  ) throws -> String? {
    var question = Question(
      task: task,
      prompt: prompt.encode(
        try prompt.texts.build(
          input: input, after: earlier, profile: knowledge?.profile?.text
        ).text),
      adapter: knowledge?.stacked ?? training.under)
    if case .free(let temperature, let topK, let topP) = training.settings.decoding {
      question.isFree = true
      question.sampling = SamplingOptions(
        temperature: temperature, topK: topK, topP: topP, seed: seed)
    }
    return try model.answer([question], prefixes: prefixes).first?.text
  }

  /// The loss with both adapters.
  public func loss(
    of item: HistoryItem, earlier: HistoryRetriever, with knowledge: Knowledge
  ) throws -> Double {
    try model.losses(
      of: [prompt.example(item, after: earlier, profile: knowledge.profile?.text)],
      adapter: knowledge.stacked, prefixes: prefixes)[0]
  }

  /// Trains the user's adapter, from the one before if there is one, and writes a profile where
  /// prompts have one.
  /// - Throws: `TrainingError`, `PromptError`, `InferenceError`.
  public func learn(
    _ history: [HistoryItem], from knowledge: Knowledge?, changedAt: Int?
  ) throws -> (knowledge: Knowledge, cost: StreamTrainingCost)? {
    let clock = ContinuousClock()
    let begin = clock.now
    let profile = try training.settings.writtenProfile(
      of: history, task: task, variant: training.variant, model: model,
      since: changedAt.map { history[$0].eventID }, after: knowledge?.profile)
    let trained = try training.train(
      history, from: knowledge?.adapter, trainedThrough: knowledge?.trainedThrough ?? 0,
      changedAt: changedAt, profile: profile?.text, seed: seed)
    guard let trained else { return nil }
    let stacked = try Adapter.stack(
      [training.under, trained.adapter].compactMap(\.self), configuration: model.configuration)
    return (
      Knowledge(
        adapter: trained.adapter, stacked: stacked, trainedThrough: trained.trainedThrough,
        profile: profile),
      StreamTrainingCost(
        examples: trained.examples, replayed: trained.replayed, epochs: trained.epochs,
        tokens: trained.report.tokens, seconds: (clock.now - begin) / .seconds(1))
    )
  }
}
