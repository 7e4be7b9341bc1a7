// The paper's studies beside the comparison of arms (arXiv 2402.04401): a shift of behaviour, histories in
// another format, PEFT methods; and how the held-out loss falls with every event.

import EvaluationReport
import FineTuning
import Foundation
import LanguageModel
import OPPU
import Personalization

/// Runs studies on the users of an evaluation, over its task adapters. Blocking.
public struct PaperStudies: Sendable {
  /// Which study.
  public enum Kind: String, CaseIterable, Sendable {
    /// Histories like the queries against histories unlike them.
    case shift
    /// Histories as plain text lines instead of the task's questions and answers.
    case formats
    /// LoRA, DoRA, (IA)³ and prompt tuning.
    case methods
    /// Held-out loss over the number of events trained on.
    case curves
  }

  public let model: LlamaModel
  public let dataset: LaMPDataset
  /// Examples are asked with the fields that the dataset's queries have.
  public let settings: MethodSettings
  /// By what their prompts hold.
  public let taskAdapters: [PromptVariant: Adapter]
  /// Those whose histories are long enough for halves and curves.
  public let users: [LaMPUser]
  /// Of all that is drawn at random.
  public let seed: UInt64

  /// Users whose history has fewer items tell nothing of halves and curves.
  private static let minimumItems = 8

  /// - Parameter taskAdapters: those of the evaluation, by kind of prompt.
  public init(
    model: LlamaModel, dataset: LaMPDataset, settings: MethodSettings,
    taskAdapters: [PromptVariant: Adapter], users: Int?, seed: UInt64
  ) {
    self.model = model
    self.dataset = dataset
    var settings = settings
    settings.examples.inputFields = dataset.queryFields
    self.settings = settings
    self.taskAdapters = taskAdapters
    self.users = dataset.users.prefix(users ?? .max).filter {
      $0.history.count >= Self.minimumItems
    }
    self.seed = seed
  }

  // MARK: Shift

  /// Answers with only that half of each history that is most like the user's queries, and with the
  /// other half.
  /// - Throws: errors of training and inference; `EvaluationError.stopped` where `progress` says so.
  public func shift(
    arms: [Arm], progress: (Int, Int) -> Bool = { _, _ in true }
  ) throws -> ShiftStudy {
    var (like, unlike): ([UserOutcome], [UserOutcome]) = ([], [])
    for (number, user) in users.enumerated() {
      guard progress(number, users.count) else { throw EvaluationError.stopped }
      let halves = halves(of: user)
      let pair = try withOwnFaults {
        (
          try evaluation().run(halves.like, arms: arms),
          try evaluation().run(halves.unlike, arms: arms)
        )
      }
      guard let pair = pair.value else { continue }
      like.append(pair.0)
      unlike.append(pair.1)
    }
    func slice(_ outcomes: [UserOutcome]) -> Slice {
      Slice(
        users: outcomes.count, n: outcomes.reduce(0) { $0 + $1.measured },
        arms: Summary(task: dataset.task, arms: arms, outcomes: outcomes, seed: seed)
          .estimates(outcomes))
    }
    return ShiftStudy(
      text: "The same queries with two histories of one length: before, the half of a user's items "
        + "that BM25 finds nearest to the queries; after, the other half, as if the behaviour had "
        + "shifted.",
      before: slice(like), after: slice(unlike))
  }

  /// A history in two halves, each in order of time: by an item's best rank among all queries.
  func halves(of user: LaMPUser) -> (like: LaMPUser, unlike: LaMPUser) {
    let retriever = HistoryRetriever(task: dataset.historyTask, items: user.history)
    var best: [String: Int] = [:]
    for query in user.queries {
      let found = retriever.retrieve(
        text: dataset.task.queryText(query.input), k: user.history.count)
      for (rank, item) in found.enumerated() {
        best[item.eventID] = min(best[item.eventID] ?? .max, rank)
      }
    }
    let ranked = user.history.enumerated().sorted {
      (best[$0.element.eventID] ?? .max, $0.offset) < (best[$1.element.eventID] ?? .max, $1.offset)
    }
    let near = Set(ranked.prefix(user.history.count / 2).map(\.offset))
    var (like, unlike) = (user, user)
    like.history = user.history.enumerated().filter { near.contains($0.offset) }.map(\.element)
    // Of one length, so that only the content differs.
    unlike.history = user.history.enumerated().filter { !near.contains($0.offset) }
      .map(\.element).suffix(near.count)
    return (like, unlike)
  }

  // MARK: Formats and methods

