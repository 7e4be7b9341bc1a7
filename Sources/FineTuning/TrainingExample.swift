// What a model is fine-tuned on: a prompt and the completion that it should learn to give.

import Foundation

/// One example, in tokens. The loss is on `completion` only, which ends in the end-of-text token
/// where the model is to learn to stop.
public struct TrainingExample: Sendable, Hashable, Codable {
  /// Its tokens have no loss, but lead to those of the completion.
  public var prompt: [Int32]
  /// The tokens that are learnt; with an empty prompt, all but the first.
  public var completion: [Int32]

  public init(prompt: [Int32], completion: [Int32]) {
    self.prompt = prompt
    self.completion = completion
  }

  /// Prompt and completion together.
  public var tokenCount: Int { prompt.count + completion.count }

  /// Positions that have a loss: every token of the completion that another token precedes.
  var lossCount: Int { prompt.isEmpty ? max(0, completion.count - 1) : completion.count }

  /// The example cut to at most `cutoff` tokens by dropping the oldest tokens of the prompt; nil
  /// where the completion alone is longer.
  /// - Parameter beginning: the token that stays first where the prompt begins with it, for the model
  ///   has seen no text without: `Tokenizer.beginning`.
  public func truncated(to cutoff: Int, keeping beginning: Int32?) -> TrainingExample? {
    guard completion.count <= cutoff else { return nil }
    guard tokenCount > cutoff else { return self }
    let room = cutoff - completion.count
    guard room > 0, let beginning, prompt.first == beginning else {
      return .init(prompt: prompt.suffix(room), completion: completion)
    }
    return .init(prompt: [beginning] + prompt.suffix(room - 1), completion: completion)
  }
}
