// The one way from the texts of a task to tokens: in training, in losses, in serving and in evaluation.

import LanguageModel
import Personalization

/// Tokenises prompts and completions of a task.
///
/// What users wrote is text, also where it reads like a token that controls the model (`<|im_end|>`). Only
/// the task's own templates may hold such tokens; `PromptBuilder` takes their names out of users' texts.
public struct PromptTokens: Sendable {
  private let tokenizer: Tokenizer
  private let controls: Set<String>

  /// - Parameter prompts: how the task's prompts are built.
  public init(_ tokenizer: Tokenizer, task: TaskDefinition, historyTask: TaskDefinition? = nil) {
    self.tokenizer = tokenizer
    controls = task.controlNames.union(historyTask?.controlNames ?? [])
  }

  public func prompt(_ text: String) -> [Int32] { tokenizer.encodeText(text, controls: controls) }

  /// A completion, without the end of text.
  public func completion(_ text: String) -> [Int32] { tokenizer.encodeContinuation(text) }
}
