// `oppu-worker adapt`: task adapters, trained on users who are not the ones to be served or evaluated.

import ArgumentParsing
import Evaluation
import Foundation
import LanguageModel
import OPPU
import Personalization
import Worker

struct Adapt: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train a task's adapters on other users, one for each kind of prompt.",
    discussion: """
      Stage 1 of the method: the model learns the task from users who are no targets (others.json of a \
      folder in LaMP's format). The users' own adapters are trained over the result. Each kind of \
      prompt wants an adapter of its own: one that was trained without retrieval unlearns to use it.

      Example: oppu-worker adapt --task LaMP_4 --data lamp/LaMP_4 --variants plain,rag-4 --out adapters
      Then: oppu-worker evaluate --task LaMP_4 --data lamp/LaMP_4 --task-adapters adapters --out results
      Or serve them: OPPU_TASK_ADAPTERS=adapters oppu-worker run
      """)

  @OptionGroup(title: "Method") var method: MethodOptions
  @Option(
    name: .long, help: "Task, or several with commas (default: every task the folder has data for)."
  )
  var task: String?
  @Option(name: .long, help: "Folder in LaMP's format, with others.json.", completion: .directory)
  var data: String
  @Option(name: .long, help: "Kinds of prompts with commas: plain, rag-K, pag, rag-K+pag.")
  var variants = "plain"
  @Option(
    name: .long, help: "Folder for the adapters: TASK/KIND in it are PEFT folders.",
    completion: .directory) var out: String

  func run() async throws {
    try await Failure.explain {
      let settings = try method.settings()
      let catalogue = try method.catalogue()
      let variants = try variants.split(separator: ",").map { name -> PromptVariant in
        let arm = try Arm(name == "plain" ? "task" : "task+\(name)", retrieve: method.retrieve)
        return arm.variant ?? .plain
      }
      let found = try method.tasks(named: task, in: data, of: catalogue)
      try OutputFolder.prepare(out)
      try await ComputeQueue("adapt").run {
        let model = try method.loadModel()
        for (task, folder) in found {
          try adapt(task, folder, catalogue, variants, model: model, settings: settings)
        }
      }
    }
  }

  private func adapt(
    _ task: TaskDefinition, _ folder: String, _ catalogue: TaskCatalogue,
    _ variants: [PromptVariant], model: LlamaModel, settings: MethodSettings
  ) throws {
    let dataset = try LaMPDataset(folder: folder, task: task, catalogue: catalogue)
    guard !dataset.others.isEmpty else { throw EvaluationError.noOtherUsers }
    try LaMPUser.requireDisjoint(evaluated: dataset.users, others: dataset.others)
    var settings = settings
    settings.examples.inputFields = dataset.queryFields
    let store = TaskAdapterStore(
      folder: URL(fileURLWithPath: out).appending(path: task.name))
    var plain: Adapter?
    for variant in settings.withParents(variants) {
      let adaptation = TaskAdaptation(
        model: model, task: dataset.historyTask, settings: settings, variant: variant, plain: plain)
      let bar = ProgressLine()
      let trained = try store.train(
        adaptation, on: dataset.others, queries: dataset.task == dataset.historyTask,
        seed: method.seed
      ) { step in
        bar.show(
          step.step, of: step.steps,
          String(
            format: "%@, loss %.3f, %.0f tokens/s", variant.name, step.loss, step.tokensPerSecond))
        return true
      }
      bar.end()
      if variant == .plain { plain = trained?.adapter }
      guard let report = trained?.report else { continue }
      Swift.print(try OutputOptions.json(report, pretty: false))
      Failure.say("wrote \(out)/\(task.name)/\(variant.name)")
    }
  }
}
