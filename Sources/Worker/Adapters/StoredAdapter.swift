// Adapters between PostgreSQL (PEFT's configuration as JSON, safetensors bytes) and the model's memory.

import FineTuning
import Foundation
import LanguageModel
import Personalization
import Storage

enum StoredAdapter {
  /// The adapter, made to stand over its task's: DoRA's norms are those of the weights with the task's change.
  /// Computes where it is DoRA's: call it on a ``ComputeQueue``.
  /// - Throws: ``ForeignAdapterError`` for an adapter of another base model; errors of the adapter's files.
  static func decode(
    _ record: AdapterRecord, weights: Data, model: ServedModel
  ) throws -> Adapter {
    guard record.baseFingerprint == model.fingerprint(for: record.task) else {
      throw ForeignAdapterError(
        stream: record.stream, version: record.version, fingerprint: record.baseFingerprint)
    }
    let file = "adapter \(record.stream) version \(record.version)"
    return try PEFTFolder.decode(
      weights,
      settings: PEFTConfiguration(json: try JSONEncoder().encode(record.configuration), file: file),
      model: model.base, over: model.taskAdapter(record.task), file: file)
  }
}

/// The adapter was trained over another base model, or another task adapter, than is loaded.
struct ForeignAdapterError: Error, CustomStringConvertible {
  let stream: StreamID
  let version: Int
  let fingerprint: String
  var description: String {
    "adapter \(stream) version \(version) belongs to another base model or task adapter (\(shortFingerprint(fingerprint)))"
  }
}

/// The beginnings of what stands on both sides of the "+", see ``ServedModel/fingerprint(for:)``.
public func shortFingerprint(_ fingerprint: String) -> String {
  fingerprint.split(separator: "+").map { "\($0.prefix(12))…" }.joined(separator: " + ")
}
