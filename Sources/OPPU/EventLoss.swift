// How badly an answer that came was predicted: what the shift detectors, the gate, trials and studies compare.

import FineTuning
import LanguageModel

extension LlamaModel {
  /// Losses of answers after their prompts: the mean over the answer's tokens, end-of-text included, in nats.
  ///
  /// Computed as answers are, where the numbers of a row do not depend on what is computed beside it: the same event has
  /// the same loss for the gate, for the detectors and in a study, to the bit. Blocking.
  ///
  /// - Parameters:
  ///   - adapter: all that would answer: the user's over the task's, stacked; nil for the base model.
  ///   - prefixes: of answers to the same prompts.
  /// - Returns: in the order of the examples; no finite number where the model has none.
  /// - Throws: `InferenceError` for examples that the model cannot take.
  public func losses(
    of examples: [TrainingExample], adapter: Adapter?, prefixes: PrefixCache? = nil
  ) throws(InferenceError) -> [Double] {
    var losses: [Double] = []
    for example in examples {
      do {
        let scores = try score(
          prompt: example.prompt, candidates: [example.completion], adapter: adapter,
          prefixes: prefixes)
        losses.append(-scores.logProbabilities[0] / Double(example.completion.count))
      } catch .notFinite {
        losses.append(.infinity)
      }
    }
    return losses
  }
}
