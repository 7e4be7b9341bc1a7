// An evaluation of one task from beginning to end: task adapters, users one by one, results. What is
// done lies in the results folder, so that a stopped evaluation goes on where it was.

import Cryptography
import EvaluationReport
import FineTuning
import Foundation
import LanguageModel
import OPPU
import Personalization

/// What an evaluation is asked to do.
public struct EvaluationPlan: Sendable {
  public var arms: [Arm]
  public var settings: MethodSettings
  /// The first so many users; nil for all.
  public var users: Int?
  /// No user is begun that would not be done by then, from the start; nil for no limit.
  public var budget: Duration?
  /// Of all that is drawn at random.
  public var seed: UInt64
  /// The results folder; made where it is missing.
  public var folder: URL
  /// Where task adapters lie that `oppu-worker adapt` has trained; nil to train them here.
  public var taskAdapters: URL?
  /// Where those that are trained here are kept; nil: in the results folder.
  public var adapterCache: URL?

  public init(
    arms: [Arm], settings: MethodSettings, users: Int? = nil, budget: Duration? = nil,
    seed: UInt64 = 1, folder: URL, taskAdapters: URL? = nil, adapterCache: URL? = nil
  ) {
    self.adapterCache = adapterCache
    self.arms = arms
    self.settings = settings
    self.users = users
    self.budget = budget
    self.seed = seed
    self.folder = folder
    self.taskAdapters = taskAdapters
  }
}

/// Where an evaluation is.
public struct EvaluationProgress: Sendable {
  /// "task adapter plain" or "users".
  public var stage: String
  /// Steps of the adapter's training, or users, and how many of them are done.
  public var done: Int
  public var total: Int
  /// Of the stage; nil as long as nothing tells.
  public var secondsLeft: Double?
}

/// Evaluates one task. Blocking: call it on a thread of its own.
public struct EvaluationRun: Sendable {
  public let model: LlamaModel
  public let dataset: LaMPDataset
  public let plan: EvaluationPlan

  public init(model: LlamaModel, dataset: LaMPDataset, plan: EvaluationPlan) {
    self.model = model
    self.dataset = dataset
    self.plan = plan
  }

  /// What was found of which users.
  public struct Findings: Sendable {
    /// Of the users who were done.
    public var outcomes: [UserOutcome]
    /// Users who were not done, and why.
    public var leftOut: [EvaluatedUsers.LeftOut]
    /// By what their prompts hold.
    public var taskAdapters: [PromptVariant: Adapter]
    /// Seconds that the task adapter of a variant took.
    public var taskSeconds: [PromptVariant: Double]

    public init(
      outcomes: [UserOutcome], leftOut: [EvaluatedUsers.LeftOut],
      taskAdapters: [PromptVariant: Adapter], taskSeconds: [PromptVariant: Double]
    ) {
      self.outcomes = outcomes
      self.leftOut = leftOut
      self.taskAdapters = taskAdapters
      self.taskSeconds = taskSeconds
    }

    /// Who was left out and why, in a sentence; nil where all were done.
    public var problem: String? {
      guard !leftOut.isEmpty else { return nil }
      let all = leftOut.count + outcomes.count
      let reasons = Set(leftOut.map(\.reason)).sorted().joined(separator: "; ")
      return "\(leftOut.count) of \(all) users left out: \(reasons)"
    }

    mutating func add(_ outcome: UserOutcome) {
      if let reason = outcome.failure {
        leftOut.append(.init(user: outcome.user, reason: reason))
      } else {
        outcomes.append(outcome)
      }
    }
  }

  /// Trains, answers and keeps what is done in the folder.
  /// - Parameter progress: returns false to stop; what is done stays.
  /// - Throws: ``EvaluationError``, `OverlapError`, errors of training and inference.
  public func run(_ progress: (EvaluationProgress) -> Bool = { _ in true }) throws -> Findings {
    let clock = ContinuousClock()
    let start = clock.now
    try LaMPUser.requireDisjoint(evaluated: dataset.users, others: dataset.others)
    let files = try OutcomeFiles<UserOutcome>(
      folder: plan.folder.appending(path: "users"), of: plan.folder,
      fingerprint: try fingerprint())
    let users = Array(dataset.users.prefix(plan.users ?? .max))
    var findings = Findings(
      outcomes: [], leftOut: [], taskAdapters: [:], taskSeconds: [:])
    let adapters = try taskAdapters(&findings, progress)
    findings.taskAdapters = adapters
    let evaluation = UserEvaluation(
      model: model, task: dataset.task, historyTask: dataset.historyTask,
      settings: settings, taskAdapters: adapters, seed: plan.seed)
    // Time per item of history and query, of the users done in this run.
    var (spent, done) = (0.0, 0)
    func size(_ user: LaMPUser) -> Int { user.history.count + 5 * user.queries.count + 10 }
    for (number, user) in users.enumerated() {
      if let outcome = files.outcome(user.id) {
        findings.add(outcome)
        continue
      }
      let elapsed = (clock.now - start) / .seconds(1)
      let perItem = done > 0 ? spent / Double(done) : 0
      if let budget = plan.budget, elapsed + perItem * Double(size(user)) > budget / .seconds(1) {
        findings.leftOut.append(
          EvaluatedUsers.LeftOut(
            user: user.id,
            reason: EvaluatedUsers.reason(budget)))
        continue
      }
      let left = users[number...].reduce(0) { $0 + size($1) }
      let go = progress(
        EvaluationProgress(
          stage: "users", done: number, total: users.count,
          secondsLeft: done > 0 ? perItem * Double(left) : nil))
      guard go else { throw EvaluationError.stopped }
      let begin = clock.now
      let outcome: UserOutcome
      switch try withOwnFaults({ try evaluation.run(user, arms: plan.arms) }) {
      case .done(let found): outcome = found
      case .failed(let reason):
        // Kept like an answer, so that a resumed evaluation does not try it again.
        outcome = UserOutcome(
          user: user.id, historyItems: user.history.count, queryIDs: [], golds: [],
          predictions: [:], seconds: [:], trainings: [:], failure: reason)
      }
      spent += (clock.now - begin) / .seconds(1)
      done += size(user)
      try files.keep(outcome, as: outcome.user)
      findings.add(outcome)
    }
    return findings
  }