  /// The user's adapter from histories in the task's own format and as plain text.
  public func formats(progress: (Int, Int) -> Bool = { _, _ in true }) throws -> Study {
    let text = try dataset.historyTask.asPlainText()
    var plain = settings
    plain.examples.inputFields = nil
    let arms = try [Arm("task", retrieve: 1), Arm("oppu", retrieve: 1)]
    var (own, other): ([UserOutcome], [UserOutcome]) = ([], [])
    for (number, user) in users.enumerated() {
      guard progress(number, users.count) else { throw EvaluationError.stopped }
      var lines = user
      lines.history = user.history.compactMap(dataset.historyTask.plainText)
      let pair = try withOwnFaults {
        (
          try evaluation().run(user, arms: arms),
          try UserEvaluation(
            model: model, task: dataset.task, historyTask: text, settings: plain,
            taskAdapters: taskAdapters, seed: seed
          ).run(lines, arms: [arms[1]])
        )
      }
      guard let pair = pair.value else { continue }
      own.append(pair.0)
      other.append(pair.1)
    }
    return Study(
      name: "formats", title: "Histories in other formats",
      rows: [
        row("none: the task adapter", arms[0], own), row("the task's own", arms[1], own),
        row("plain text", arms[1], other),
      ])
  }

  /// The user's adapter by every PEFT method, each with a learning rate of its kind.
  public func methods(progress: (Int, Int) -> Bool = { _, _ in true }) throws -> Study {
    let arm = try Arm("oppu", retrieve: 1)
    let methods = TrainingMethod.allCases
    var rows: [Study.Row] = []
    for (index, method) in methods.enumerated() {
      let settings = settings.training(method)
      let evaluation = UserEvaluation(
        model: model, task: dataset.task, historyTask: dataset.historyTask, settings: settings,
        taskAdapters: taskAdapters, seed: seed)
      // A user whose training diverges is missing in this method's row, whose count says so.
      let outcomes = try users.enumerated().compactMap { number, user in
        guard progress(index * users.count + number, methods.count * users.count) else {
          throw EvaluationError.stopped
        }
        return try withOwnFaults { try evaluation.run(user, arms: [arm]) }.value
      }
      let label = "\(method.rawValue), learning rate \(settings.user.training.learningRate)"
      rows.append(row(label, arm, outcomes))
    }
    return Study(name: "methods", title: "PEFT methods", rows: rows)
  }

  private func row(_ label: String, _ arm: Arm, _ outcomes: [UserOutcome]) -> Study.Row {
    let summary = Summary(task: dataset.task, arms: [arm], outcomes: outcomes, seed: seed)
    var values = summary.estimates(outcomes)[arm.name] ?? [:]
    let losses = outcomes.flatMap { $0.losses[arm.name] ?? [] }
    if !losses.isEmpty {
      values["loss"] = IntervalEstimate(losses.reduce(0, +) / Double(losses.count))
    }
    return Study.Row(
      label: label, values: values, n: outcomes.reduce(0) { $0 + $1.measured },
      seconds: outcomes.reduce(0) { $0 + ($1.seconds[arm.name] ?? 0) })
  }

  // MARK: Curves

  /// The loss of each user's newest events after training on ever more of those before them, and the
  /// mean over users where all have as many.
  public func curves(progress: (Int, Int) -> Bool = { _, _ in true }) throws -> [LearningCurve] {
    var curves: [LearningCurve] = []
    for (number, user) in users.enumerated() {
      guard progress(number, users.count) else { throw EvaluationError.stopped }
      let held = min(8, user.history.count / 4)
      let newest = user.history.suffix(held)
      let older = user.history.dropLast(held)
      var settings = settings
      settings.examples.heldOutMinimum = held
      settings.examples.heldOutMaximum = held
      settings.examples.heldOutNeedsHistory = 0
      let training = PersonalTraining(
        model: model, task: dataset.historyTask, settings: settings, over: taskAdapters[.plain])
      var points: [LearningCurve.Point] = []
      var count = max(4, held)
      while true {
        let size = min(count, older.count)
        let trained = try withOwnFaults {
          try training.train(older.suffix(size) + newest, seed: seed)
        }
        guard let result = trained.value.flatMap({ $0 }) else { break }
        func mean(_ losses: [Double]) -> Double {
          losses.reduce(0, +) / Double(max(1, losses.count))
        }
        if points.isEmpty {
          points.append(.init(events: 0, loss: mean(result.heldOut.without)))
        }
        points.append(.init(events: size, loss: mean(result.heldOut.candidate)))
        if size == older.count { break }
        count *= 2
      }
      curves.append(LearningCurve(arm: "oppu", user: user.id, points: points))
    }
    let common = curves.dropFirst().reduce(Set(curves.first?.points.map(\.events) ?? [])) {
      $0.intersection($1.points.map(\.events))
    }
    let mean = common.sorted().map { events in
      let losses = curves.compactMap { curve in
        curve.points.first { $0.events == events }?.loss
      }
      return LearningCurve.Point(
        events: events, loss: losses.reduce(0, +) / Double(max(1, losses.count)))
    }
    return curves + (mean.count > 1 ? [LearningCurve(arm: "oppu", points: mean)] : [])
  }

  private func evaluation() -> UserEvaluation {
    UserEvaluation(
      model: model, task: dataset.task, historyTask: dataset.historyTask, settings: settings,
      taskAdapters: taskAdapters, seed: seed)
  }
}
