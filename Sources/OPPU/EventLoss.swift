// How badly an answer that came was predicted: what the shift detectors, the gate, trials and studies compare.

import FineTuning
import LanguageModel

/// Losses of answers after their prompts: the mean over the answer's tokens, end-of-text included, in nats.
public struct EventLoss: Sendable {
  public let model: LlamaModel

  public init(_ model: LlamaModel) { self.model = model }

  /// The losses of examples, many at once, in the passes of training. Blocking.
  ///
  /// - Parameters:
  ///   - adapter: the user's own, or all that was answered with, stacked; nil: `under` alone.
  ///   - under: the task's adapter, where `adapter` does not hold it.
  /// - Returns: in the order of the examples; no finite number where the model has none for it.
  /// - Throws: `TrainingError`.
  public func losses(
    of examples: [TrainingExample], adapter: Adapter?, over under: Adapter? = nil
  ) throws -> [Double] {
    guard !examples.isEmpty else { return [] }
    var configuration = TrainingConfiguration()
    // Who made the examples has cut them.
    configuration.cutoff = model.configuration.contextLength
    return try AdapterTrainer(model: model, configuration: configuration, over: under)
      .loss(of: examples, adapter: adapter).examples
  }
}
