// From texts to tokens, the same way for training, for the promotion gate and for the loss signal.

import FineTuning
import Foundation
import LanguageModel
import Personalization

struct ExampleEncoder: Sendable {
  let prompts: PromptBuilder
  private let tokenizer: Tokenizer
  private let cutoff: Int

  /// - Parameter cutoff: longest example in tokens, prompt and completion together.
  init(model: LlamaModel, task: TaskDefinition, cutoff: Int) {
    let tokenizer = model.tokenizer
    self.tokenizer = tokenizer
    self.cutoff = cutoff
    prompts = PromptBuilder(
      task: task, maximumTokens: max(16, cutoff - min(task.maximumTokens + 1, cutoff / 2)),
      countTokens: { tokenizer.encode($0).count })
  }

  /// Prompt and completion in tokens; the completion ends in end-of-text, cut to its own half of the cutoff
  /// where a user wrote more than the model is to learn at once.
  func encode(_ prompt: String, _ completion: String) throws -> TrainingExample {
    var target = tokenizer.encodeContinuation(completion)
    target.append(tokenizer.eos)
    let question = tokenizer.encode(prompt)
    target = Array(target.prefix(max(1, cutoff - min(question.count, cutoff / 2))))
    return TrainingExample(prompt: question.suffix(cutoff - target.count), completion: target)
  }
}
