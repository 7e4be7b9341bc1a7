// How well a user's active adapter predicts events that it has not seen (test, then train).

import FineTuning
import Foundation
import LanguageModel
import OPPU
import Personalization
import Storage

/// Measures losses on a thread of its own, with a few adapters kept at hand.
struct LossMeter: Sendable {
  private let model: ServedModel
  private let cache: AdapterCache
  private let repository: AdapterRepository
  private let settings: WorkerConfiguration.Train
  private let compute = ComputeQueue("losses")

  init(model: ServedModel, repository: AdapterRepository, settings: WorkerConfiguration.Train) {
    self.model = model
    self.repository = repository
    self.settings = settings
    cache = AdapterCache(
      model: model, repository: repository, maximumBytes: 64 << 20, stacks: false)
  }

  /// Mean loss per output token, in nats, by ordinal. Events without an output are left out.
  /// - Parameter version: nil: of the model without the user's adapter.
  func losses(
    of events: [WatchedEvent], stream: Storage.Stream, version: Int?, task: TaskDefinition
  ) async throws -> [Int64: Double] {
    guard !events.isEmpty else { return [:] }
    var adapter: Adapter?
    if let version {
      guard let record = try await repository.get(stream, version: version),
        record.baseFingerprint == model.fingerprint(for: stream.task)
      else { return [:] }
      adapter = try await cache.adapter(record)
    }
    let used = adapter
    return try await compute.run { [model, settings] in
      let encoder = ExampleEncoder(model: model.base, task: task, cutoff: settings.cutoff)
      var examples: [TrainingExample] = []
      var ordinals: [Int64] = []
      for event in events {
        guard let output = event.output else { continue }
        let prompt = try encoder.prompts.build(input: event.input)
        examples.append(encoder.encode(prompt.text, task.completion(for: output)))
        ordinals.append(event.ordinal)
      }
      let losses = try AdapterTrainer(
        model: model.base, configuration: TrainingConfiguration(),
        over: model.taskAdapter(task.name)
      ).loss(of: examples, adapter: used).examples
      return Dictionary(zip(ordinals, losses), uniquingKeysWith: { first, _ in first })
    }
  }
}
