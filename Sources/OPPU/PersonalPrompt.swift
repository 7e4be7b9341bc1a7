// A user's prompts, the same in training, in the gate, in losses, in answers and in evaluations.

import FineTuning
import Foundation
import LanguageModel
import Personalization

/// From an input and what its user did before to the prompt, in text and in tokens of one model, and to an example whose
/// answer is known.
public struct PersonalPrompt: Sendable {
  /// Builds the texts; they leave room for the answer within the cutoff.
  public let texts: PromptBuilder
  private let tokens: PromptTokens
  private let retrieval: RetrievalMethod
  private let inputFields: Set<String>?
  private let cutoff: Int
  private let beginning: Int32?

  /// - Parameters:
  ///   - historyTask: the task of past items, where it is another one.
  ///   - variant: what of the past stands in a prompt.
  ///   - retrieval: how items are chosen.
  ///   - inputFields: those that examples are asked with; nil for all.
  ///   - cutoff: longest example in tokens, prompt and answer together.
  ///   - longestPrompt: in tokens, where a prompt is to have fewer than the cutoff leaves.
  public init(
    model: LlamaModel, task: TaskDefinition, historyTask: TaskDefinition? = nil,
    variant: PromptVariant = .plain, retrieval: RetrievalMethod = .bm25,
    inputFields: Set<String>? = nil, cutoff: Int, longestPrompt: Int = .max
  ) {
    let tokens = PromptTokens(model.tokenizer, task: task, historyTask: historyTask)
    let cutoff = min(cutoff, model.configuration.contextLength)
    self.tokens = tokens
    self.retrieval = retrieval
    self.inputFields = inputFields
    self.cutoff = cutoff
    beginning = model.tokenizer.beginning
    texts = PromptBuilder(
      task: task, historyTask: historyTask, variant: variant,
      maximumTokens: min(
        longestPrompt, max(16, cutoff - min(task.maximumTokens + 1, cutoff / 2))),
      countTokens: { tokens.prompt($0).count })
  }

  /// By the settings of the method.
  public init(
    model: LlamaModel, task: TaskDefinition, historyTask: TaskDefinition? = nil,
    variant: PromptVariant, settings: MethodSettings, longestPrompt: Int = .max
  ) {
    self.init(
      model: model, task: task, historyTask: historyTask, variant: variant,
      retrieval: settings.examples.retrieval, inputFields: settings.examples.inputFields,
      cutoff: settings.cutoff, longestPrompt: longestPrompt)
  }

  /// What prompts retrieve from.
  /// - Parameter items: oldest first.
  public func retriever(_ items: [HistoryItem] = []) -> HistoryRetriever {
    // Where nothing is retrieved, nothing need be indexed.
    HistoryRetriever(
      task: texts.historyTask, items: items,
      method: texts.variant.retrieve > 0 ? retrieval : .recency)
  }

  /// A text in tokens, with the token that the model begins texts with.
  public func encode(_ prompt: String) -> [Int32] { tokens.prompt(prompt) }

  /// Prompt and completion in tokens; the completion ends in end-of-text, cut to its own half of the cutoff
  /// where a user wrote more than the model is to learn at once.
  public func encode(_ prompt: String, _ completion: String) -> TrainingExample {
    var example = tokens.example(prompt, completion)
    let room = max(1, cutoff - min(example.prompt.count, cutoff / 2))
    example.completion = Array(example.completion.prefix(room))
    return example.truncated(to: cutoff, keeping: beginning) ?? example
  }

  /// The same for the texts of a training set.
  public func encode(_ text: TrainingText) -> TrainingExample {
    encode(text.prompt, text.completion)
  }

  /// An event as the prompt that might have asked for it, and the answer that came.
  ///
  /// - Parameters:
  ///   - earlier: what the user did before (`retriever`).
  ///   - profile: the written one; nil: the one computed of `earlier`.
  /// - Throws: `PromptError`.
  public func example(
    _ item: HistoryItem, after earlier: HistoryRetriever, profile: String? = nil
  ) throws -> TrainingExample {
    encode(
      try texts.build(item: item, fields: inputFields, after: earlier, profile: profile).text,
      texts.task.completion(for: item.output))
  }
}

extension PromptTokens {
  /// What users wrote for a task; only the task's own templates may hold control tokens. `PromptBuilder`
  /// takes their names out of users' texts.
  fileprivate init(_ tokenizer: Tokenizer, task: TaskDefinition, historyTask: TaskDefinition?) {
    self.init(
      tokenizer, controls: task.controlNames.union(historyTask?.controlNames ?? []))
  }
}
