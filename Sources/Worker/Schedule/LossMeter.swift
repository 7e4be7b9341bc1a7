// How well a user's active adapter predicts events that it has not seen (test, then train).

import FineTuning
import Foundation
import LanguageModel
import OPPU
import Personalization
import PostgresClient
import Storage

/// Measures losses on a thread of its own, with a few adapters kept at hand.
struct LossMeter: Sendable {
  private let model: ServedModel
  private let cache: AdapterCache
  private let repository: AdapterRepository
  private let history: HistoryRepository
  private let settings: MethodSettings
  private let variant: PromptVariant
  private let compute = ComputeQueue("losses")

  init(model: ServedModel, client: PostgresClient, configuration: WorkerConfiguration) {
    self.model = model
    repository = AdapterRepository(client)
    history = HistoryRepository(client)
    settings = configuration.train.method
    variant = configuration.prompt.variant
    cache = AdapterCache(
      model: model, repository: repository, maximumBytes: 64 << 20)
  }

  /// Mean loss per output token, in nats, by ordinal. Events without an output are left out.
  /// - Parameter version: nil: of the model without the user's adapter.
  func losses(
    of events: [WatchedEvent], stream: StreamID, version: Int?, task: TaskDefinition
  ) async throws -> [Int64: Double] {
    guard !events.isEmpty else { return [:] }
    var adapter = model.taskAdapter(task.name)
    var used: AdapterRecord?
    if let version {
      guard let record = try await repository.get(stream, version: version),
        record.baseFingerprint == model.fingerprint(for: stream.task)
      else { return [:] }
      adapter = try await cache.adapter(record)
      used = record
    }
    // As in training and in answers: from what came before each event.
    let whole = variant == .plain ? [] : try await history.events(of: stream)
    let earlier = used?.retrievable(whole) ?? whole
    let profile = used?.profile?.text
    return try await compute.run { [model, settings, variant, adapter] in
      let prompt = PersonalPrompt(
        model: model.base, task: task, variant: variant, settings: settings)
      var examples: [TrainingExample] = []
      var ordinals: [Int64] = []
      var retriever = prompt.retriever()
      var next = earlier.startIndex
      for event in events {
        while next < earlier.endIndex, earlier[next].ordinal < event.ordinal {
          retriever.append(earlier[next].item)
          next += 1
        }
        guard let output = event.output else { continue }
        let item = HistoryItem(
          eventID: "\(event.ordinal)", occurredAt: .distantPast, input: event.input, output: output)
        examples.append(try prompt.example(item, after: retriever, profile: profile))
        ordinals.append(event.ordinal)
      }
      let losses = try model.base.losses(of: examples, adapter: adapter)
      return Dictionary(zip(ordinals, losses), uniquingKeysWith: { first, _ in first })
    }
  }
}
