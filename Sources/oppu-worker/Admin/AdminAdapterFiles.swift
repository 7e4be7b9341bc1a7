// `admin adapters export` and `import`: versions as files of PEFT and llama.cpp.

import ArgumentParsing
import FineTuning
import Foundation
import JSON
import LanguageModel
import Personalization
import Storage
import Worker

enum AdapterFormat: String, CaseIterable, ExpressibleByArgument {
  /// A folder of adapter_config.json and adapter_model.safetensors.
  case peft
  /// A file that llama.cpp loads beside the base model; LoRA only.
  case gguf
}

struct AdaptersExport: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export", abstract: "Write a version as a PEFT folder or a GGUF file.",
    discussion: """
      Example: oppu-worker admin adapters export alice film_tag --format gguf --out alice.gguf
      """)

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var output: OutputOptions
  @Argument(help: "The user's id.") var user: String
  @Argument(help: "The task.", completion: .taskNames) var task: String
  @Argument(help: "The version's number (default: the active one).") var version: Int?
  @Option(name: .long, help: "peft, a folder, or gguf, a file for llama.cpp.")
  var format = AdapterFormat.peft
  @Option(name: .long, help: "The folder or file to write; it must not exist.", completion: .file())
  var out: String

  private struct Written: Encodable {
    let userID: String
    let task: String
    let version: Int
    let format: String
    let path: String
  }

  func run() async throws {
    try await withDatabase(options) { client, configuration in
      guard !FileManager.default.fileExists(atPath: out) else {
        throw ValidationError("--out: \(out) exists already.")
      }
      let stream = StreamID(userID: user, task: task)
      let repository = AdapterRepository(client)
      let found =
        if let version { try await repository.get(stream, version: version) } else {
          try await repository.active(stream)
        }
      guard let found else {
        Failure.say(
          version.map { "\(stream) has no adapter version \($0)" }
            ?? "\(stream) has no active adapter")
        throw ExitCode.failure
      }
      let weights = try await repository.weights(stream, version: found.version)
      let (model, path, format) = (configuration.model, out, format)
      try await ComputeQueue("export").run {
        let json = try JSONEncoder().encode(found.configuration)
        let name = "adapter \(stream) version \(found.version)"
        let settings = try PEFTConfiguration(json: json, file: name)
        let base = try LlamaModel.load(path: model)
        // Behind a "+" stands the task adapter that it was trained over.
        let bases = found.baseFingerprint.split(separator: "+").map(String.init)
        guard base.fingerprint == bases.first else {
          throw ForeignModelError(name: name, model: model, fingerprint: found.baseFingerprint)
        }
        let adapter = try PEFTFolder.decode(weights, settings: settings, model: base, file: name)
        if bases.count > 1 {
          Failure.say(
            "note: \(name) is to be used over the task adapter \(bases[1].prefix(12))… that it was "
              + "trained over, not over the base model alone")
        }
        switch format {
        case .peft:
          try PEFTFolder.write(
            adapter, to: path, baseModel: settings.baseModel, fingerprint: bases.first)
        case .gguf:
          try GGUFAdapter.encode(
            adapter, configuration: base.configuration, fingerprint: bases.first
          ).write(to: URL(fileURLWithPath: path), options: .atomic)
        }
      }
      let done = "Wrote version \(found.version) of \(stream) to \(out)."
      try output.print(
        "export", executed: true,
        Written(
          userID: user, task: task, version: found.version, format: format.rawValue, path: path),
        plan: done, done: done)
    }
  }
}

/// An adapter belongs to another base model than the one that is configured.
struct ForeignModelError: Error, CustomStringConvertible {
  let name: String
  let model: String
  let fingerprint: String
  var description: String {
    "\(name) belongs to another base model (\(shortFingerprint(fingerprint))) than \(model)"
  }
}

struct AdaptersImport: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import",
    abstract: "Make a PEFT folder or a GGUF file a user's active version.",
    discussion: """
      The adapter must be for the configured base model, over the task's adapter where one is configured. It is not judged on held-out events. Without \
      --execute it shows the plan.
      """)

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The user's id.") var user: String
  @Argument(help: "The task.", completion: .taskNames) var task: String
  @Option(name: .long, help: "A PEFT folder, or a GGUF file.", completion: .file()) var from: String
  @Flag(name: .long, help: "Store it.") var execute = false

  private struct Imported: Encodable {
    let userID: String
    let task: String
    let path: String
    let bytes: Int
    /// The version that it becomes.
    let version: Int
    let replacedVersion: Int?
  }

  func run() async throws {
    try await withDatabase(options) { client, configuration in
      let stream = StreamID(userID: user, task: task)
      let active = try await AdapterRepository(client).active(stream)
      let (path, from, train) = (configuration.model, from, configuration.train)
      let adapter = try await ComputeQueue("import").run {
        let served = try ServedModel.load(configuration, catalogue: configuration.catalogue())
        let model = served.base
        var isFolder: ObjCBool = false
        _ = FileManager.default.fileExists(atPath: from, isDirectory: &isFolder)
        let adapter =
          isFolder.boolValue
          ? try PEFTFolder.opened(from, model: model)
          : try GGUFAdapter.read(
            path: from, configuration: model.configuration, fingerprint: model.fingerprint)
        try served.tryOut(adapter, task: task)
        if !train.method.user.training.canContinue(adapter) {
          Failure.say(
            "note: the worker's settings train another kind of adapter (train.method, train.rank, "
              + "train.alpha, train.targets): the next training will begin anew")
        }
        let description = try PEFTConfiguration(
          adapter, baseModel: URL(fileURLWithPath: path).lastPathComponent
        ).json()
        return NewAdapter(
          stream: stream, parentVersion: nil, baseFingerprint: served.fingerprint(for: task),
          configuration: try JSONValue(reading: description),
          weights: try PEFTFolder.encode(adapter), trainedThrough: 0,
          training: .imported(from: from),
          gate: GateRecord(
            heldOutExamples: 0, parentLoss: nil, candidateLoss: nil, difference: nil,
            differenceUpperBound: nil, promoted: true, verdict: "imported, not judged"))
      }
      let replaced = active.map { "version \($0.version)" } ?? "the base model"
      let version = try await AdapterImport(client).store(adapter, isRehearsal: !execute)
      try format.print(
        "import", executed: execute,
        Imported(
          userID: user, task: task, path: from, bytes: adapter.weights.count, version: version,
          replacedVersion: active?.version),
        plan: "\(from) (\(adapter.weights.count) bytes) would replace \(replaced) of \(stream).",
        done: "\(from) is version \(version) of \(stream) and active; it replaced \(replaced).")
    }
  }
}
