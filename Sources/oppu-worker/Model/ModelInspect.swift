// `model inspect`: what a model holds and what it needs.

import ArgumentParsing
import FineTuning
import Foundation
import LanguageModel
import Worker

struct ModelInspect: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Architecture, sizes, types, memory and tokenizer of a model.")

  @Argument(help: "The model: a GGUF file or a Hugging Face folder.") var model: String
  @OptionGroup var format: OutputOptions

  /// The batch that memory for training is stated for.
  private static let trainingExamples = 16
  private static let trainingTokens = 256

  private struct Inspection: Encodable, Sendable {
    let file: String
    let fingerprint: String
    let architecture: String
    let layers: Int
    let width: Int
    let heads: Int
    let kvHeads: Int
    let headWidth: Int
    let feedForwardWidth: Int
    let vocabulary: Int
    let contextLength: Int
    let slidingWindow: Int?
    let ropeScaling: String
    let tokenizer: String
    let notes: [String]
    let chatTemplate: String?
    let parameters: Int
    let weightBytes: Int
    let types: [String: Int]
    let kvBytesPerToken: Int
    let trainingBytes: Int

    enum CodingKeys: String, CodingKey {
      case file, fingerprint, architecture, layers, width, heads, vocabulary, parameters, types
      case tokenizer, notes
      case chatTemplate = "chat_template"
      case kvHeads = "kv_heads"
      case headWidth = "head_width"
      case feedForwardWidth = "feed_forward_width"
      case contextLength = "context_length"
      case slidingWindow = "sliding_window"
      case ropeScaling = "rope_scaling"
      case weightBytes = "weight_bytes"
      case kvBytesPerToken = "kv_bytes_per_token"
      case trainingBytes = "training_bytes"
    }
  }

  func run() async throws {
    try await Failure.explain {
      let path = model
      let found = try await ComputeQueue("model").run { try Self.inspect(path) }
      let types = found.types.sorted { $0.key < $1.key }.map { "\($0.value) × \($0.key)" }
      let window = found.slidingWindow.map { ", sliding window of \($0)" } ?? ""
      let whole = found.weightBytes + found.kvBytesPerToken * found.contextLength
      try format.print(
        found,
        lines: [
          ("model", found.file), ("fingerprint", found.fingerprint),
          ("architecture", found.architecture), ("parameters", "\(found.parameters)"),
          ("layers", "\(found.layers)"), ("width", "\(found.width)"),
          (
            "heads",
            "\(found.heads) of width \(found.headWidth) (\(found.kvHeads) for keys and values)"
          ),
          ("feed-forward width", "\(found.feedForwardWidth)"),
          ("vocabulary", "\(found.vocabulary)"), ("tokenizer", found.tokenizer),
          ("chat template", found.chatTemplate ?? "none"),
          ("context", "\(found.contextLength) tokens\(window)"),
          ("RoPE scaling", found.ropeScaling), ("tensor types", types.joined(separator: ", ")),
          ("weights in memory", Show.bytes(Int64(found.weightBytes))),
          ("KV cache per token", Show.bytes(Int64(found.kvBytesPerToken))),
          ("inference, one full context", Show.bytes(Int64(whole))),
          (
            "training, \(Self.trainingExamples) × \(Self.trainingTokens) tokens",
            Show.bytes(Int64(found.trainingBytes))
          ),
        ] + found.notes.map { ("note", $0) })
    }
  }

  private static func inspect(_ path: String) throws -> Inspection {
    let model = try LlamaModel.load(path: path)
    let shape = model.configuration
    let summary = ModelSummary(model)
    // Without a limit: what is wanted, not what fits.
    var settings = TrainingConfiguration()
    settings.memoryLimit = .max
    let trainer = try AdapterTrainer(model: model, configuration: settings)
    let tokens = min(trainingTokens, shape.contextLength)
    let plan = try trainer.plan(longest: tokens, batchRows: trainingExamples * tokens)
    return Inspection(
      file: path, fingerprint: model.fingerprint, architecture: summary.architecture.rawValue,
      layers: shape.layers, width: shape.width, heads: shape.heads, kvHeads: shape.kvHeads,
      headWidth: shape.headWidth, feedForwardWidth: shape.feedForwardWidth,
      vocabulary: shape.vocabulary, contextLength: shape.contextLength,
      slidingWindow: shape.slidingWindow, ropeScaling: summary.ropeScaling,
      tokenizer: summary.tokenizer, notes: model.tokenizer.notes,
      chatTemplate: model.tokenizer.chatTemplate.map {
        ChatTemplate($0)?.name ?? "of another kind"
      },
      parameters: summary.parameters,
      weightBytes: summary.weightBytes, types: summary.types,
      kvBytesPerToken: summary.kvBytes / shape.contextLength, trainingBytes: plan.totalBytes)
  }
}
