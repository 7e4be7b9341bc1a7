// Task adapters in a folder: PEFT folders by variant, each with what it was trained on.

import FineTuning
import Foundation
import LanguageModel
import OPPU
import Personalization

/// The folder that `oppu-worker adapt` writes and `evaluate` reads.
public struct TaskAdapterStore: Sendable {
  /// An adapter and the time that its training took.
  public struct Trained: Sendable {
    public let adapter: Adapter
    public let seconds: Double
    public let report: FineTuningReport?
  }

  /// What stands beside the PEFT files, in `task-adapter.json`.
  private struct Card: Codable {
    var task: String
    var variant: PromptVariant
    var settings: MethodSettings
    var baseFingerprint: String
    var seed: UInt64
    /// Ids of the users it was trained on: they must not be evaluated.
    var users: [String]
    var seconds: Double
  }

  public let folder: URL

  public init(folder: URL) { self.folder = folder }

  private func place(_ variant: PromptVariant) -> URL { folder.appending(path: variant.name) }

  /// The adapter of a variant; nil where there is none.
  /// - Parameter settings: where given, an adapter that was trained with others counts as none.
  /// - Throws: `OverlapError` where it has seen a user who is to be evaluated;
  ///   ``EvaluationError/folder(_:)`` where it belongs to another task or model; errors of its files.
  public func load(
    _ variant: PromptVariant, of task: TaskDefinition, model: LlamaModel, evaluated: [LaMPUser],
    settings: MethodSettings? = nil
  ) throws -> Trained? {
    let place = place(variant)
    let file = place.appending(path: "task-adapter.json")
    guard let data = try? Data(contentsOf: file) else { return nil }
    let card: Card
    do {
      card = try JSONDecoder().decode(Card.self, from: data)
    } catch {
      throw EvaluationError.folder("\(file.path) is not what oppu-worker adapt writes: \(error)")
    }
    guard card.task == task.name else {
      throw EvaluationError.folder("\(place.path) is of the task \(card.task), not \(task.name)")
    }
    guard card.baseFingerprint == model.fingerprint else {
      throw EvaluationError.folder("\(place.path) was trained on another base model")
    }
    if let settings, settings != card.settings { return nil }
    try LaMPUser.requireDisjoint(
      evaluated: evaluated,
      others: card.users.map { LaMPUser(id: $0, history: [], queries: []) })
    return Trained(
      adapter: try PEFTFolder.read(place.path, model: model), seconds: card.seconds, report: nil)
  }

  /// Trains an adapter on users and writes it.
  /// - Parameter queries: whether their queries and golds are trained on as well.
  /// - Returns: nil where `onStep` stopped it.
  public func train(
    _ adaptation: TaskAdaptation, on users: [LaMPUser], queries: Bool, seed: UInt64,
    onStep: (TrainingProgress) -> Bool = { _ in true }
  ) throws -> Trained? {
    let histories = users.map { user in
      user.history
        + (queries ? user.queries : []).map { query in
          HistoryItem(
            eventID: query.id,
            occurredAt: query.occurredAt ?? user.history.last?.occurredAt ?? .distantPast,
            input: query.input, output: query.gold)
        }
    }
    let clock = ContinuousClock()
    let begin = clock.now
    let result = try adaptation.train(histories, seed: seed, onStep: onStep)
    guard result.end != .stopped else { return nil }
    let card = Card(
      task: adaptation.task.name, variant: adaptation.variant, settings: adaptation.settings,
      baseFingerprint: adaptation.model.fingerprint, seed: seed, users: users.map(\.id),
      seconds: (clock.now - begin) / .seconds(1))
    let place = place(adaptation.variant)
    try PEFTFolder.write(
      result.adapter, to: place.path,
      baseModel: URL(fileURLWithPath: adaptation.model.path).lastPathComponent)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    try encoder.encode(card).write(
      to: place.appending(path: "task-adapter.json"), options: .atomic)
    return Trained(adapter: result.adapter, seconds: card.seconds, report: result.report)
  }
}
