// `oppu-worker search`: settings of the method side by side, on users who are not reported on.

import ArgumentParsing
import Cryptography
import Evaluation
import EvaluationReport
import FineTuning
import Foundation
import LanguageModel
import OPPU
import Personalization
import Worker

struct Search: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compare settings of the method on a development set.",
    discussion: """
      Evaluates every combination of the values that --try names, on a third of the users of \
      others.json: the users that `evaluate` reports on have no part in the choice. Task adapters are \
      trained once for all combinations that agree in what they depend on.

      The table has the task's first metric and the loss of the right answers in nats per token, which \
      tells more of few answers. All rows are in search.json. A stopped search goes on with the same \
      command.

      Example: oppu-worker search --task LaMP_4,LaMP_6 --data lamp --out search \\
        --try user.training.learningRate=3e-4,6e-4 --try user.training.epochs=2,4
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
    name: .customLong("try"),
    help: ArgumentHelp(
      "A setting and the values to try; may be repeated.", valueName: "path=value,value,…"))
  var tries: [String] = []
  @Option(name: .long, help: "Arms with commas.") var arms = "task,oppu"
  @Option(name: .long, help: "At most so many users of a task.") var users: Int?
  @Option(name: .long, help: "Folder for results and task adapters.", completion: .directory)
  var out: String
  @OptionGroup var output: OutputOptions

  /// One arm under one combination.
  private struct Row: Codable {
    var task: String
    var arm: String
    /// The settings tried, by path.
    var settings: [String: String]
    var users: Int
    var queries: Int
    var metric: String
    var value: Double?
    var low: Double?
    var high: Double?
    /// Nats per token of the right answers.
    var loss: Double?
    /// Of all users' own trainings.
    var trainingSeconds: Double?
    /// Who is missing in the numbers, and why; nil where all are there.
    var problem: String?
  }

  func run() async throws {
    try await Failure.explain {
      let combinations = try Self.combinations(tries)
      let arms = try arms.split(separator: ",").map {
        try Arm(String($0), retrieve: method.retrieve)
      }
      let catalogue = try method.catalogue()
      let tasks = try method.tasks(named: task, in: data, of: catalogue)
      let base = try method.settings()
      let settings = try combinations.map { changes in
        try changes.reduce(base) { try $0.setting($1.path, to: $1.value) }
      }
      try OutputFolder.prepare(out)
      try await ComputeQueue("search").run {
        let model = try method.loadModel()
        var rows: [Row] = []
        for (task, folder) in tasks {
          let dataset = try LaMPDataset(folder: folder, task: task, catalogue: catalogue)
            .development(seed: method.seed)
          for (changes, settings) in zip(combinations, settings) {
            rows += try evaluate(dataset, changes, settings, arms: arms, model: model)
            try Data(OutputOptions.json(rows, pretty: true).utf8).write(
              to: URL(fileURLWithPath: out).appending(path: "search.json"), options: .atomic)
          }
        }
        try show(rows)
      }
    }
  }

  private func evaluate(
    _ dataset: LaMPDataset, _ changes: [Change], _ settings: MethodSettings, arms: [Arm],
    model: LlamaModel
  ) throws -> [Row] {
    let place = URL(fileURLWithPath: out).appending(path: dataset.task.name)
    let label = changes.map { "\($0.path.split(separator: ".").last ?? "")=\($0.value)" }
      .joined(separator: " ")
    let plan = EvaluationPlan(
      arms: arms, settings: settings, users: users, seed: method.seed,
      folder: place.appending(path: try Self.name(settings)),
      adapterCache: place.appending(path: "task-adapters")
        .appending(path: try Self.name(settings.ofTaskAdapters)))
    let bar = ProgressLine()
    var findings: EvaluationRun.Findings
    var problem: String?
    do {
      findings = try EvaluationRun(model: model, dataset: dataset, plan: plan).run { progress in
        bar.show(
          progress.done, of: progress.total, "\(dataset.task.name) \(label): \(progress.stage)")
        return true
      }
      problem = findings.problem
    } catch let error as TrainingError {
      // A task adapter that diverges, or settings that are none: the other combinations go on.
      findings = EvaluationRun.Findings(
        outcomes: [], leftOut: [], taskAdapters: [:], taskSeconds: [:])
      problem = "\(error)"
    }
    bar.end()
    if let problem { Failure.say("\(dataset.task.name) \(label): \(problem)") }
    let summary = Summary(
      task: dataset.task, arms: arms, outcomes: findings.outcomes, seed: method.seed)
    let estimates = summary.estimates(findings.outcomes)
    return arms.map { arm in
      let metric = dataset.task.metrics.first?.rawValue ?? ""
      let estimate = estimates[arm.name]?[metric]
      let losses = findings.outcomes.flatMap { $0.losses[arm.name] ?? [] }
      let trainings = findings.outcomes.compactMap { $0.trainings[arm.name]?.seconds }
      return Row(
        task: dataset.task.name, arm: arm.name,
        settings: Dictionary(
          changes.map { ($0.path, $0.value) }, uniquingKeysWith: { $1 }),
        users: findings.outcomes.count,
        queries: findings.outcomes.reduce(0) { $0 + $1.measured },
        metric: metric, value: estimate?.value, low: estimate?.low, high: estimate?.high,
        loss: losses.isEmpty ? nil : losses.reduce(0, +) / Double(losses.count),
        trainingSeconds: trainings.isEmpty ? nil : trainings.reduce(0, +), problem: problem)
    }
  }

  private func show(_ rows: [Row]) throws {
    func number(_ value: Double?, _ format: String) -> String {
      value.map { String(format: format, $0) } ?? "–"
    }
    let paths = tries.compactMap { $0.split(separator: "=").first.map(String.init) }
    try output.print(
      rows, empty: "nothing was evaluated",
      columns: [
        .init("Task") { $0.task }, .init("Arm") { $0.arm },
      ]
        + paths.map { path in
          .init(String(path.split(separator: ".").last ?? "")) { $0.settings[path] ?? "" }
        } + [
          .init("Users") { String($0.users) }, .init("Queries") { String($0.queries) },
          .init("Metric") { $0.metric }, .init("Value") { number($0.value, "%.3f") },
          .init("95 %") { "\(number($0.low, "%.3f")) to \(number($0.high, "%.3f"))" },
          .init("Loss") { number($0.loss, "%.3f") },
          .init("Training s") { number($0.trainingSeconds, "%.0f") },
        ]
        + (rows.contains { $0.problem != nil } ? [.init("Missing") { $0.problem ?? "" }] : []))
  }

  struct Change: Hashable {
    var path: String
    var value: String
  }

  /// All combinations of the values, those of the first setting changing slowest.
  static func combinations(_ tries: [String]) throws -> [[Change]] {
    var combinations: [[Change]] = [[]]
    for text in tries {
      let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
      let values = parts.count == 2 ? parts[1].split(separator: ",").map(String.init) : []
      guard let path = parts.first, !values.isEmpty else {
        throw ValidationError("--try \(text): expected path=value,value,…")
      }
      combinations = combinations.flatMap { head in
        values.map { head + [Change(path: path, value: $0)] }
      }
    }
    guard combinations.count <= 1_000 else {
      throw ValidationError(
        "--try: \(combinations.count) combinations are too many; at most 1,000.")
    }
    return combinations
  }

  /// A folder's name for settings: the same for the same ones.
  private static func name(_ settings: MethodSettings) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return SHA256.hash(data: try encoder.encode(settings)).prefix(8).hexadecimal
  }
}
