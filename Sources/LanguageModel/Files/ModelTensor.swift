// The tensors of a model and what the two kinds of file call them.

import LinearAlgebra

/// A tensor of a llama-like transformer.
enum ModelTensor: Hashable {
  case embedding
  case output
  case outputNorm
  case attentionNorm(layer: Int)
  case feedForwardNorm(layer: Int)
  case queryNorm(layer: Int)
  case keyNorm(layer: Int)
  case weight(Projection, layer: Int)
  case bias(Projection, layer: Int)

  /// The name in a GGUF file.
  var ggufName: String {
    switch self {
    case .embedding: "token_embd.weight"
    case .output: "output.weight"
    case .outputNorm: "output_norm.weight"
    case .attentionNorm(let layer): "blk.\(layer).attn_norm.weight"
    case .feedForwardNorm(let layer): "blk.\(layer).ffn_norm.weight"
    case .queryNorm(let layer): "blk.\(layer).attn_q_norm.weight"
    case .keyNorm(let layer): "blk.\(layer).attn_k_norm.weight"
    case .weight(let projection, let layer): "blk.\(layer).\(projection.ggufName).weight"
    case .bias(let projection, let layer): "blk.\(layer).\(projection.ggufName).bias"
    }
  }

  /// The name in a Hugging Face model's safetensors files.
  var huggingFaceName: String {
    switch self {
    case .embedding: "model.embed_tokens.weight"
    case .output: "lm_head.weight"
    case .outputNorm: "model.norm.weight"
    case .attentionNorm(let layer): "model.layers.\(layer).input_layernorm.weight"
    case .feedForwardNorm(let layer): "model.layers.\(layer).post_attention_layernorm.weight"
    case .queryNorm(let layer): "model.layers.\(layer).self_attn.q_norm.weight"
    case .keyNorm(let layer): "model.layers.\(layer).self_attn.k_norm.weight"
    case .weight(let projection, let layer): "model.layers.\(layer).\(projection.moduleName).weight"
    case .bias(let projection, let layer): "model.layers.\(layer).\(projection.moduleName).bias"
    }
  }

  /// The projections of an architecture that have a bias.
  static func biased(_ architecture: Architecture) -> [Projection] {
    architecture == .qwen2 ? [.query, .key, .value] : []
  }

  /// Every tensor that a model of this shape may have.
  static func all(_ configuration: LlamaConfiguration) -> [ModelTensor] {
    [.embedding, .output, .outputNorm]
      + (0..<configuration.layers).flatMap { layer in
        [.attentionNorm(layer: layer), .feedForwardNorm(layer: layer)]
          + Projection.allCases.map { .weight($0, layer: layer) }
          + biased(configuration.architecture).map { .bias($0, layer: layer) }
          + (configuration.architecture == .qwen3
            ? [.queryNorm(layer: layer), .keyNorm(layer: layer)] : [])
      }
  }
}

/// Where a model's tensors come from. Matrices stay in the file; rows are in the Hugging Face order.
protocol WeightSource {
  associatedtype Failure: Error
  func has(_ tensor: ModelTensor) -> Bool
  func matrix(_ tensor: ModelTensor, rows: Int, columns: Int) throws(Failure) -> QuantizedMatrix
  /// Expanded to f32.
  func vector(_ tensor: ModelTensor, count: Int) throws(Failure) -> [Float]
}

/// The tensors of a GGUF file.
struct GGUFWeights: WeightSource {
  let file: GGUFFile
  let configuration: LlamaConfiguration

  func has(_ tensor: ModelTensor) -> Bool { file.tensor(tensor.ggufName) != nil }

  func matrix(
    _ tensor: ModelTensor, rows: Int, columns: Int
  ) throws(GGUFError) -> QuantizedMatrix {
    let matrix = try file.matrix(tensor.ggufName, rows: rows, columns: columns)
    switch tensor {
    case .weight(.query, _) where configuration.architecture == .llama,
      .weight(.key, _) where configuration.architecture == .llama:
      return matrix.reordered(
        LlamaLayer.halfSplitOrder(rows: rows, headWidth: configuration.headWidth))
    default: return matrix
    }
  }

  func vector(_ tensor: ModelTensor, count: Int) throws(GGUFError) -> [Float] {
    try file.vector(tensor.ggufName, count: count)
  }
}

extension LlamaLayer {
  /// GGUF stores a llama's query and key rows of each head for rotary pairs (2i, 2i + 1); Hugging
  /// Face, and with it every PEFT adapter, pairs (i, i + headWidth / 2). Row j · half + i of a head
  /// here is row 2i + j there. Other architectures' rows are not interleaved.
  static func halfSplitOrder(rows: Int, headWidth: Int) -> [Int] {
    let half = headWidth / 2
    return (0..<rows).map { row in
      let (head, inside) = row.quotientAndRemainder(dividingBy: headWidth)
      return head * headWidth + 2 * (inside % half) + inside / half
    }
  }
}
