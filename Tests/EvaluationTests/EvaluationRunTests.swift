// Whole evaluations on the real model, small enough to be quick.

import Foundation
import LanguageModel
import OPPU
import Personalization
import TestSupport
import Testing

@testable import Evaluation

@Suite("Evaluation run", .serialized)
struct EvaluationRunTests {
  private static let model = Result {
    try LlamaModel.load(path: Paths.model)
  }

  /// A folder of its own, removed by the test.
  private func scratch() throws -> URL {
    let folder = FileManager.default.temporaryDirectory
      .appending(path: "oppu-evaluation-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    return folder
  }

  private static let tags = ["funny", "tense", "sad", "dreamy"]

  /// A folder in LaMP's format: each user tags films in a way of their own.
  private func writeData(
    to folder: URL, users: Int = 2, others: Int = 2, withoutHistory: Int? = nil
  ) throws {
    func items(_ user: Int, _ count: Int, _ kind: String) -> [[String: String]] {
      (0..<count).map { number in
        [
          "id": "\(kind)\(user)-\(number)",
          "film": "Film \(number % 7) of the year 19\(50 + number)",
          "tag": Self.tags[(user + number % 2) % 4],
        ]
      }
    }
    func input(_ item: [String: String]) -> String { "Which tag? film: \(item["film"] ?? "")" }
    var questions: [[String: Any]] = []
    var golds: [[String: String]] = []
    for user in 0..<users {
      for (number, query) in items(user + 100, 2, "q").enumerated() {
        let id = "\(user)-\(number)"
        questions.append([
          "id": id, "user_id": "user-\(user)", "input": input(query),
          "profile": items(user, user == withoutHistory ? 0 : 8, "h"),
        ])
        golds.append(["id": id, "output": query["tag"] ?? ""])
      }
    }
    let strangers = (0..<others).map { user -> [String: Any] in
      ["user_id": "other-\(user)", "profile": items(user + 50, 8, "o"), "query": []]
    }
    for (name, value) in [
      ("questions", questions as Any), ("others", strangers),
      ("outputs", ["task": "tags", "golds": golds] as [String: Any]),
    ] {
      try JSONSerialization.data(withJSONObject: value)
        .write(to: folder.appending(path: "\(name).json"))
    }
  }

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
            lamp:
              query: "Which tag? film: {film}"
              history: {film: film, output: tag}
        """, fileName: "test"
    ).task(named: "tags")
  }

  private func plan(_ folder: URL, arms: [String], seed: UInt64 = 1) throws -> EvaluationPlan {
    var settings = try MethodSettings.preset("default")
    settings.user.maximumTokens = 300
    settings.task.maximumTokens = 300
    return EvaluationPlan(
      arms: try arms.map { try Arm($0, retrieve: 2) }, settings: settings, seed: seed,
      folder: folder)
  }

  @Test("A stopped evaluation goes on where it was and ends as one that was not stopped")
  func resume() throws {
    let folder = try scratch()
    defer { try? FileManager.default.removeItem(at: folder) }
    try writeData(to: folder)
    let model = try Self.model.get()
    let dataset = try LaMPDataset(folder: folder.path, task: task())
    let arms = ["majority", "nearest-3", "base", "rag", "task", "oppu"]
    let whole = try EvaluationRun(
      model: model, dataset: dataset, plan: plan(folder.appending(path: "whole"), arms: arms)
    ).run()
    #expect(whole.outcomes.map(\.user) == ["user-0", "user-1"])
    #expect(whole.outcomes.allSatisfy { $0.predictions.count == arms.count })

    let parts = try plan(folder.appending(path: "parts"), arms: arms)
    let run = EvaluationRun(model: model, dataset: dataset, plan: parts)
    #expect(throws: EvaluationError.stopped) {
      try run.run { !($0.stage == "users" && $0.done == 1) }
    }
    var begun: [Int] = []
    let resumed = try run.run { progress in
      #expect(progress.stage == "users", "no adapter is trained again")
      begun.append(progress.done)
      return true
    }
    #expect(begun == [1])
    #expect(
      resumed.outcomes.map(\.predictions) == whole.outcomes.map(\.predictions))

    // A damaged file is called so; without it, that user is done again.
    let kept = try FileManager.default.contentsOfDirectory(
      at: parts.folder.appending(path: "users"), includingPropertiesForKeys: nil)
    let bytes = try Data(contentsOf: kept[0])
    try bytes.prefix(20).write(to: kept[0])
    do {
      _ = try run.run()
      Issue.record("taken")
    } catch let error as EvaluationError {
      #expect(error.description.contains("\(kept[0].lastPathComponent) is damaged"))
    }
    try bytes.write(to: kept[0])

    // The same folder is not for another evaluation.
    #expect(throws: EvaluationError.otherSettings(folder: parts.folder.path)) {
      try EvaluationRun(
        model: model, dataset: dataset, plan: plan(parts.folder, arms: arms, seed: 2)
      ).run()
    }
  }

  @Test("A user's answers do not depend on who else is evaluated")
  func isolation() throws {
    let folder = try scratch()
    defer { try? FileManager.default.removeItem(at: folder) }
    try writeData(to: folder, users: 2)
    let model = try Self.model.get()
    let settings = try plan(folder, arms: ["oppu"]).settings
    let dataset = try LaMPDataset(folder: folder.path, task: task())
    let evaluation = UserEvaluation(
      model: model, task: dataset.task, settings: settings, taskAdapters: [:], seed: 1)
    let arms = try [Arm("oppu+rag", retrieve: 2)]
    let alone = try evaluation.run(dataset.users[1], arms: arms)
    _ = try evaluation.run(dataset.users[0], arms: arms)
    let after = try evaluation.run(dataset.users[1], arms: arms)
    #expect(alone.predictions == after.predictions)
    #expect(
      alone.trainings["oppu+rag"]?.lossLastEpoch == after.trainings["oppu+rag"]?.lossLastEpoch)
  }

  @Test("A task adapter that has seen an evaluated user is refused")
  func overlap() throws {
    let folder = try scratch()
    defer { try? FileManager.default.removeItem(at: folder) }
    try writeData(to: folder)
    let model = try Self.model.get()
    let dataset = try LaMPDataset(folder: folder.path, task: task())
    let settings = try plan(folder, arms: ["task"]).settings
    let store = TaskAdapterStore(folder: folder.appending(path: "adapters/tags"))
    _ = try store.train(
      TaskAdaptation(model: model, task: dataset.task, settings: settings),
      on: dataset.users, queries: false, seed: 1)
    var plan = try plan(folder.appending(path: "out"), arms: ["task"])
    plan.taskAdapters = folder.appending(path: "adapters")
    let error = #expect(throws: OverlapError.self) {
      try EvaluationRun(model: model, dataset: dataset, plan: plan).run()
    }
    #expect(error?.description.contains("user-0") == true)
  }

  @Test(
    "A task adapter sees as many examples as its tokens allow, and repeats them where there are few"
  )
  func manyExamplesOnce() throws {
    let folder = try scratch()
    defer { try? FileManager.default.removeItem(at: folder) }
    try writeData(to: folder)
    let dataset = try LaMPDataset(folder: folder.path, task: task())
    let histories = dataset.others.map(\.history)
    let model = try Self.model.get()
    func train(tokens: Int, epochs: Int) throws -> (examples: Int, tokens: Int, loss: Double) {
      var settings = try plan(folder, arms: ["task"]).settings
      settings.task.maximumTokens = tokens
      settings.task.training.epochs = epochs
      let report = try TaskAdaptation(model: model, task: dataset.task, settings: settings)
        .train(histories, seed: 1).report
      return (report.examples, report.tokens, report.lossLastEpoch)
    }
    let all = try train(tokens: 1_000_000, epochs: 1)
    #expect(all.examples == histories.joined().count)
    let half = try train(tokens: all.tokens / 2, epochs: 3)
    #expect(half == (try train(tokens: all.tokens / 2, epochs: 1)), "each of them once")
    #expect(half.examples < all.examples && half.tokens <= all.tokens / 2)
    let twice = try train(tokens: all.tokens * 2, epochs: 3)
    #expect(twice.examples == 2 * all.examples && twice.tokens == 2 * all.tokens)
  }

  @Test("Task adapters for other prompts go on from the plain one, where the settings say so")
  func curriculum() throws {
    let folder = try scratch()
    defer { try? FileManager.default.removeItem(at: folder) }
    try writeData(to: folder)
    let dataset = try LaMPDataset(folder: folder.path, task: task())
    var stages: [[String]] = []
    for tokens in [0, 300] {
      var plan = try plan(folder.appending(path: "out-\(tokens)"), arms: ["task+pag"])
      plan.settings.variantTokens = tokens
      var seen: [String] = []
      _ = try EvaluationRun(model: Self.model.get(), dataset: dataset, plan: plan).run { progress in
        if seen.last != progress.stage { seen.append(progress.stage) }
        return true
      }
      stages.append(seen)
    }
    #expect(
      stages == [
        ["task adapter pag", "users"], ["task adapter plain", "task adapter pag", "users"],
      ])
  }

  @Test("Studies: halves of a history share nothing, and every study has its rows")
  func studies() throws {
    let folder = try scratch()
    defer { try? FileManager.default.removeItem(at: folder) }
    try writeData(to: folder, users: 1)
    let dataset = try LaMPDataset(folder: folder.path, task: task())
    var settings = try plan(folder, arms: ["oppu"]).settings
    settings.user.maximumTokens = 600
    let studies = PaperStudies(
      model: try Self.model.get(), dataset: dataset, settings: settings, taskAdapters: [:],
      users: nil, seed: 1)
    let halves = studies.halves(of: dataset.users[0])
    let (like, unlike) = (
      Set(halves.like.history.map(\.eventID)), Set(halves.unlike.history.map(\.eventID))
    )
    #expect(like.count == 4 && unlike.count == 4 && like.isDisjoint(with: unlike))
    let arms = try [Arm("base", retrieve: 2), Arm("oppu", retrieve: 2)]
    let shift = try studies.shift(arms: arms)
    #expect(shift.before.n == 2 && shift.after.n == 2)
    #expect(shift.after.arms["oppu"]?["accuracy"]?.value != nil)
    #expect(try studies.formats().rows.map(\.n) == [2, 2, 2])
    let methods = try studies.methods()
    #expect(methods.rows.count == 4)
    // Each method made another adapter.
    #expect(Set(methods.rows.map { $0.values["loss"]?.value }).count == 4)
    let curve = try #require(try studies.curves().first)
    #expect(curve.points.map(\.events) == [0, 4, 6])
    #expect(throws: EvaluationError.stopped) { try studies.curves { _, _ in false } }
  }

  @Test(
    "A written profile stands until a shift, and then tells of the events since, under its next version"
  )
  func refreshedProfile() throws {
    let folder = try scratch()
    defer { try? FileManager.default.removeItem(at: folder) }
    try writeData(to: folder, users: 1)
    let dataset = try LaMPDataset(folder: folder.path, task: task())
    let history = dataset.users[0].history
    let model = try Self.model.get()
    var settings = try plan(folder, arms: ["pag"]).settings
    func profile(
      of count: Int, since eventID: String? = nil, after previous: UserProfile? = nil
    ) throws -> UserProfile? {
      try settings.writtenProfile(
        of: Array(history.prefix(count)), task: dataset.task,
        variant: PromptVariant(profile: true), model: model, since: eventID, after: previous)
    }
    #expect(try profile(of: history.count) == nil, "profiles are computed")
    settings.profile = .model
    let few = history.count - 1
    let first = try #require(try profile(of: few))
    #expect(first.version == 1 && first.sinceEventID == nil && first.itemCount == few)
    #expect(try profile(of: history.count, after: first) == first)
    let change = history[few / 2].eventID
    let second = try #require(try profile(of: history.count, since: change, after: first))
    #expect(second.version == 2 && second.sinceEventID == change)
    // The next training knows of the shift by the profile alone.
    #expect(try profile(of: history.count, after: second) == second)
    #expect(
      try settings.writtenProfile(
        of: history, task: dataset.task, variant: .plain, model: model, after: second) == nil)
  }

  @Test("A profile that the model writes stands in prompts in the place of the computed one")
  func writtenProfile() throws {
    let folder = try scratch()
    defer { try? FileManager.default.removeItem(at: folder) }
    try writeData(to: folder, users: 1)
    let dataset = try LaMPDataset(folder: folder.path, task: task())
    let user = dataset.users[0]
    let model = try Self.model.get()
    var settings = try plan(folder, arms: ["pag"]).settings
    settings.profile = .model
    func written(_ history: [HistoryItem]) throws -> String? {
      try settings.writtenProfile(
        of: history, task: dataset.task, variant: PromptVariant(profile: true), model: model)?.text
    }
    let text = try #require(try written(user.history))
    #expect(text.hasPrefix("This user"))
    #expect(text != ComputedProfile.text(for: user.history, task: dataset.task))
    #expect(try written([]) == nil)
    let arms = [try Arm("pag", retrieve: 2)]
    func losses() throws -> [Double]? {
      try UserEvaluation(
        model: model, task: dataset.task, settings: settings, taskAdapters: [:], seed: 1
      ).run(user, arms: arms).losses["pag"]
    }
    let withWritten = try losses()
    settings.profile = .computed
    #expect(try losses() != withWritten)
  }

  @Test("The loss of the right answer falls with the user's own training")
  func losses() throws {
    let folder = try scratch()
    defer { try? FileManager.default.removeItem(at: folder) }
    try writeData(to: folder, users: 1)
    let dataset = try LaMPDataset(folder: folder.path, task: task())
    var settings = try plan(folder, arms: ["oppu"]).settings
    settings.user.maximumTokens = 2_000
    let outcome = try UserEvaluation(
      model: Self.model.get(), task: dataset.task, settings: settings, taskAdapters: [:], seed: 1
    ).run(dataset.users[0], arms: [Arm("base", retrieve: 2), Arm("oppu", retrieve: 2)])
    let base = try #require(outcome.losses["base"])
    let own = try #require(outcome.losses["oppu"])
    #expect(base.count == 2 && own.count == 2)
    #expect(own.reduce(0, +) < base.reduce(0, +))
  }

  @Test("A task adapter is a new version each time, and refused once its weights were changed")
  func taskAdapterVersions() throws {
    let folder = try scratch()
    defer { try? FileManager.default.removeItem(at: folder) }
    try writeData(to: folder)
    let model = try Self.model.get()
    let dataset = try LaMPDataset(folder: folder.path, task: task())
    let settings = try plan(folder, arms: ["task"]).settings
    let store = TaskAdapterStore(folder: folder.appending(path: "tags"))
    let adaptation = TaskAdaptation(model: model, task: dataset.task, settings: settings)
    let versions = try (1...2).map { seed in
      try #require(
        try store.train(adaptation, on: dataset.others, queries: false, seed: UInt64(seed)))
    }
    #expect(versions.map(\.version) == [1, 2])
    #expect(versions[0].fingerprint != versions[1].fingerprint)
    let known = try #require(try store.load(.plain, of: dataset.task, model: model))
    #expect(known.version == 2 && known.fingerprint == versions[1].fingerprint)
    #expect(try store.load(PromptVariant(retrieve: 3), of: dataset.task, model: model) == nil)

    let weights = store.folder.appending(path: "plain/adapter_model.safetensors")
    var bytes = try Data(contentsOf: weights)
    bytes[bytes.count - 1] ^= 1
    try bytes.write(to: weights)
    #expect(throws: TaskAdapterError.self) {
      try store.load(.plain, of: dataset.task, model: model)
    }
  }

  @Test(
    "A user whose training diverges is left out with the reason; the others go on; a resume keeps it"
  )
  func diverging() throws {
    let folder = try scratch()
    defer { try? FileManager.default.removeItem(at: folder) }
    try writeData(to: folder, withoutHistory: 1)
    let dataset = try LaMPDataset(folder: folder.path, task: task())
    var plan = try plan(folder.appending(path: "out"), arms: ["base", "oppu"])
    plan.settings.user.training.learningRate = 1e10
    plan.settings.user.training.clip = 1e10
    let run = EvaluationRun(model: try Self.model.get(), dataset: dataset, plan: plan)
    let findings = try run.run()
    #expect(findings.outcomes.map(\.user) == ["user-1"], "there is nothing to train on")
    #expect(findings.leftOut.map(\.user) == ["user-0"])
    #expect(findings.leftOut.first?.reason.contains("finite number") == true)
    #expect(findings.problem?.hasPrefix("1 of 2 users left out: The ") == true)
    let again = try run.run { progress in
      Issue.record("\(progress.stage): all is done")
      return false
    }
    #expect(again.leftOut == findings.leftOut)
    #expect(again.outcomes.map(\.user) == ["user-1"])
  }

  @Test("Users beyond the time budget are left out and named")
  func budget() throws {
    let folder = try scratch()
    defer { try? FileManager.default.removeItem(at: folder) }
    try writeData(to: folder, users: 3)
    let dataset = try LaMPDataset(folder: folder.path, task: task())
    var plan = try plan(folder.appending(path: "out"), arms: ["majority"])
    plan.budget = .zero
    let findings = try EvaluationRun(
      model: Self.model.get(), dataset: dataset, plan: plan
    ).run()
    #expect(findings.outcomes.isEmpty)
    #expect(findings.leftOut.map(\.user) == ["user-0", "user-1", "user-2"])
  }
}
