// `oppu-worker finetune`: an adapter from a file of examples, without Kafka and PostgreSQL.

import ArgumentParsing
import FineTuning
import Foundation
import LanguageModel
import Worker

extension TrainingMethod: ExpressibleByArgument {}

struct Finetune: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train an adapter on a JSONL file of prompts and completions.",
    discussion: """
      Each line is {"prompt": "…", "completion": "…"}; the loss is on the completion and the end-of-text \
      token after it. Writes a PEFT adapter folder and prints one JSON object of figures on stdout; progress \
      goes to stderr.

      Example: oppu-worker finetune --model SmolLM2-135M-Instruct.Q4_1.gguf --data rows.jsonl --out adapter
      """)

  @Option(name: .long, help: "Base model, a GGUF file.", completion: .file(extensions: ["gguf"]))
  var model: String
  @Option(
    name: .long, help: "JSONL of {\"prompt\", \"completion\"}.",
    completion: .file(extensions: ["jsonl"])) var data: String
  @Option(
    name: .long, help: "Folder for the trained adapter (PEFT's format).", completion: .directory)
  var out: String?
  @Option(
    name: .long,
    help: "PEFT adapter folder to go on from; method, rank, alpha and targets are the adapter's.",
    completion: .directory)
  var from: String?
  @Option(
    name: .long, help: "PEFT adapter folder to train over: frozen, and to be stacked under.",
    completion: .directory)
  var over: String?
  @Option(
    name: .long,
    help:
      "lora, dora, ia3 or prompt_tuning (default: lora, or what --from is, as in the next five).")
  var method: TrainingMethod?
  @Option(name: .long, help: "Rank of LoRA and DoRA (default: 8).") var rank: Int?
  @Option(name: .long, help: "The update is scaled by alpha / rank (default: 8).")
  var alpha: Float?
  @Flag(name: .long, help: "rsLoRA: scale by alpha / √rank instead.") var rslora = false
  @Option(
    name: .long,
    help: """
      Projections with an adapter, with commas (default: q_proj,v_proj; for ia3 k_proj,v_proj,down_proj, \
      where down_proj's input is scaled).
      """)
  var targets: String?
  @Option(name: .long, help: "Embeddings before the prompt, with prompt_tuning (default: 20).")
  var virtualTokens: Int?
  @Option(name: .long, help: "Examples in an optimiser step.") var batch = 16
  @Option(name: .long, help: "Times that every example is seen.") var epochs = 2
  @Option(name: .long, help: "Peak learning rate of AdamW.") var lr: Float = 1e-4
  @Option(name: .long, help: "Decoupled weight decay.") var weightDecay: Float = 1e-2
  @Option(name: .long, help: "The gradient's norm is clipped to this.") var clip: Float = 0.3
  @Option(name: .long, help: "Share of the steps in which the learning rate rises.")
  var warmup = 0.1
  @Option(name: .long, help: "Dropout on the adapter's input.") var dropout: Float = 0
  @Option(name: .long, help: "Longest example in tokens; prompts are cut at their beginning.")
  var cutoff = 2048
  @Option(name: .long, help: "Threads (default: OPPU_THREADS, or all cores).") var threads = 0
  @Option(
    name: .long,
    help:
      "int8: products with 8-bit activations and gradients, several times faster; float32: exact ones."
  )
  var precision: ProductPrecision = .int8
  @Option(name: .long, help: "Seed of initial weights and order.") var seed: UInt64 = 0
  @Option(
    name: .long, help: "MiB that training may plan with, the model's weights included.")
  var memory = TrainingConfiguration().memoryLimit >> 20

  func validate() throws {
    guard (1...1 << 30).contains(memory) else {
      throw ValidationError("--memory must be at least 1 MiB, not \(memory).")
    }
    // An adapter to go on from is read later.
    guard from == nil else { return }
    do { try trainingConfiguration().validate() } catch let error as TrainingError {
      throw ValidationError(error.description)
    }
  }

  func run() async throws {
    try await Failure.explain {
      if threads > 0 { setenv("OPPU_THREADS", String(threads), 1) }
      do {
        let report = try await ComputeQueue("finetune").run { try train() }
        Swift.print(try OutputOptions.json(report, pretty: false))
      } catch let error as TrainingError {
        guard case .memory = error else { throw error }
        Failure.say("\(error) --memory raises it.")
        throw ExitCode.failure
      }
    }
  }

  /// - Parameter start: the method of the adapter to go on from, which decides on all that makes it.
  /// - Throws: `ValidationError` where an option contradicts it.
  func trainingConfiguration(from start: AdapterMethod? = nil) throws -> TrainingConfiguration {
    var settings = TrainingConfiguration(method: method ?? .lora)
    if let start {
      settings.take(start)
      if let method { settings.method = method }
    }
    if let rank { settings.rank = rank }
    if let alpha { settings.alpha = alpha }
    if rslora { settings.rankStabilized = true }
    if let virtualTokens { settings.virtualTokens = virtualTokens }
    if let targets {
      settings.targets = try projections(targets)
      settings.feedForwardTargets = settings.targets.filter {
        start == nil ? $0 == .down : settings.feedForwardTargets.contains($0)
      }
    }
    if let start, settings.adapterMethod != start {
      throw ValidationError(
        "--from \(from ?? "") is \(start); the options ask for \(settings.adapterMethod). Leave "
          + "out what contradicts, or train anew without --from.")
    }
    settings.batchSize = batch
    settings.epochs = epochs
    settings.learningRate = lr
    settings.weightDecay = weightDecay
    settings.clip = clip
    settings.warmup = warmup
    settings.dropout = dropout
    settings.cutoff = cutoff
    settings.seed = seed
    settings.memoryLimit = memory << 20
    return settings
  }

  private func projections(_ text: String) throws -> [Projection] {
    let found = try text.split(separator: ",").map { name in
      guard let projection = Projection(rawValue: name.trimmingCharacters(in: .whitespaces))
      else {
        let known = Projection.allCases.map(\.rawValue).joined(separator: ", ")
        throw ValidationError(
          "--targets: there is no projection \"\(name)\"; there are \(known).")
      }
      return projection
    }
    return Projection.allCases.filter(found.contains)
  }

  private func train() throws -> FineTuningReport {
    if let out { try OutputFolder.prepare(out) }
    let model = try LlamaModel.opened(model, precision: precision)
    let under = try over.map { try PEFTFolder.opened($0, model: model) }
    let start = try from.map { try PEFTFolder.opened($0, model: model, over: under) }
    let trainer = try AdapterTrainer(
      model: model, configuration: try trainingConfiguration(from: start?.methods.first),
      over: under)
    let examples = try TrainingData.read(
      path: data, cutoff: trainer.longestExample, keeping: model.tokenizer.beginning,
      example: PromptTokens(model.tokenizer).example)
    let bar = ProgressLine()
    let result = try trainer.train(examples: examples, startingFrom: start) { step in
      bar.show(
        step.step, of: step.steps,
        String(format: "loss %.4f, %.0f tokens/s", step.loss, step.tokensPerSecond))
      return true
    }
    bar.end()
    if let out {
      try PEFTFolder.write(
        result.adapter, to: out, baseModel: model.path, fingerprint: model.fingerprint)
      Failure.say("wrote \(out)")
    }
    return result.report
  }
}

extension ProductPrecision: ExpressibleByArgument {}