  /// The settings with the input fields that the folder's queries have.
  private var settings: MethodSettings {
    var settings = plan.settings
    settings.examples.inputFields = dataset.queryFields
    return settings
  }

  /// Of everything that answers depend on.
  private func fingerprint() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    var hash = SHA256()
    // A set has another order in every process.
    var settings = settings
    settings.examples.inputFields = nil
    hash.update(data: try encoder.encode(settings))
    hash.update(data: try encoder.encode(dataset.queryFields.sorted()))
    hash.update(data: try encoder.encode(plan.arms))
    hash.update(data: try encoder.encode(dataset.task))
    hash.update(data: try encoder.encode(dataset.users))
    hash.update(
      data: Data("\(model.fingerprint) \(plan.seed) \(plan.taskAdapters?.path ?? "")".utf8))
    return hash.finalize().hexadecimal
  }

  private func taskAdapters(
    _ findings: inout Findings, _ progress: (EvaluationProgress) -> Bool
  ) throws -> [PromptVariant: Adapter] {
    var variants: [PromptVariant] = []
    for arm in plan.arms {
      guard case .model(let tuning, let variant) = arm.source, tuning != .base else { continue }
      if !variants.contains(variant) { variants.append(variant) }
    }
    guard !variants.isEmpty else { return [:] }
    if plan.taskAdapters == nil {
      variants = settings.withParents(variants)
    }
    let store = TaskAdapterStore(
      folder: plan.taskAdapters?.appending(path: dataset.task.name) ?? plan.adapterCache
        ?? plan.folder.appending(path: "task-adapters"))
    let wanted = TaskAdapterStore.Wanted(
      settings: settings, users: dataset.others.map(\.id), seed: plan.seed)
    var adapters: [PromptVariant: Adapter] = [:]
    for variant in variants {
      if let known = try store.load(
        variant, of: dataset.historyTask, model: model, evaluated: dataset.users.map(\.id),
        wanted: plan.taskAdapters == nil ? wanted : nil)
      {
        adapters[variant] = known.adapter
        findings.taskSeconds[variant] = known.seconds
        continue
      }
      if let folder = plan.taskAdapters {
        throw EvaluationError.noTaskAdapter(
          variant: variant.name, folder: folder.appending(path: dataset.task.name).path)
      }
      guard !dataset.others.isEmpty else { throw EvaluationError.noOtherUsers }
      let adaptation = TaskAdaptation(
        model: model, task: dataset.historyTask, settings: settings, variant: variant,
        plain: adapters[.plain])
      let clock = ContinuousClock()
      let begin = clock.now
      let trained = try store.train(
        adaptation, on: dataset.others, queries: dataset.task == dataset.historyTask,
        seed: plan.seed
      ) { step in
        progress(
          EvaluationProgress(
            stage: "task adapter \(variant.name)", done: step.step, total: step.steps,
            secondsLeft: (clock.now - begin) / .seconds(1) / Double(step.step)
              * Double(step.steps - step.step)))
      }
      guard let trained else { throw EvaluationError.stopped }
      adapters[variant] = trained.adapter
      findings.taskSeconds[variant] = trained.seconds
    }
    return adapters
  }
}

extension EvaluatedUsers {
  /// Why a user is left out who would not be done in time.
  static func reason(_ budget: Duration) -> String {
    let seconds = budget / .seconds(1)
    let text =
      seconds < 60 ? String(format: "%g s", seconds) : String(format: "%g minutes", seconds / 60)
    return "the budget of \(text) would be exceeded"
  }
}

/// Why an evaluation ended without results.
public enum EvaluationError: Error, Equatable, CustomStringConvertible, LocalizedError {
  /// It was asked to.
  case stopped
  case otherSettings(folder: String)
  case noTaskAdapter(variant: String, folder: String)
  case noOtherUsers
  case folder(String)

  public var description: String {
    switch self {
    case .stopped:
      "stopped; the same command goes on where it was"
    case .otherSettings(let folder):
      "\(folder) holds results of other data, arms or settings; name another folder, or remove it"
    case .noTaskAdapter(let variant, let folder):
      "\(folder) has no task adapter for prompts of the kind \(variant); "
        + "oppu-worker adapt --variants \(variant) trains one"
    case .noOtherUsers:
      "the folder has no others.json (or OPPU's user_others.json), whose users task adapters are trained on; "
        + "name trained ones with --task-adapters, or leave out the arms task, oppu and all"
    case .folder(let problem): problem
    }
  }
  public var errorDescription: String? { description }
}
