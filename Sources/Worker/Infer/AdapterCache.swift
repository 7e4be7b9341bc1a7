// Adapters that were used lately, bounded by bytes; in use they stay, else the least recently used goes first.

import FineTuning
import Foundation
import LanguageModel
import Personalization
import Storage

/// Loads adapters from PostgreSQL and keeps them.
actor AdapterCache {
  struct Key: Hashable, Sendable {
    let stream: Storage.Stream
    let version: Int
  }

  private let model: ServedModel
  private let stacks: Bool
  private let repository: AdapterRepository
  private let maximumBytes: Int
  private let compute = ComputeQueue("adapters")
  private var entries = RecentlyUsed<Key, Adapter>()
  private(set) var byteCount = 0

  /// - Parameter stacks: whether adapters come stacked on their task's, ready to answer.
  init(model: ServedModel, repository: AdapterRepository, maximumBytes: Int, stacks: Bool) {
    self.model = model
    self.stacks = stacks
    self.repository = repository
    self.maximumBytes = maximumBytes
  }

  /// The adapter of a version, loaded where it is not there yet. The caller's reference keeps it alive while in
  /// use, whatever the cache drops.
  /// - Throws: `DamagedAdapterError`, adapter file errors, `PostgresError`.
  func adapter(_ record: AdapterRecord) async throws -> Adapter {
    let key = Key(stream: record.stream, version: record.version)
    if let hit = entries.use(key) { return hit }
    let weights = try await repository.weights(record.stream, version: record.version)
    let adapter = try await compute.run { [model, stacks] in
      let own = try StoredAdapter.decode(record, weights: weights, model: model)
      return stacks ? try model.stack(own, task: record.task) : own
    }
    // Another request may have loaded it meanwhile; with one adapter they share what is computed of their prompts.
    if let hit = entries.use(key) { return hit }
    entries.insert(adapter, for: key)
    byteCount += adapter.byteCount
    while byteCount > maximumBytes, entries.count > 1, let oldest = entries.removeLeastRecent() {
      byteCount -= oldest.value.byteCount
    }
    return adapter
  }

  /// Forgets a stream's adapters, or all of a user's where the task is "*".
  func evict(_ stream: Storage.Stream) {
    let gone = entries.keys.filter {
      $0.stream.userID == stream.userID && (stream.task == "*" || $0.stream == stream)
    }
    for key in gone { byteCount -= entries.remove(key)?.byteCount ?? 0 }
  }
}
