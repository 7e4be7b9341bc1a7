// `model score`: per-token losses of texts, in the form of the transformers reference.

import ArgumentParsing
import Foundation
import LanguageModel
import Worker

struct ModelScore: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "score",
    abstract: "Per-token loss of texts (negative log-likelihood in nats), as JSON.",
    discussion: """
      One object: {"rows": [{text, ids, losses, last_top, last_mean, last_std}]}. losses has one number per \
      token after the first; last_top are the likeliest next tokens with their logits. With --generate also \
      generated_ids and generated, decoded greedily.
      """)

  @OptionGroup var arguments: ModelArguments
  @Option(name: .long, help: "A text; may be repeated.") var text: [String] = []
  @Option(name: .long, help: "How many next tokens to list.") var top = 5
  @Option(name: .long, help: "Greedy tokens to append.") var generate = 0

  private struct Row: Encodable, Sendable {
    let text: String
    let ids: [Int32]
    let losses: [Float]
    let lastTop: [[Double]]
    let lastMean: Double
    let lastStd: Double
    let generatedIDs: [Int32]?
    let generated: String?

    enum CodingKeys: String, CodingKey {
      case text, ids, losses, generated
      case lastTop = "last_top"
      case lastMean = "last_mean"
      case lastStd = "last_std"
      case generatedIDs = "generated_ids"
    }
  }
  private struct Rows: Encodable { let rows: [Row] }

  func validate() throws {
    guard !text.isEmpty else { throw ValidationError("Name at least one --text.") }
    guard (0...1_000).contains(top), (0...100_000).contains(generate) else {
      throw ValidationError("--top must be 0 to 1000 and --generate 0 to 100000.")
    }
  }

  func run() async throws {
    try await Failure.explain {
      let rows = try await ComputeQueue("model").run { [self] in
        let (model, adapter) = try arguments.load()
        return try text.map { try row($0, model: model, adapter: adapter) }
      }
      Swift.print(try OutputOptions.json(Rows(rows: rows), pretty: false))
    }
  }

  private func row(_ text: String, model: LlamaModel, adapter: Adapter?) throws -> Row {
    let ids = model.tokenizer.encode(text)
    guard !ids.isEmpty else { throw ValidationError("A text to score must not be empty.") }
    let chunk = Chunk(
      tokens: ids, cache: KVCache(for: model), adapter: adapter, logits: .last)
    let logits = Array(try model.forward([chunk])[0][0]).map(Double.init)
    let mean = logits.reduce(0, +) / Double(logits.count)
    // The sample's standard deviation, as PyTorch computes it.
    let squares = logits.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    let best = logits.indices.sorted { logits[$0] > logits[$1] }.prefix(top)
    let continuation =
      generate > 0
      ? try model.generate([
        GenerationRequest(
          prompt: ids, maxTokens: generate, stopTokens: [], adapter: adapter)
      ]).first?.tokens : nil
    // As the reference does: the end-of-text token ends the text and is part of it.
    let kept = continuation.map { tokens in
      Array(tokens.prefix((tokens.firstIndex(of: model.tokenizer.eos) ?? tokens.count) + 1))
    }
    return Row(
      text: text, ids: ids, losses: try model.losses(of: ids, adapter: adapter),
      lastTop: best.map { [Double($0), logits[$0]] }, lastMean: mean,
      lastStd: (squares / Double(max(1, logits.count - 1))).squareRoot(), generatedIDs: kept,
      generated: kept.map { model.tokenizer.decode($0) })
  }
}
