// Streaming studies: the order of predicting and learning by a spy, and one small study on the real model.

import EvaluationReport
import FineTuning
import Foundation
import JSON
import LanguageModel
import OPPU
import Personalization
import TestSupport
import Testing

@testable import Evaluation

/// Answers with the commonest output of what it has learnt, and remembers everything it was shown.
private final class Spy: StreamLearner {
  enum Sight: Equatable {
    /// The input's text, and what was known at that time.
    case asked(String, knowing: Int)
    case measured(String)
    /// The ids of the events, and where the behaviour changed.
    case learnt([String], changedAt: Int?)
  }

  private(set) var sights: [Sight] = []

  /// What was learnt from the newest events, after a shift only from those since.
  struct Knowledge { var outputs: [String] }

  func answer(
    _ input: [String: JSONValue], earlier: HistoryRetriever, with knowledge: Knowledge?
  ) -> String? {
    sights.append(
      .asked(input["film"]?.plainText ?? "", knowing: earlier.items.count))
    let counts = Dictionary(grouping: knowledge?.outputs ?? [], by: { $0 }).mapValues(\.count)
    return counts.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key
  }

  func loss(of item: HistoryItem, earlier: HistoryRetriever, with knowledge: Knowledge) -> Double {
    sights.append(.measured(item.eventID))
    let share = Double(knowledge.outputs.filter { $0 == item.output }.count)
    return -log((share + 0.5) / Double(knowledge.outputs.count + 1))
  }

  func learn(
    _ history: [HistoryItem], from knowledge: Knowledge?, changedAt: Int?
  ) -> (knowledge: Knowledge, cost: StreamTrainingCost)? {
    sights.append(.learnt(history.map(\.eventID), changedAt: changedAt))
    let examples = Array(history[(changedAt ?? 0)...])
    return (
      Knowledge(outputs: examples.map(\.output)),
      StreamTrainingCost(
        examples: examples.count, replayed: 0, epochs: 1, tokens: 10 * examples.count, seconds: 1)
    )
  }
}

@Suite("Streaming study", .serialized)
struct StreamingStudyTests {
  private static let rules = StreamingRules(
    every: 12, firstAdapterEvents: 8, newEvents: 200, shiftEvents: 4, falseAlarmEvents: 200)

  private func task() throws -> TaskDefinition {
    try TaskCatalogue.loading(
      yaml: """
        tasks:
          tags:
            kind: label
            labels: [funny, tense, sad, dreamy]
            fields: [film]
            prompt: |-
              Film: {film}
              Tag:
            history_item: "{film} Tag: {output}"
        """, fileName: "test"
    ).task(named: "tags")
  }

  /// A user who gives one tag nearly always.
  private func stream(_ user: String, _ count: Int, tag: String) -> UserStream {
    UserStream(
      user: user,
      items: (0..<count).map { number in
        HistoryItem(
          eventID: "e\(number)",
          occurredAt: Date(timeIntervalSince1970: 1e9 + Double(number)),
          input: ["film": .string("Film \(number) of \(user)")],
          output: number % 9 == 4 ? "dreamy" : tag)
      })
  }

  private func walk(
    _ stream: UserStream, _ policy: StreamingPolicy, _ spy: Spy = Spy()
  ) throws -> StreamOutcome {
    let outcome = try StreamWalk(
      task: task(), rules: Self.rules, retrieval: .bm25, learner: spy
    ).run(stream, policy: policy)
    return try #require(outcome)
  }

  @Test("No event is learnt, measured or retrieved before it was predicted")
  func order() throws {
    let stream = stream("user", 40, tag: "sad")
    for policy in StreamingPolicy.allCases {
      let spy = Spy()
      _ = try walk(stream, policy, spy)
      var predicted: Set<String> = []
      var asked = 0
      for sight in spy.sights {
        switch sight {
        case .asked(let film, let knowing):
          #expect(film == "Film \(asked) of user" && knowing == asked)
          predicted.insert("e\(asked)")
          asked += 1
        case .measured(let id): #expect(predicted.contains(id), "\(policy)")
        case .learnt(let ids, _):
          #expect(predicted.isSuperset(of: ids), "\(policy)")
          #expect(ids.count == asked)
        }
      }
      #expect(asked == 40)
    }
  }

  @Test(
    "never trains nothing, the oracle after every event that another one follows, the schedule every 12"
  )
  func policies() throws {
    let stream = stream("user", 40, tag: "sad")
    #expect(try walk(stream, .never).trainings.isEmpty)
    #expect(try walk(stream, .oracle).trainings.map(\.after) == Array(1..<40))
    #expect(try walk(stream, .scheduled).trainings.map(\.after) == [12, 24, 36])
    let quiet = try walk(stream, .onShift)
    #expect(quiet.trainings.map(\.after) == [8])
    #expect(quiet.trainings.map(\.reason) == [.firstAdapter])
    #expect(quiet.alarms.isEmpty)
  }

