// The numbers that describe a model: a transformer of the llama kind.

import LinearAlgebra

/// The kinds of transformer that can be read. They differ from Llama in the details named here.
public enum Architecture: String, Sendable, Codable, CaseIterable {
  /// Llama 2 and 3, Mistral, SmolLM and SmolLM2.
  case llama
  /// Biases of queries, keys and values.
  case qwen2
  /// An RMSNorm of each query and key head before the rotation.
  case qwen3
}

/// Sizes and constants of a llama-like transformer.
public struct LlamaConfiguration: Sendable, Equatable, Codable {
  public let architecture: Architecture
  /// The number of transformer layers.
  public let layers: Int
  /// The width of the residual stream.
  public let width: Int
  /// Query heads.
  public let heads: Int
  /// Key and value heads; each serves `heads / kvHeads` query heads (grouped-query attention).
  public let kvHeads: Int
  /// The width of one head; not always width / heads.
  public let headWidth: Int
  /// The width between the gate and up projections and the down projection.
  public let feedForwardWidth: Int
  /// The number of token ids.
  public let vocabulary: Int
  /// The base of the rotary angles: pair i of position p turns by p · base^(-2i / headWidth), before
  /// scaling.
  public let ropeBase: Double
  /// How the angles of ``ropeBase`` are changed for longer contexts.
  public let ropeScaling: RopeScaling
  /// Added to the mean square of every RMSNorm, under the root.
  public let rmsEpsilon: Float
  /// The longest sequence: the one that the model was trained for, or its sliding window where that
  /// is shorter, because up to there a window sees all that full attention sees.
  public let contextLength: Int
  /// Positions that a query attends to, its own included; nil where it attends to all.
  public let slidingWindow: Int?

  /// The width of all query heads together.
  public var queryWidth: Int { heads * headWidth }
  /// The width of all key (or value) heads together.
  public var kvWidth: Int { kvHeads * headWidth }

  /// Limits that every model keeps, whatever file it comes from.
  enum Limit {
    static let layers = 1024
    static let width = 1 << 17
    static let heads = 4096
    static let headWidth = 4096
    static let feedForwardWidth = 1 << 20
    static let vocabulary = 1 << 24
    static let contextLength = 1 << 24
  }

  /// Reads and checks the keys of a GGUF file. Throws ``GGUFError``.
  init(_ file: GGUFFile) throws(GGUFError) {
    let name = try file.string("general.architecture")
    guard let architecture = Architecture(rawValue: name) else {
      throw file.error(
        .unsupported(
          what: "the architecture", found: name,
          supported: Architecture.allCases.map(\.rawValue).joined(separator: ", ")))
    }
    self.architecture = architecture
    layers = try file.size("\(name).block_count", limit: Limit.layers)
    width = try file.size("\(name).embedding_length", limit: Limit.width)
    heads = try file.size("\(name).attention.head_count", limit: Limit.heads)
    kvHeads = try file.size(
      "\(name).attention.head_count_kv", limit: Limit.heads, default: heads)
    feedForwardWidth = try file.size(
      "\(name).feed_forward_length", limit: Limit.feedForwardWidth)
    let trained = try file.size("\(name).context_length", limit: Limit.contextLength)
    let hasWindow = file.metadata["\(name).attention.sliding_window"] != nil
    let window =
      hasWindow
      ? try file.size("\(name).attention.sliding_window", limit: Limit.contextLength) : nil
    slidingWindow = window
    contextLength = min(trained, window ?? trained)
    headWidth = try file.size(
      "\(name).attention.key_length", limit: Limit.headWidth, default: max(width / heads, 1))
    let mayDiffer = file.metadata["\(name).attention.key_length"] != nil
    guard mayDiffer || width == heads * headWidth, headWidth % 2 == 0 else {
      throw file.error(
        .badValue(
          key: "\(name).attention.head_count", found: "\(heads)",
          expected: "heads of an even width that divide \(name).embedding_length (\(width))"))
    }
    guard heads % kvHeads == 0 else {
      throw file.error(
        .badValue(
          key: "\(name).attention.head_count_kv", found: "\(kvHeads)",
          expected: "a divisor of \(name).attention.head_count (\(heads))"))
    }
    for key in ["\(name).rope.dimension_count", "\(name).attention.value_length"] {
      let found = try file.size(key, limit: Limit.headWidth, default: headWidth)
      guard found == headWidth else {
        throw file.error(
          .badValue(key: key, found: "\(found)", expected: "the width of a head (\(headWidth))"))
      }
    }
    ropeBase = try file.float("\(name).rope.freq_base", default: 10000)
    rmsEpsilon = Float(try file.float("\(name).attention.layer_norm_rms_epsilon", default: nil))
    ropeScaling = try Self.ropeScaling(
      file, name, headWidth: headWidth, contextLength: trained)
    if let experts = file.metadata["\(name).expert_count"], experts != .unsigned(0) {
      throw file.error(
        .unsupported(what: "the expert count", found: experts.summary, supported: "0"))
    }
    guard let embedding = file.tensor("token_embd.weight") else {
      throw file.error(.missingTensor("token_embd.weight"))
    }
    guard embedding.shape.count == 2, embedding.shape[0] == width,
      embedding.shape[1] <= Limit.vocabulary
    else {
      throw file.error(
        .badShape(
          tensor: embedding.name, shape: embedding.shape, expected: "[\(width), vocabulary]"))
    }
    vocabulary = embedding.shape[1]
    let declared = try file.size(
      "\(name).vocab_size", limit: Limit.vocabulary, default: vocabulary)
    guard declared == vocabulary else {
      throw file.error(
        .badValue(
          key: "\(name).vocab_size", found: "\(declared)",
          expected: "the rows of token_embd.weight (\(vocabulary))"))
    }
  }

