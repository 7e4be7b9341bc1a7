// From texts to tokens, the same way in training, in the promotion gate, in serving and in evaluation.

import FineTuning
import Foundation
import LanguageModel
import Personalization

/// Turns the prompts of one task into tokens of one model.
public struct ExampleEncoder: Sendable {
  /// Builds prompts that leave room for the answer within the cutoff.
  public let prompts: PromptBuilder
  public let tokens: PromptTokens
  private let eos: Int32
  private let cutoff: Int

  /// - Parameters:
  ///   - historyTask: the task of retrieved items, where it is another one.
  ///   - cutoff: longest example in tokens, prompt and completion together.
  public init(
    model: LlamaModel, task: TaskDefinition, historyTask: TaskDefinition? = nil, cutoff: Int
  ) {
    let tokens = PromptTokens(model.tokenizer, task: task, historyTask: historyTask)
    let cutoff = min(cutoff, model.configuration.contextLength)
    self.tokens = tokens
    eos = model.tokenizer.eos
    self.cutoff = cutoff
    prompts = PromptBuilder(
      task: task, historyTask: historyTask,
      maximumTokens: max(16, cutoff - min(task.maximumTokens + 1, cutoff / 2)),
      countTokens: { tokens.prompt($0).count })
  }

  /// Prompt and completion in tokens; the completion ends in end-of-text, cut to its own half of the cutoff
  /// where a user wrote more than the model is to learn at once.
  public func encode(_ prompt: String, _ completion: String) -> TrainingExample {
    var target = tokens.completion(completion)
    target.append(eos)
    let question = tokens.prompt(prompt)
    target = Array(target.prefix(max(1, cutoff - min(question.count, cutoff / 2))))
    return TrainingExample(prompt: question.suffix(cutoff - target.count), completion: target)
  }

  public func encode(_ text: TrainingText) -> TrainingExample {
    encode(text.prompt, text.completion)
  }
}
