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
  @Option(name: .long, help: "PEFT adapter folder to continue from.", completion: .directory)
  var from: String?
  @Option(
    name: .long, help: "PEFT adapter folder to train over: frozen, and to be stacked under.",
    completion: .directory)
  var over: String?
  @Option(name: .long, help: "lora, dora, ia3 or prompt_tuning.") var method = TrainingMethod.lora
  @Option(name: .long, help: "Rank of LoRA and DoRA.") var rank = 8
  @Option(name: .long, help: "The update is scaled by alpha / rank.") var alpha: Float = 8
  @Flag(name: .long, help: "rsLoRA: scale by alpha / √rank instead.") var rslora = false
  @Option(
    name: .long,
    help: """
      Projections with an adapter, with commas (default: q_proj,v_proj; for ia3 k_proj,v_proj,down_proj, \
      where down_proj's input is scaled).
      """)
  var targets: String?
  @Option(name: .long, help: "Embeddings before the prompt, with prompt_tuning.")
  var virtualTokens = 20
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

  func run() async throws {
    try await Failure.explain {
      if threads > 0 { setenv("OPPU_THREADS", String(threads), 1) }
      let settings = try trainingConfiguration()
      let report = try await ComputeQueue("finetune").run { try train(settings) }
      Swift.print(try OutputOptions.json(report, pretty: false))
    }
  }

  private func trainingConfiguration() throws -> TrainingConfiguration {
    var settings = TrainingConfiguration(method: method)
    settings.rank = rank
    settings.alpha = alpha
    settings.rankStabilized = rslora
    settings.virtualTokens = virtualTokens
    if let targets {
      settings.targets = try targets.split(separator: ",").map { name in
        guard let projection = Projection(rawValue: name.trimmingCharacters(in: .whitespaces))
        else {
          let known = Projection.allCases.map(\.rawValue).joined(separator: ", ")
          throw ValidationError(
            "--targets: there is no projection \"\(name)\"; there are \(known).")
        }
        return projection
      }
      settings.feedForwardTargets = settings.targets.filter { $0 == .down }
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
    try settings.validate()
    return settings
  }

  private func train(_ settings: TrainingConfiguration) throws -> FineTuningReport {
    let model = try LlamaModel.load(path: model, precision: precision)
    let examples = try TrainingData.read(
      path: data, endOfText: model.tokenizer.eos, cutoff: settings.cutoff,
      tokenize: model.tokenizer.encode)
    let under = try over.map { try PEFTFolder.read($0, model: model) }
    let start = try from.map { try PEFTFolder.read($0, model: model, over: under) }
    let bar = ProgressLine()
    let result = try AdapterTrainer(model: model, configuration: settings, over: under).train(
      examples: examples, startingFrom: start
    ) { step in
      bar.show(
        step.step, of: step.steps,
        String(format: "loss %.4f, %.0f tokens/s", step.loss, step.tokensPerSecond))
      return true
    }
    bar.end()
    if let out {
      try PEFTFolder.write(result.adapter, to: out, baseModel: model.path)
      Failure.say("wrote \(out)")
    }
    return result.report
  }
}

extension ProductPrecision: ExpressibleByArgument {}
