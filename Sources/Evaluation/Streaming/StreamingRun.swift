// A streaming study of one task from beginning to end: users one by one, each under every policy. What is
// done lies in the results folder, so that a stopped study goes on where it was.

import Cryptography
import EvaluationReport
import FineTuning
import Foundation
import LanguageModel
import OPPU
import Personalization

/// What a streaming study is asked to do.
public struct StreamingPlan: Sendable {
  public var policies: [StreamingPolicy]
  public var rules: StreamingRules
  /// How adapters are trained and answers are made.
  public var settings: MethodSettings
  /// What of the past stands in the prompts.
  public var variant: PromptVariant
  /// No user is begun that would not be done by then, from the start; nil for no limit.
  public var budget: Duration?
  /// Of all that is drawn at random.
  public var seed: UInt64
  /// The results folder; made where it is missing.
  public var folder: URL

  public init(
    policies: [StreamingPolicy] = StreamingPolicy.allCases, rules: StreamingRules,
    settings: MethodSettings, variant: PromptVariant = .plain, budget: Duration? = nil,
    seed: UInt64 = 1, folder: URL
  ) {
    self.policies = policies
    self.rules = rules
    self.settings = settings
    self.variant = variant
    self.budget = budget
    self.seed = seed
    self.folder = folder
  }
}

/// Predicts streams under several policies. Blocking: call it on a thread of its own.
public struct StreamingRun: Sendable {
  public let model: LlamaModel
  public let task: TaskDefinition
  /// Under every user's own; trained on others than the streams' users, which the caller sees to.
  public let taskAdapter: Adapter?
  public let plan: StreamingPlan

  public init(
    model: LlamaModel, task: TaskDefinition, taskAdapter: Adapter?, plan: StreamingPlan
  ) {
    self.model = model
    self.task = task
    self.taskAdapter = taskAdapter
    self.plan = plan
  }

  /// What was found of which users.
  public struct Findings: Sendable {
    /// Of the users who were done under every policy.
    public var outcomes: [StreamOutcome] = []
    /// Users who were not done under every policy, and why.
    public var leftOut: [EvaluatedUsers.LeftOut] = []

    /// Of one stream.
    mutating func add(_ found: [StreamOutcome]) {
      if let failed = found.first(where: { $0.failure != nil }), let reason = failed.failure {
        leftOut.append(.init(user: failed.user, reason: "\(failed.policy.title): \(reason)"))
      } else {
        outcomes += found
      }
    }
  }

  /// Walks along all streams and keeps what is done in the folder.
  /// - Parameter progress: called before each event, which it counts over all policies; returns false to
  ///   stop, and whole streams that are done stay.
  /// - Throws: ``EvaluationError``, errors of training and inference.
  public func run(
    _ streams: [UserStream], progress: @escaping (EvaluationProgress) -> Bool = { _ in true }
  ) throws -> Findings {
    let files = try OutcomeFiles<StreamOutcome>(
      folder: plan.folder.appending(path: "streams"), of: plan.folder,
      fingerprint: try fingerprint())
    let learner = AdapterLearner(
      training: PersonalTraining(
        model: model, task: task, settings: plan.settings, variant: plan.variant,
        over: taskAdapter), seed: plan.seed)
    let walk = StreamWalk(
      task: task, rules: plan.rules, retrieval: plan.settings.examples.retrieval,
      learner: learner)
    return try run(streams, files: files, progress: progress) { stream, policy, onEvent in
      try walk.run(stream, policy: policy, onEvent: onEvent)
    }
  }

