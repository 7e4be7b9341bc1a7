// The numbers that describe a llama-architecture model.

import LinearAlgebra

/// Sizes and constants of a llama-architecture transformer.
public struct LlamaConfiguration: Sendable, Equatable, Codable {
  /// The number of transformer layers.
  public let layers: Int
  /// The width of the residual stream.
  public let width: Int
  /// Query heads.
  public let heads: Int
  /// Key and value heads; each serves `heads / kvHeads` query heads (grouped-query attention).
  public let kvHeads: Int
  /// The width of one head.
  public let headWidth: Int
  public let feedForwardWidth: Int
  /// The number of token ids.
  public let vocabulary: Int
  /// The base of the rotary angles: pair i of position p turns by p · base^(-2i / headWidth).
  public let ropeBase: Double
  public let rmsEpsilon: Float
  /// The longest sequence that the model was trained for.
  public let contextLength: Int

  /// The width of all query heads together.
  public var queryWidth: Int { heads * headWidth }
  /// The width of all key (or value) heads together.
  public var kvWidth: Int { kvHeads * headWidth }

  /// Reads and checks the keys of a GGUF file. Throws ``GGUFError``.
  init(_ file: GGUFFile) throws(GGUFError) {
    let architecture = try file.string("general.architecture")
    guard architecture == "llama" else {
      throw file.error(
        .unsupported(what: "the architecture", found: architecture, supported: "llama"))
    }
    layers = try file.size("llama.block_count", limit: 1024)
    width = try file.size("llama.embedding_length", limit: 1 << 17)
    heads = try file.size("llama.attention.head_count", limit: 4096)
    kvHeads = try file.size("llama.attention.head_count_kv", limit: 4096, default: heads)
    feedForwardWidth = try file.size("llama.feed_forward_length", limit: 1 << 20)
    contextLength = try file.size("llama.context_length", limit: 1 << 24)
    headWidth = try file.size(
      "llama.attention.key_length", limit: 4096, default: max(width / heads, 1))
    guard width == heads * headWidth, headWidth % 2 == 0 else {
      throw file.error(
        .badValue(
          key: "llama.attention.head_count", found: "\(heads)",
          expected: "heads of an even width that divide llama.embedding_length (\(width))"))
    }
    guard heads % kvHeads == 0 else {
      throw file.error(
        .badValue(
          key: "llama.attention.head_count_kv", found: "\(kvHeads)",
          expected: "a divisor of llama.attention.head_count (\(heads))"))
    }
    for key in ["llama.rope.dimension_count", "llama.attention.value_length"] {
      let found = try file.size(key, limit: 4096, default: headWidth)
      guard found == headWidth else {
        throw file.error(
          .badValue(key: key, found: "\(found)", expected: "the width of a head (\(headWidth))"))
      }
    }
    ropeBase = try file.float("llama.rope.freq_base", default: 10000)
    rmsEpsilon = Float(try file.float("llama.attention.layer_norm_rms_epsilon", default: nil))
    if let scaling = file.metadata["llama.rope.scaling.type"], scaling != .string("none") {
      throw file.error(
        .unsupported(what: "the RoPE scaling", found: scaling.summary, supported: "none"))
    }
    if let experts = file.metadata["llama.expert_count"], experts != .unsigned(0) {
      throw file.error(
        .unsupported(what: "the expert count", found: experts.summary, supported: "0"))
    }
    guard let embedding = file.tensor("token_embd.weight") else {
      throw file.error(.missingTensor("token_embd.weight"))
    }
    guard embedding.shape.count == 2, embedding.shape[0] == width, embedding.shape[1] <= 1 << 24
    else {
      throw file.error(
        .badShape(
          tensor: embedding.name, shape: embedding.shape, expected: "[\(width), vocabulary]"))
    }
    vocabulary = embedding.shape[1]
    let declared = try file.size("llama.vocab_size", limit: 1 << 24, default: vocabulary)
    guard declared == vocabulary else {
      throw file.error(
        .badValue(
          key: "llama.vocab_size", found: "\(declared)",
          expected: "the rows of token_embd.weight (\(vocabulary))"))
    }
  }
}

extension GGUFFile {
  /// The text under a key that must be there.
  func string(_ key: String) throws(GGUFError) -> String {
    guard let value = metadata[key] else { throw error(.missingKey(key)) }
    guard case .string(let text) = value else {
      throw error(.badValue(key: key, found: value.summary, expected: "text"))
    }
    return text
  }

  /// A whole number from 1 to `limit`.
  func size(_ key: String, limit: Int, default: Int? = nil) throws(GGUFError) -> Int {
    guard let value = metadata[key] else {
      if let fallback = `default` { return fallback }
      throw error(.missingKey(key))
    }
    let number: Int? =
      switch value {
      case .unsigned(let number): Int(exactly: number)
      case .signed(let number): Int(number)
      default: nil
      }
    guard let number, (1...limit).contains(number) else {
      throw error(
        .badValue(key: key, found: value.summary, expected: "a whole number from 1 to \(limit)"))
    }
    return number
  }

  /// A positive finite number; must be there where there is no default.
  func float(_ key: String, default: Double?) throws(GGUFError) -> Double {
    guard let value = metadata[key] else {
      if let fallback = `default` { return fallback }
      throw error(.missingKey(key))
    }
    guard case .float(let number) = value, number.isFinite, number > 0 else {
      throw error(.badValue(key: key, found: value.summary, expected: "a positive number"))
    }
    return number
  }
}