  private static func ropeScaling(
    _ file: GGUFFile, _ name: String, headWidth: Int, contextLength: Int
  ) throws(GGUFError) -> RopeScaling {
    let prefix = "\(name).rope.scaling."
    var kind = "none"
    if file.metadata[prefix + "type"] != nil {
      kind = try file.string(prefix + "type")
    } else if file.metadata["\(name).rope.scale_linear"] != nil {
      kind = "linear"
    }
    let hasDivisors = file.tensor(Self.ropeDivisors) != nil
    switch kind {
    case "none":
      guard hasDivisors else { return .none }
      let divisors = try file.vector(Self.ropeDivisors, count: headWidth / 2)
      guard divisors.allSatisfy({ $0.isFinite && $0 > 0 }) else {
        throw file.error(
          .badValue(
            key: Self.ropeDivisors, found: "another number", expected: "positive numbers"))
      }
      return .divisors(divisors)
    case "linear" where !hasDivisors:
      return .linear(
        factor: try file.float(
          prefix + "factor", default: file.float("\(name).rope.scale_linear", default: 1)))
    case "yarn" where !hasDivisors:
      let factor = try file.float(prefix + "factor", default: nil)
      return .yarn(
        factor: factor,
        originalContext: try file.size(
          prefix + "original_context_length", limit: Limit.contextLength, default: contextLength),
        attentionFactor: try file.float(prefix + "attn_factor", default: 1)
          * RopeScaling.yarnAttentionFactor(factor),
        betaFast: try file.float(prefix + "yarn_beta_fast", default: 32),
        betaSlow: try file.float(prefix + "yarn_beta_slow", default: 1))
    default:
      throw file.error(
        .unsupported(
          what: "the RoPE scaling", found: hasDivisors ? "\(kind) with rope_freqs.weight" : kind,
          supported: "none, rope_freqs.weight alone (Llama 3), linear, yarn"))
    }
  }

  /// The GGUF tensor of ``RopeScaling/divisors(_:)``.
  static let ropeDivisors = "rope_freqs.weight"
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
    // Some writers leave out the point of a whole number.
    let number: Double =
      switch value {
      case .float(let number): number
      case .unsigned(let number): Double(number)
      case .signed(let number): Double(number)
      default: 0
      }
    guard number.isFinite, number > 0 else {
      throw error(.badValue(key: key, found: value.summary, expected: "a positive number"))
    }
    return number
  }
}
