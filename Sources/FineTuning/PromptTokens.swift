// The one way from texts to tokens: in training, in losses, in serving, in evaluation and in `finetune`.

import LanguageModel

/// Tokenises prompts and completions.
///
/// Only a prompt begins with the tokenizer's beginning of text; a completion goes on after it.
public struct PromptTokens: Sendable {
  private let tokenizer: Tokenizer
  /// The special tokens that a prompt may name; nil: the text's author may control the model.
  private let controls: Set<String>?

  /// For what users wrote, which is text also where it reads like a token that controls the model
  /// (`<|im_end|>`).
  /// - Parameter controls: names of such tokens in a task's own templates.
  public init(_ tokenizer: Tokenizer, controls: Set<String>) {
    self.tokenizer = tokenizer
    self.controls = controls
  }

  /// For texts whose author may control the model, such as a file of examples: special tokens that are
  /// written out in them become themselves.
  public init(_ tokenizer: Tokenizer) {
    self.tokenizer = tokenizer
    controls = nil
  }

  /// A prompt, with the token that the tokenizer begins texts with, if any.
  public func prompt(_ text: String) -> [Int32] {
    guard let controls else { return tokenizer.encode(text) }
    return tokenizer.encodeText(text, controls: controls)
  }

  /// A completion, without the end of text.
  public func completion(_ text: String) -> [Int32] {
    controls == nil
      ? tokenizer.encode(text, isContinuation: true) : tokenizer.encodeContinuation(text)
  }

  /// A prompt with its completion, which ends in the end of text.
  public func example(_ prompt: String, _ completion: String) -> TrainingExample {
    TrainingExample(
      prompt: self.prompt(prompt), completion: self.completion(completion) + [tokenizer.eos])
  }
}
