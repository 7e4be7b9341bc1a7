// `oppu-worker evaluate`: the method on data with known answers, arm by arm.

import ArgumentParsing
import Evaluation
import EvaluationReport
import FineTuning
import Foundation
import JSON
import LanguageModel
import LinearAlgebra
import OPPU
import Personalization
import Worker

extension LaMPFiles.Split: ExpressibleByArgument {}

struct Evaluate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Measure the method on data with known answers, with prompts alone and with adapters.",
    discussion: """
      Reads folders in LaMP's format (questions.json, outputs.json, others.json), and LaMP's \
      (dev_questions.json …) and OPPU's files (user_top_100_history.json, user_others.json) as they are \
      published. Task adapters are trained on the users of others.json, each target user's own adapter on that user's history; \
      every arm then answers the same questions.

      Arms: base, rag-K, pag (the base model; nothing is trained), task, task+rag-K, task+pag (the \
      task's adapter), oppu, oppu+rag-K, oppu+pag, all (the user's own adapter over it), majority and \
      nearest-K (no model).

      Writes predictions-ARM.json (LaMP's submission format), results.json and report.html. A stopped \
      evaluation goes on with the same command.

      Example: oppu-worker evaluate --task LaMP_4 --data lamp/LaMP_4 --arms base,rag-4,oppu --out results
      All tasks of a folder: oppu-worker evaluate --data lamp --out results
      """)

  @OptionGroup(title: "Method") var method: MethodOptions
  @Option(
    name: .long, help: "Task, or several with commas (default: every task the folder has data for)."
  )
  var task: String?
  @Option(
    name: .long, help: "Folder in LaMP's format, or a folder of such folders by task.",
    completion: .directory)
  var data: String
  @Option(
    name: .long,
    help: "Of LaMP's own files: train, dev or test (default: dev, or test where there is no dev).")
  var split: LaMPFiles.Split?
  @Option(name: .long, help: "Arms with commas.") var arms = Arm.usual.joined(separator: ",")
  @Option(name: .long, help: "Results folder.", completion: .directory) var out: String
  @Option(name: .long, help: "At most so many users of a task.") var users: Int?
  @Option(name: .long, help: "Minutes for each task; users beyond it are left out and named.")
  var budget: Double?
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Studies beside the comparison, with commas: \(PaperStudies.Kind.allCases.map(\.rawValue).joined(separator: ", ")).",
      discussion: """
        shift: histories like the queries and unlike them. formats: histories as plain text. methods: \
        LoRA, DoRA, (IA)³ and prompt tuning. curves: held-out loss by the number of events. They need \
        the arm oppu, and are not resumed.
        """))
  var studies = ""
  @Flag(
    name: .long,
    help: "Evaluate a third of the users of others.json instead, for choosing settings.")
  var development = false
  @Option(
    name: .customLong("task-adapters"), help: "Folder of adapters that oppu-worker adapt trained.",
    completion: .directory)
  var taskAdapters: String?

  func validate() throws {
    if let users, users < 1 { throw ValidationError("--users must be at least 1.") }
    for name in studies.split(separator: ",") where PaperStudies.Kind(rawValue: String(name)) == nil
    {
      throw ValidationError(
        "--studies: there is no study \"\(name)\"; there are "
          + PaperStudies.Kind.allCases.map(\.rawValue).joined(separator: ", ") + ".")
    }
    if let budget, !(budget > 0) { throw ValidationError("--budget must be above 0 minutes.") }
  }

  func run() async throws {
    try await Failure.explain {
      let settings = try method.settings()
      let arms = try arms.split(separator: ",").map {
        try Arm(String($0), retrieve: method.retrieve)
      }
      guard Set(arms.map(\.name)).count == arms.count, !arms.isEmpty else {
        throw ValidationError("--arms: each arm once, and at least one.")
      }
      let catalogue = try method.catalogue()
      let tasks = try method.tasks(named: task, in: data, of: catalogue, split: split)
      try OutputFolder.prepare(out)
      try await ComputeQueue("evaluate").run {
        let model = try method.loadModel()
        var all: [EvaluationResults] = []
        var failed: [String] = []
        for (task, folder) in tasks {
          let results: EvaluationResults
          do {
            results = try evaluate(
              task, folder, catalogue, model: model, arms: arms, settings: settings,
              out: tasks.count == 1
                ? URL(fileURLWithPath: out) : URL(fileURLWithPath: out).appending(path: task.name))
          } catch let error as TrainingError where tasks.count > 1 {
            // This task's adapter diverges; the other tasks go on.
            Failure.say("\(task.name): \(error)")
            failed.append(task.name)
            continue
          }
          print(EvaluationTable(results).text)
          all.append(results)
          // After each task: a page that can be looked at while the next is computed.
          try HTMLReport(all).write(
            to: URL(fileURLWithPath: out).appending(path: "report.html"))
        }
        if !all.isEmpty { Failure.say("wrote \(out)/report.html") }
        guard failed.isEmpty else {
          Failure.say("not evaluated: \(failed.joined(separator: ", "))")
          throw ExitCode.failure
        }
      }
    }
  }

  private func evaluate(
    _ task: TaskDefinition, _ folder: String, _ catalogue: TaskCatalogue, model: LlamaModel,
    arms: [Arm], settings: MethodSettings, out: URL
  ) throws -> EvaluationResults {
    let started = Date()
    var dataset = try LaMPDataset(
      folder: folder, task: task, catalogue: catalogue, split: split)
    if development { dataset = try dataset.development(seed: method.seed) }
    for note in dataset.notes.prefix(20) { Failure.say("\(note)") }
    if dataset.notes.count > 20 {
      Failure.say("… and \(dataset.notes.count - 20) more notes, in results.json")
    }
    let plan = EvaluationPlan(
      arms: arms, settings: settings, users: users, budget: budget.map { .seconds($0 * 60) },
      seed: method.seed, folder: out, taskAdapters: taskAdapters.map(URL.init(fileURLWithPath:)))
    let bar = ProgressLine()
    let findings = try EvaluationRun(model: model, dataset: dataset, plan: plan).run { progress in
      let left = progress.secondsLeft.map { ", \(Self.time($0)) left" } ?? ""
      bar.show(progress.done, of: progress.total, "\(task.name): \(progress.stage)\(left)")
      return true
    }
    bar.end()
    var results = EvaluationResults(
      task: task.name, kind: task.kind.rawValue, metrics: [],
      provenance: try EvaluationProvenance.now(
        model: model, files: LaMPFiles(folder: folder, split: split)?.paths(in: folder) ?? [],
        seed: method.seed, started: started))
    try study(
      PaperStudies(
        model: model, dataset: dataset, settings: settings, taskAdapters: findings.taskAdapters,
        users: users, seed: method.seed), arms: arms, into: &results)
    let arms = arms.filter { arm in
      // Texts have no commonest one.
      !(task.kind == .text && arm.source == .majority)
    }
    Summary(task: task, arms: arms, outcomes: findings.outcomes, seed: method.seed).fill(&results)
    results.configuration = try JSONValue(encoding: settings)
    results.users = EvaluatedUsers(
      done: findings.outcomes.map(\.user), leftOut: findings.leftOut)
    results.notes = dataset.notes.map {
      DataNote(file: $0.file, row: $0.row, text: $0.problem)
    }
    for arm in arms {
      var answers: [String: String] = [:]
      for outcome in findings.outcomes {
        for (id, answer) in zip(outcome.queryIDs, outcome.predictions[arm.name] ?? []) {
          answers[id] = answer ?? ""
        }
      }
      try dataset.submission(answers).write(
        to: out.appending(path: "predictions-\(arm.name).json"), options: .atomic)
    }
    try results.write(toFolder: out)
    return results
  }

  private func study(
    _ paper: PaperStudies, arms: [Arm], into results: inout EvaluationResults
  ) throws {
    for name in studies.split(separator: ",") {
      let bar = ProgressLine()
      let title = results.task
      func progress(_ done: Int, _ total: Int) -> Bool {
        bar.show(done, of: total, "\(title): study \(name)")
        return true
      }
      switch PaperStudies.Kind(rawValue: String(name)) {
      case .shift:
        results.shift = try paper.shift(
          arms: arms.filter { $0.variant != nil }, progress: progress)
      case .formats: results.studies.append(try paper.formats(progress: progress))
      case .methods: results.studies.append(try paper.methods(progress: progress))
      case .curves: results.heldOut = try paper.curves(progress: progress)
      case nil: break
      }
      bar.end()
    }
  }

  static func time(_ seconds: Double) -> String {
    seconds < 90
      ? "\(Int(seconds.rounded(.up))) s" : "\(Int((seconds / 60).rounded(.up))) min"
  }
}