  @Test("A planted change of the labels makes the shift policy train on what came after it")
  func plantedShift() throws {
    let planted = try #require(
      UserStream(
        planting: stream("b", 30, tag: "funny"), after: stream("a", 30, tag: "sad"), events: 30))
    #expect(planted.user == "a → b" && planted.shifts == [30])
    #expect(Set(planted.items.map(\.eventID)).count == 60, "ids that clash are renamed")
    #expect(
      zip(planted.items, planted.items.dropFirst()).allSatisfy { $0.occurredAt < $1.occurredAt })

    // A task whose outputs and losses are not watched has no shift here: the inputs go on.
    var blind = try task()
    blind.shiftSignals = [.input]
    let spy = Spy()
    let unseen = try StreamWalk(
      task: blind, rules: Self.rules, retrieval: .bm25, learner: spy
    ).run(planted, policy: .onShift)
    #expect(unseen?.trainings.contains { $0.reason == .shift && $0.changedAt == 30 } == false)
    #expect(!spy.sights.contains { if case .measured = $0 { true } else { false } })

    let outcome = try walk(planted, .onShift)
    let alarm = try #require(outcome.alarms.first)
    #expect((30..<42).contains(alarm.at))
    #expect((27...33).contains(alarm.changedAt))
    let training = try #require(outcome.trainings.first { $0.reason == .shift })
    #expect(training.changedAt == alarm.changedAt)
    #expect(training.after >= alarm.changedAt + Self.rules.shiftEvents)
    #expect(outcome.predictions.last == "funny")
    #expect(try walk(planted, .never).trainings.isEmpty)
  }

  @Test("The monitor's rules are those of one training after another, from the newest change on")
  func lastingChange() {
    // What was learnt since a change stays the ground for a later training by number.
    var rules = Self.rules
    rules.newEvents = 20
    var schedule = StreamingSchedule(policy: .onShift, rules: rules)
    var trainings: [(after: Int, StreamingSchedule.Training)] = []
    for event in 0..<90 {
      let training = schedule.observe(
        .init(output: .label(event < 30 ? "sad" : "funny"), input: "Film number \(event)"))
      if let training { trainings.append((event + 1, training)) }
    }
    let shift = trainings.first { $0.1.reason == .shift }
    let later = trainings.last { $0.1.reason == .newEvents }
    #expect(shift?.1.changedAt == schedule.alarms.first?.changedAt)
    #expect(later?.1.changedAt == shift?.1.changedAt)
    #expect((later?.after ?? 0) > (shift?.after ?? 0))
  }

  @Test("Metrics, costs and shares are those of the outcomes added up")
  func sums() throws {
    let streams = [stream("a", 30, tag: "sad"), stream("b", 20, tag: "funny")]
    let outcomes = try streams.flatMap { stream in
      try StreamingPolicy.allCases.map { try walk(stream, $0) }
    }
    let study = try #require(StreamingSummary(task: task(), outcomes: outcomes).study(title: "t"))
    #expect(study.users == 2 && study.events == 50)
    #expect(study.policies.map(\.name) == ["never", "scheduled", "on_shift", "oracle"])
    func policy(_ name: String) throws -> StreamingStudy.Policy {
      try #require(study.policies.first { $0.name == name })
    }
    let oracle = try policy("oracle")
    // 1 + … + 29 examples of the one, 1 + … + 19 of the other, ten tokens each.
    #expect(oracle.trainingTokens == 10 * (435 + 190))
    #expect(oracle.trainings == 48 && oracle.trainingSeconds == 48)
    #expect(oracle.shareOfOracleMetric == 1 && oracle.shareOfOracleCost == 1)
    let scheduled = try policy("scheduled")
    #expect(scheduled.trainingTokens == 10 * (12 + 24 + 12))
    #expect(scheduled.shareOfOracleCost == Double(480) / 6_250)
    let (value, best) = try (#require(scheduled.value), #require(oracle.value))
    #expect(value < best && scheduled.shareOfOracleMetric == value / best)
    let never = try policy("never")
    #expect(never.value == 0 && never.shareOfOracleCost == 0 && never.trainings == 0)
    for policy in study.policies {
      let last = try #require(policy.curve.last)
      #expect(
        last.event == 30 && last.value == policy.value && last.tokens == policy.trainingTokens)
      #expect(zip(policy.curve, policy.curve.dropFirst()).allSatisfy { $0.event < $1.event })
    }
  }

  // MARK: On the real model

  private static let model = Result {
    try LlamaModel.load(path: Paths.model)
  }

  private func run(
    _ folder: URL, every: Int = 3, seed: UInt64 = 1, budget: Duration? = nil
  ) throws -> StreamingRun {
    var settings = try MethodSettings.preset("default")
    settings.user.maximumTokens = 200
    settings.user.training.epochs = 1
    settings.examples.replay = 2
    return try StreamingRun(
      model: Self.model.get(), task: task(), taskAdapter: nil,
      plan: StreamingPlan(
        policies: [.scheduled, .oracle],
        rules: StreamingRules(
          every: every, firstAdapterEvents: 2, newEvents: 3, shiftEvents: 4, falseAlarmEvents: 200),
        settings: settings, budget: budget, seed: seed, folder: folder))
  }

  @Test("A stopped study goes on where it was and ends as one that was not stopped")
  func resume() throws {
    let root = FileManager.default.temporaryDirectory
      .appending(path: "oppu-streaming-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: root) }
    let streams = [stream("a", 5, tag: "sad"), stream("b", 4, tag: "funny")]
    let whole = try run(root.appending(path: "whole")).run(streams)
    #expect(whole.outcomes.map(\.user) == ["a", "a", "b", "b"])
    #expect(whole.outcomes.map(\.trainings.count) == [1, 4, 1, 3])
    let oracle = whole.outcomes[1].trainings
    #expect(
      oracle.map(\.cost.examples) == [1, 2, 3, 3], "the new event and up to two earlier ones")
    #expect(oracle.allSatisfy { $0.cost.tokens > 0 && $0.cost.seconds > 0 })
    #expect(whole.outcomes.allSatisfy { $0.predictions.allSatisfy { $0 != nil } })

    let parts = root.appending(path: "parts")
    #expect(throws: EvaluationError.stopped) {
      try run(parts).run(streams) { $0.done < 12 }
    }
    let begun = Steps()
    let resumed = try run(parts).run(streams) { progress in
      begun.list.append(progress.done)
      return true
    }
    #expect(begun.list == Array(10..<18), "the first user is not predicted again")
    #expect(resumed.outcomes.map(\.predictions) == whole.outcomes.map(\.predictions))
    #expect(
      resumed.outcomes.map { $0.trainings.map(\.cost.tokens) }
        == whole.outcomes.map { $0.trainings.map(\.cost.tokens) })

    // Another schedule is computed, the oracle is not again.
    begun.list = []
    let other = try run(parts, every: 2).run(streams) { progress in
      begun.list.append(progress.done)
      return true
    }
    #expect(begun.list == Array(0..<5) + Array(10..<14))
    #expect(other.outcomes.map(\.trainings.count) == [2, 4, 1, 3])

    // The same folder is not for another study, and a budget leaves users out, by name.
    #expect(throws: EvaluationError.otherSettings(folder: parts.path)) {
      try run(parts, seed: 2).run(streams)
    }
    let none = try run(root.appending(path: "none"), budget: .zero).run(streams)
    #expect(none.outcomes.isEmpty && none.leftOut.map(\.user) == ["a", "b"])
  }

  @Test(
    "A stream that diverges under one policy is left out of all, with the reason, also when resumed"
  )
  func diverging() throws {
    let root = FileManager.default.temporaryDirectory
      .appending(path: "oppu-streaming-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: root) }
    let streams = [stream("a", 5, tag: "sad"), stream("b", 4, tag: "funny")]
    let study = try run(root)
    let files = try OutcomeFiles<StreamOutcome>(
      folder: root.appending(path: "streams"), of: root, fingerprint: "f")
    for walks in [4, 0] {
      var walked = 0
      func walk(
        _ stream: UserStream, _ policy: StreamingPolicy, _ onEvent: (Int) -> Bool
      ) throws -> StreamOutcome? {
        walked += 1
        if stream.user == "a", policy == .oracle { throw TrainingError.diverged(step: 3) }
        return StreamOutcome(
          user: stream.user, policy: policy, golds: [], predictions: [], trainings: [],
          alarms: [], shifts: [], seconds: 0)
      }
      let findings = try study.run(
        streams, files: files, progress: { _ in true }, walk: walk)
      #expect(walked == walks)
      #expect(findings.outcomes.map(\.user) == ["b", "b"])
      #expect(findings.leftOut.map(\.user) == ["a"])
      #expect(findings.leftOut.first?.reason.contains("at step 3") == true)
    }
  }

  private final class Steps { var list: [Int] = [] }
}