  /// The order of work, with whatever walks along a stream.
  func run(
    _ streams: [UserStream], files: OutcomeFiles<StreamOutcome>,
    progress: @escaping (EvaluationProgress) -> Bool,
    walk: (UserStream, StreamingPolicy, (Int) -> Bool) throws -> StreamOutcome?
  ) throws -> Findings {
    let clock = ContinuousClock()
    let start = clock.now
    var pace = Pace()
    var findings = Findings()
    let total = streams.reduce(0) { $0 + $1.items.count } * plan.policies.count
    var done = 0
    for (number, stream) in streams.enumerated() {
      let known = try plan.policies.map { try files.outcome(key(stream, $0)) }
      let missing = plan.policies.enumerated().filter { known[$0.offset] == nil }.map(\.element)
      let elapsed = (clock.now - start) / .seconds(1)
      if let budget = plan.budget, !missing.isEmpty,
        elapsed + (pace.seconds(stream.items.count, missing) ?? 0) > budget / .seconds(1)
      {
        findings.leftOut.append(
          EvaluatedUsers.LeftOut(
            user: stream.user,
            reason: EvaluatedUsers.reason(budget)))
        done += stream.items.count * plan.policies.count
        continue
      }
      // Policies are compared on the same streams: one that fails under any of them is left out of all.
      var outcomes: [StreamOutcome] = []
      defer { findings.add(outcomes) }
      for (policy, outcome) in zip(plan.policies, known) {
        if let outcome {
          outcomes.append(outcome)
          done += stream.items.count
          continue
        }
        let later = missing.drop { $0 != policy }.dropFirst()
        let othersLeft = pace.seconds(stream.items.count, Array(later)).flatMap { rest in
          pace.seconds(
            streams[(number + 1)...].reduce(0) { $0 + $1.items.count }, plan.policies
          ).map { $0 + rest }
        }
        let begin = clock.now
        let walked = try withOwnFaults {
          try walk(stream, policy) { position in
            let left = pace.seconds(stream.items.count - position, [policy])
            return progress(
              EvaluationProgress(
                stage: "\(stream.user), \(policy.title)", done: done + position, total: total,
                secondsLeft: othersLeft.flatMap { others in left.map { $0 + others } }))
          }
        }
        let found: StreamOutcome
        switch walked {
        case .done(let outcome?):
          found = outcome
          pace.add((clock.now - begin) / .seconds(1), stream.items.count, policy)
        case .done(nil): throw EvaluationError.stopped
        case .failed(let reason):
          found = StreamOutcome(stream.user, policy, failure: reason)
        }
        try files.keep(found, as: key(stream, policy))
        outcomes.append(found)
        done += stream.items.count
      }
    }
    return findings
  }

  /// Of everything that outcomes depend on beside the stream, the policy and its numbers.
  private func fingerprint() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    var hash = SHA256()
    hash.update(data: try encoder.encode(plan.settings))
    hash.update(data: try encoder.encode(plan.variant))
    hash.update(data: try encoder.encode(task))
    hash.update(data: Data("\(model.fingerprint) \(plan.seed)".utf8))
    if let taskAdapter { hash.update(data: try PEFTFolder.encode(taskAdapter)) }
    return hash.finalize().hexadecimal
  }

  /// With other numbers of one policy the outcomes of the others stay good: the oracle's are dear.
  private func key(_ stream: UserStream, _ policy: StreamingPolicy) throws -> String {
    struct Key: Encodable {
      var policy: StreamingPolicy
      var numbers: [Int]
      var stream: UserStream
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let key = Key(policy: policy, numbers: plan.rules.numbers(of: policy), stream: stream)
    return String(decoding: try encoder.encode(key), as: UTF8.self)
  }

  /// How long an event takes under each policy, of what was done in this run.
  private struct Pace {
    private var spent: [StreamingPolicy: (seconds: Double, events: Int)] = [:]

    mutating func add(_ seconds: Double, _ events: Int, _ policy: StreamingPolicy) {
      let before = spent[policy] ?? (0, 0)
      spent[policy] = (before.seconds + seconds, before.events + events)
    }

    /// Nil as long as nothing tells.
    func seconds(_ events: Int, _ policies: [StreamingPolicy]) -> Double? {
      var sum = 0.0
      for policy in policies {
        guard let (seconds, count) = spent[policy], count > 0 else { return nil }
        sum += seconds / Double(count) * Double(events)
      }
      return sum
    }
  }
}
