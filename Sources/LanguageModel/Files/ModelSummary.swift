// What there is to say about a model: sizes, weight types, tokenizer, memory.

/// The facts that `oppu-worker model inspect` shows.
public struct ModelSummary: Sendable, Equatable, Codable {
  public let architecture: Architecture
  /// The number of transformer layers.
  public let layers: Int
  /// The numbers in all weights: matrices, norms and biases. An output that is the embedding counts
  /// once.
  public let parameters: Int
  /// Matrices of each weight type, by ggml's names.
  public let types: [String: Int]
  /// The weights as they lie in memory.
  public let weightBytes: Int
  /// Of one sequence's keys and values at the longest context.
  public let kvBytes: Int
  /// Its kind in words, such as `byte-level BPE (Llama 3's pieces)`.
  public let tokenizer: String
  /// Its kind and factor in words, such as `linear, factor 2.0`; `none` where there is none.
  public let ropeScaling: String

  /// Counts and measures an opened model; computes nothing with it.
  public init(_ model: LlamaModel) {
    let shape = model.configuration
    var matrices = [model.tokenEmbedding] + (model.tiesOutput ? [] : [model.output])
    var others = model.outputNorm.count
    for layer in model.layers {
      matrices += Projection.allCases.map { layer[$0] }
      others += layer.attentionNorm.count + layer.feedForwardNorm.count
      others += (layer.queryNorm?.count ?? 0) + (layer.keyNorm?.count ?? 0)
      others += Projection.allCases.reduce(0) { $0 + (layer.bias($1)?.count ?? 0) }
    }
    architecture = shape.architecture
    layers = shape.layers
    parameters = matrices.reduce(others) { $0 + $1.rows * $1.columns }
    types = Dictionary(matrices.map { ($0.type.name, 1) }, uniquingKeysWith: +)
    weightBytes = model.weightBytes
    kvBytes = KVCache.byteCount(
      positions: shape.contextLength, configuration: shape, precision: model.precision)
    tokenizer =
      switch model.tokenizer.preTokenizer {
      case nil: "SentencePiece BPE"
      case .byteLevel?: "byte-level BPE (GPT-2's pieces)"
      case .digitsThenByteLevel?: "byte-level BPE (SmolLM's pieces)"
      case .llama3?: "byte-level BPE (Llama 3's pieces)"
      case .qwen2?: "byte-level BPE (Qwen 2's pieces)"
      }
    ropeScaling =
      switch shape.ropeScaling {
      case .none: "none"
      case .linear(let factor): "linear, factor \(factor)"
      case .llama3(let factor, _, _, _): "llama3, factor \(factor)"
      case .yarn(let factor, _, _, _, _): "yarn, factor \(factor)"
      case .divisors: "a factor for each frequency"
      }
  }
}
