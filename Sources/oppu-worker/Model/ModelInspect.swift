// `model inspect`: what a model file holds.

import ArgumentParser
import Foundation
import LanguageModel
import Worker

struct ModelInspect: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Architecture, sizes, types and tokenizer of a model file.")

  @Argument(help: "The model, a GGUF file.") var model: String
  @OptionGroup var format: OutputOptions

  private struct Inspection: Encodable, Sendable {
    let file: String
    let fingerprint: String
    let layers: Int
    let width: Int
    let heads: Int
    let kvHeads: Int
    let feedForwardWidth: Int
    let vocabulary: Int
    let contextLength: Int
    let parameters: Int
    let weightBytes: Int
    let types: [String: Int]
    let kvBytesPerToken: Int

    enum CodingKeys: String, CodingKey {
      case file, fingerprint, layers, width, heads, vocabulary, parameters, types
      case kvHeads = "kv_heads"
      case feedForwardWidth = "feed_forward_width"
      case contextLength = "context_length"
      case weightBytes = "weight_bytes"
      case kvBytesPerToken = "kv_bytes_per_token"
    }
  }

  func run() async throws {
    try await Failure.explain {
      let path = model
      let found = try await ComputeQueue("model").run { try Self.inspect(path) }
      let types = found.types.sorted { $0.key < $1.key }.map { "\($0.value) × \($0.key)" }
      try format.print(
        found,
        lines: [
          ("file", found.file), ("fingerprint", found.fingerprint),
          ("parameters", "\(found.parameters)"), ("layers", "\(found.layers)"),
          ("width", "\(found.width)"),
          ("heads", "\(found.heads) (\(found.kvHeads) for keys and values)"),
          ("feed-forward width", "\(found.feedForwardWidth)"),
          ("vocabulary", "\(found.vocabulary)"), ("context", "\(found.contextLength) tokens"),
          ("tensor types", types.joined(separator: ", ")),
          ("weights in memory", Show.bytes(Int64(found.weightBytes))),
          ("KV cache per token", Show.bytes(Int64(found.kvBytesPerToken))),
        ])
    }
  }

  private static func inspect(_ path: String) throws -> Inspection {
    let model = try LlamaModel.load(path: path)
    let shape = model.configuration
    var matrices = [model.tokenEmbedding]
    for layer in model.layers { matrices += Projection.allCases.map { layer[$0] } }
    let norms = (2 * shape.layers + 1) * shape.width
    return Inspection(
      file: path, fingerprint: model.fingerprint, layers: shape.layers, width: shape.width,
      heads: shape.heads, kvHeads: shape.kvHeads, feedForwardWidth: shape.feedForwardWidth,
      vocabulary: shape.vocabulary, contextLength: shape.contextLength,
      parameters: matrices.reduce(norms) { $0 + $1.rows * $1.columns },
      weightBytes: model.weightBytes,
      types: Dictionary(matrices.map { ("\($0.type)", 1) }, uniquingKeysWith: +),
      kvBytesPerToken: 2 * shape.layers * shape.kvWidth * 4)
  }
}
