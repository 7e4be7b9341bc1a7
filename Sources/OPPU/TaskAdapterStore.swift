// Task adapters in a folder: PEFT folders by variant, each with what it was trained on.

import Cryptography
import ErrorText
import FineTuning
import Foundation
import LanguageModel
import Personalization

/// The folder of one task that `oppu-worker adapt` writes; `evaluate` and the worker read it.
public struct TaskAdapterStore: Sendable {
  /// An adapter and the time that its training took.
  public struct Trained: Sendable {
    /// As it is read from the folder: with what rounding its file brings.
    public let adapter: Adapter
    /// From 1, one more with every training of the same folder.
    public let version: Int
    /// SHA-256 of its weights in lower-case hex.
    public let fingerprint: String
    /// Wall-clock time of its training, by whoever trained it.
    public let seconds: Double
    /// Of the training that made it just now; nil where it was read from the folder.
    public let report: FineTuningReport?
  }

  /// What stands beside the PEFT files, in `task-adapter.json`.
  fileprivate struct Card: Codable {
    var task: String
    var variant: PromptVariant
    var version: Int
    /// Of the weights' file.
    var sha256: String
    var settings: MethodSettings
    var baseFingerprint: String
    var seed: UInt64
    /// Ids of the users it was trained on: they must not be evaluated.
    var users: [String]
    var seconds: Double
  }

  /// How an adapter is to have been trained.
  public struct Wanted: Sendable {
    /// Of these, only what has a say in task adapters is compared.
    public let settings: MethodSettings
    /// Ids of those it was trained on.
    public let users: [String]
    /// Of what was drawn at random in its training.
    public let seed: UInt64

    /// - Parameter users: ids, in the order in which they were trained on.
    public init(settings: MethodSettings, users: [String], seed: UInt64) {
      self.settings = settings
      self.users = users
      self.seed = seed
    }

    fileprivate func isMet(by card: Card) -> Bool {
      settings.ofTaskAdapters == card.settings.ofTaskAdapters && seed == card.seed
        && users == card.users
    }
  }

  /// The task's folder, which holds one folder for each variant.
  public let folder: URL

  /// The folder need not exist; training makes it.
  public init(folder: URL) { self.folder = folder }

  private func place(_ variant: PromptVariant) -> URL { folder.appending(path: variant.name) }

  /// The adapter of a variant; nil where there is none.
  /// - Parameter wanted: where given, an adapter that was trained otherwise counts as none.
  /// - Parameter evaluated: ids of users who must have had no part in its training.
  /// - Throws: ``OverlapError`` where it has seen one of them; ``TaskAdapterError`` where it belongs to
  ///   another task or model, or its files are damaged; errors of its files.
  public func load(
    _ variant: PromptVariant, of task: TaskDefinition, model: LlamaModel,
    evaluated: [String] = [], wanted: Wanted? = nil
  ) throws -> Trained? {
    let place = place(variant)
    guard let card = try card(variant) else { return nil }
    guard card.task == task.name else {
      throw TaskAdapterError(
        folder: place.path, problem: "is of the task \(card.task), not \(task.name)")
    }
    guard card.baseFingerprint == model.fingerprint else {
      throw TaskAdapterError(folder: place.path, problem: "was trained on another base model")
    }
    if let wanted, !wanted.isMet(by: card) { return nil }
    try OverlapError.refuse("users", card.users.filter(Set(evaluated).contains))
    guard try fingerprint(place) == card.sha256 else {
      throw TaskAdapterError(
        folder: place.path, problem: "has other weights than oppu-worker adapt wrote")
    }
    return Trained(
      adapter: try PEFTFolder.read(place.path, model: model), version: card.version,
      fingerprint: card.sha256, seconds: card.seconds, report: nil)
  }

  private func card(_ variant: PromptVariant) throws -> Card? {
    let file = place(variant).appending(path: "task-adapter.json")
    guard let data = try? Data(contentsOf: file) else { return nil }
    do {
      return try JSONDecoder().decode(Card.self, from: data)
    } catch {
      throw TaskAdapterError(
        folder: file.path,
        problem: "is not what oppu-worker adapt writes: \(ErrorText.reason(error))")
    }
  }

  private func fingerprint(_ place: URL) throws -> String {
    let weights = try Data(contentsOf: place.appending(path: "adapter_model.safetensors"))
    return SHA256.hash(data: weights).hexadecimal
  }

  /// Trains an adapter on users' histories and writes it.
  /// - Returns: nil where `onStep` stopped it.
  public func train(
    _ adaptation: TaskAdaptation, on users: [(id: String, history: [HistoryItem])], seed: UInt64,
    onStep: (TrainingProgress) -> Bool = { _ in true }
  ) throws -> Trained? {
    let clock = ContinuousClock()
    let begin = clock.now
    let result = try adaptation.train(users.map(\.history), seed: seed, onStep: onStep)
    guard result.end != .stopped else { return nil }
    let seconds = (clock.now - begin) / .seconds(1)
    let place = place(adaptation.variant)
    let version = ((try? card(adaptation.variant))?.version ?? 0) + 1
    try PEFTFolder.write(
      result.adapter, to: place.path,
      baseModel: URL(fileURLWithPath: adaptation.model.path).lastPathComponent,
      fingerprint: adaptation.model.fingerprint)
    let card = Card(
      task: adaptation.task.name, variant: adaptation.variant, version: version,
      sha256: try fingerprint(place), settings: adaptation.settings,
      baseFingerprint: adaptation.model.fingerprint, seed: seed, users: users.map(\.id),
      seconds: seconds)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    try encoder.encode(card).write(
      to: place.appending(path: "task-adapter.json"), options: .atomic)
    // As it will be read: what was rounded on its way into the file is rounded here too.
    return Trained(
      adapter: try PEFTFolder.read(place.path, model: adaptation.model), version: version,
      fingerprint: card.sha256, seconds: seconds, report: result.report)
  }
}

/// A task adapter that cannot be used.
public struct TaskAdapterError: Error, Equatable, CustomStringConvertible, LocalizedError {
  /// The folder of the one variant.
  public let folder: String
  /// Goes on after the folder's path.
  public let problem: String

  public init(folder: String, problem: String) {
    self.folder = folder
    self.problem = problem
  }

  public var description: String { "\(folder) \(problem)" }
  public var errorDescription: String? { description }
}
