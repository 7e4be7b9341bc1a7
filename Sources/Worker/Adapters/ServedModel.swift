// What users' own adapters stand on: the base model and, where there is one, their task's adapter.

import Foundation
import LanguageModel
import OPPU
import Personalization

/// The base model with the task adapters over it.
public struct ServedModel: Sendable {
  public let base: LlamaModel
  private let taskAdapters: [String: TaskAdapterStore.Trained]

  /// - Parameter taskAdapters: by the tasks' names; made over this base model.
  public init(_ base: LlamaModel, taskAdapters: [String: TaskAdapterStore.Trained] = [:]) {
    self.base = base
    self.taskAdapters = taskAdapters
  }

  /// Opens the model and the task adapters of the configuration. Blocking.
  /// - Throws: errors of the model's file; `TaskAdapterError` where the folder has none for any task,
  ///   or has a task's but not for the prompts that are configured.
  public static func load(
    _ configuration: WorkerConfiguration, catalogue: TaskCatalogue
  ) throws -> ServedModel {
    let base = try LlamaModel.load(path: configuration.model)
    guard let path = configuration.taskAdapters else { return ServedModel(base) }
    var found: [String: TaskAdapterStore.Trained] = [:]
    let variant = configuration.prompt.variant
    for name in catalogue.names {
      let folder = URL(fileURLWithPath: path).appending(path: name)
      guard FileManager.default.fileExists(atPath: folder.path) else { continue }
      let store = TaskAdapterStore(folder: folder)
      guard
        let adapter = try store.load(variant, of: try catalogue.task(named: name), model: base)
      else {
        throw TaskAdapterError(
          folder: folder.path,
          problem: "has no adapter for prompts of the kind \(variant.name) (prompt.retrieve, "
            + "prompt.profile); oppu-worker adapt --variants \(variant.name) trains one")
      }
      found[name] = adapter
    }
    guard !found.isEmpty else {
      throw TaskAdapterError(
        folder: path,
        problem: "has no folder that is called like a task; oppu-worker adapt makes them"
      )
    }
    return ServedModel(base, taskAdapters: found)
  }

  /// The tasks that have an adapter, by name.
  public var tasks: [String] { taskAdapters.keys.sorted() }

  func taskAdapter(_ task: String) -> Adapter? { taskAdapters[task]?.adapter }

  func taskAdapterVersion(_ task: String) -> Int? { taskAdapters[task]?.version }

  /// What a user's adapter belongs to, for it is of use over exactly that: the base model's fingerprint,
  /// and behind a "+" that of the task's adapter.
  public func fingerprint(for task: String) -> String {
    guard let adapter = taskAdapters[task] else { return base.fingerprint }
    return "\(base.fingerprint)+\(adapter.fingerprint)"
  }

  /// Computes a few tokens with a user's adapter, as it would answer. Blocking.
  /// - Throws: ``UselessAdapterError`` where they are no finite numbers; `AdapterError`, `InferenceError`.
  public func tryOut(_ own: Adapter, task: String) throws {
    do {
      _ = try base.losses(
        of: base.tokenizer.encode("What users did, and what they will do next: 1, 2, 3."),
        adapter: try stack(own, task: task))
    } catch InferenceError.notFinite {
      throw UselessAdapterError()
    }
  }

  /// A user's adapter over the task's.
  func stack(_ own: Adapter, task: String) throws -> Adapter {
    guard let under = taskAdapter(task) else { return own }
    return try Adapter.stack([under, own], configuration: base.configuration)
  }
}

/// An adapter whose weights are finite and too large to compute with.
public struct UselessAdapterError: Error, CustomStringConvertible {
  public var description: String {
    "with this adapter the model computes no finite numbers; its weights are damaged"
  }
}
