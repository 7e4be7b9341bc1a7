// Adapters that were used lately, bounded by bytes; in use they stay, else the least recently used goes first.

import FineTuning
import Foundation
import LanguageModel
import Personalization
import Storage

/// Loads adapters from PostgreSQL and keeps them.
actor AdapterCache {
  /// A stored version. Its number alone does not tell: a user who was erased and comes back begins with 1 again.
  struct Key: Hashable, Sendable {
    let stream: StreamID
    let version: Int
    let jobID: Int64
    let weightsSHA256: String

    init(_ record: AdapterRecord) {
      stream = record.stream
      version = record.version
      jobID = record.jobID
      weightsSHA256 = record.weightsSHA256
    }
  }

  private let model: ServedModel
  private let repository: AdapterRepository
  private let maximumBytes: Int
  private let compute = ComputeQueue("adapters")
  private var entries = RecentlyUsed<Key, Adapter>()
  /// Weights that are not used again, by their hash.
  private var quarantined = RecentlyUsed<String, Bool>()
  private(set) var byteCount = 0

  private static let maximumQuarantined = 4_096

  init(model: ServedModel, repository: AdapterRepository, maximumBytes: Int) {
    self.model = model
    self.repository = repository
    self.maximumBytes = maximumBytes
  }

  /// The adapter of a version, loaded where it is not there yet. The caller's reference keeps it alive while in
  /// use, whatever the cache drops.
  /// - Throws: ``QuarantinedAdapterError``, `DamagedAdapterError`, adapter file errors, `PostgresError`.
  func adapter(_ record: AdapterRecord) async throws -> Adapter {
    if quarantined.use(record.weightsSHA256) != nil {
      throw QuarantinedAdapterError(stream: record.stream, version: record.version)
    }
    let key = Key(record)
    if let hit = entries.use(key) { return hit }
    let weights = try await repository.weights(record.stream, version: record.version)
    let adapter = try await compute.run { [model] in
      try model.stack(
        StoredAdapter.decode(record, weights: weights, model: model), task: record.task)
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

  /// Does not give these weights out again: what the model computes with them is no answer.
  func quarantine(_ record: AdapterRecord) {
    quarantined.insert(true, for: record.weightsSHA256)
    if quarantined.count > Self.maximumQuarantined { quarantined.removeLeastRecent() }
    remove { $0.weightsSHA256 == record.weightsSHA256 }
  }

  /// Forgets a stream's adapters, or all of a user's where the task is "*".
  func evict(_ stream: StreamID) {
    remove {
      $0.stream.userID.utf8.elementsEqual(stream.userID.utf8)
        && (stream.task == "*" || $0.stream == stream)
    }
  }

  /// Forgets all adapters.
  func evictAll() { remove { _ in true } }

  private func remove(where isGone: (Key) -> Bool) {
    for key in entries.keys.filter(isGone) {
      byteCount -= entries.remove(key)?.byteCount ?? 0
    }
  }
}

/// Weights that are whole and belong to the model, and with which it computes no numbers.
struct QuarantinedAdapterError: Error, CustomStringConvertible {
  let stream: StreamID
  let version: Int
  var description: String {
    "adapter \(stream) version \(version) gives no finite numbers and is not used until its weights change"
  }
}
