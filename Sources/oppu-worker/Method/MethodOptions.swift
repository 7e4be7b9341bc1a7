// What `evaluate` and `adapt` are told alike: model, tasks, settings of the method.

import ArgumentParsing
import Evaluation
import Foundation
import LanguageModel
import OPPU
import Personalization

struct MethodOptions: ParsableArguments {
  @Option(
    name: .long, help: "Base model: a GGUF file or a Hugging Face folder.", completion: .file())
  var model = ".oppu/models/SmolLM2-135M-Instruct.Q4_1.gguf"
  @Option(
    name: .customLong("tasks-file"), help: "YAML file with tasks of your own.",
    completion: .file(extensions: ["yaml", "yml"]))
  var tasksFile: String?
  @Option(
    name: .long,
    help: """
      default (best on the default model), alone (as the worker without task adapters) or \
      reference (the paper's). docs/presets.md.
      """)
  var preset = "default"
  @Option(
    name: .customLong("set"),
    help: ArgumentHelp(
      "One setting of the preset, such as user.training.learningRate=3e-4; may be repeated.",
      valueName: "path=value"))
  var changes: [String] = []
  @Option(name: .long, help: "Items that the arms rag, nearest and all retrieve.") var retrieve = 4
  @Option(name: .long, help: "Seed of everything that is drawn at random.") var seed: UInt64 = 1
  @Option(name: .long, help: "Threads (default: OPPU_THREADS, or all cores).") var threads = 0

  func validate() throws {
    guard (1...64).contains(retrieve) else {
      throw ValidationError("--retrieve must be 1 to 64, not \(retrieve).")
    }
  }

  func settings() throws -> MethodSettings {
    var settings = try MethodSettings.preset(preset)
    for change in changes {
      let parts = change.split(separator: "=", maxSplits: 1).map(String.init)
      guard parts.count == 2 else {
        throw ValidationError("--set \(change): expected path=value.")
      }
      settings = try settings.setting(parts[0], to: parts[1])
    }
    return settings
  }

  func catalogue() throws -> TaskCatalogue {
    guard let tasksFile else { return .builtIn }
    return TaskCatalogue.builtIn.merging(try .loading(path: tasksFile))
  }

  func loadModel() throws -> LlamaModel {
    if threads > 0 { setenv("OPPU_THREADS", String(threads), 1) }
    return try LlamaModel.opened(model)
  }

  /// The tasks asked for with their folders: the one that is named, in the data folder itself or
  /// under its name there; without a name every folder in it that is called like a task.
  /// - Parameter split: of LaMP's own files, which to take.
  func tasks(
    named text: String?, in folder: String, of catalogue: TaskCatalogue,
    split: LaMPFiles.Split? = nil
  ) throws -> [(task: TaskDefinition, folder: String)] {
    func task(
      _ name: String, in path: String
    ) throws -> (task: TaskDefinition, folder: String)? {
      guard let files = LaMPFiles(folder: path, split: split) else { return nil }
      return (try catalogue.task(named: name, of: files, in: path), path)
    }
    let names = (text ?? "").split(separator: ",").map(String.init)
    if names.count == 1, let found = try task(names[0], in: folder) { return [found] }
    var found: [(task: TaskDefinition, folder: String)] = []
    for name in names.isEmpty ? catalogue.names + TaskCatalogue.sharedNames.keys.sorted() : names {
      let path = folder + "/" + name
      if let task = try task(name, in: path) {
        found.append(task)
      } else if !names.isEmpty {
        throw ValidationError(
          "--data \(folder): neither it nor \(path) has questions (questions.json, LaMP's "
            + "dev_questions.json, OPPU's user_top_100_history.json) for the task \(name).")
      }
    }
    guard !found.isEmpty else {
      throw ValidationError(
        "--data \(folder): there is no folder with questions that is called like a task; "
          + "the tasks are \(catalogue.names.joined(separator: ", ")).")
    }
    return found
  }
}
