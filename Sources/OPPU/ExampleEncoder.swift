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
  private let cutoff: Int
  private let beginning: Int32?

  /// - Parameters:
  ///   - historyTask: the task of retrieved items, where it is another one.
  ///   - cutoff: longest example in tokens, prompt and completion together.
  ///   - longestPrompt: in tokens, where a prompt is to have fewer than the cutoff leaves.
  public init(
    model: LlamaModel, task: TaskDefinition, historyTask: TaskDefinition? = nil, cutoff: Int,
    longestPrompt: Int = .max
  ) {
    let tokens = PromptTokens(model.tokenizer, task: task, historyTask: historyTask)
    let cutoff = min(cutoff, model.configuration.contextLength)
    self.tokens = tokens
    self.cutoff = cutoff
    beginning = model.tokenizer.beginning
    prompts = PromptBuilder(
      task: task, historyTask: historyTask,
      maximumTokens: min(
        longestPrompt, max(16, cutoff - min(task.maximumTokens + 1, cutoff / 2))),
      countTokens: { tokens.prompt($0).count })
  }

  /// Prompt and completion in tokens; the completion ends in end-of-text, cut to its own half of the cutoff
  /// where a user wrote more than the model is to learn at once.
  public func encode(_ prompt: String, _ completion: String) -> TrainingExample {
    var example = tokens.example(prompt, completion)
    let room = max(1, cutoff - min(example.prompt.count, cutoff / 2))
    example.completion = Array(example.completion.prefix(room))
    return example.truncated(to: cutoff, keeping: beginning) ?? example
  }

  public func encode(_ text: TrainingText) -> TrainingExample {
    encode(text.prompt, text.completion)
  }
}

extension PromptTokens {
  /// What users wrote for a task; only the task's own templates may hold control tokens. `PromptBuilder`
  /// takes their names out of users' texts.
  public init(_ tokenizer: Tokenizer, task: TaskDefinition, historyTask: TaskDefinition? = nil) {
    self.init(
      tokenizer, controls: task.controlNames.union(historyTask?.controlNames ?? []))
  }
}
