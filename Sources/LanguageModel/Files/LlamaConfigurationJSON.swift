// The numbers that describe a model, from a Hugging Face config.json.

import JSON

extension LlamaConfiguration {
  /// model_type and the architecture it is a case of.
  private static let kinds: [String: Architecture] = [
    "llama": .llama, "mistral": .llama, "qwen2": .qwen2, "qwen3": .qwen3,
  ]

  /// Reads and checks config.json. Throws ``ModelFileError``.
  init(_ config: JSONObject) throws(ModelFileError) {
    func unsupported(_ key: String, _ value: JSONValue, _ supported: String) -> ModelFileError {
      config.bad(key, value, "what is supported: \(supported)")
    }
    func size(_ key: String, _ limit: Int) throws(ModelFileError) -> Int {
      guard let value = try config.integer(key, in: 1...limit) else {
        throw ModelFileError(file: config.file, problem: "lacks the key \"\(key)\"")
      }
      return value
    }
    let kind = try config.required("model_type")
    guard case .string(let name) = kind, let architecture = Self.kinds[name] else {
      throw unsupported(
        "model_type", kind, Self.kinds.keys.sorted().joined(separator: ", "))
    }
    for (key, expected) in [
      ("hidden_act", JSONValue.string("silu")), ("partial_rotary_factor", .number(1)),
      ("mlp_bias", .bool(false)), ("quantization_config", .null),
    ] {
      if let value = config.value(key), value != expected {
        throw unsupported(key, value, expected.summary)
      }
    }
    // Qwen 2 has its biases whatever the key says; nobody else's are known here.
    if architecture != .qwen2, let bias = config.value("attention_bias"),
      bias != .bool(false)
    {
      throw unsupported("attention_bias", bias, "false")
    }
    let layers = try size("num_hidden_layers", Limit.layers)
    let width = try size("hidden_size", Limit.width)
    let heads = try size("num_attention_heads", Limit.heads)
    // Llama's first checkpoints lack it and have as many as query heads.
    let namesKVHeads = config.value("num_key_value_heads") != nil || name != "llama"
    let kvHeads = namesKVHeads ? try size("num_key_value_heads", Limit.heads) : heads
    let ownHeadWidth = try config.integer("head_dim", in: 1...Limit.headWidth)
    let headWidth = ownHeadWidth ?? (architecture == .qwen3 ? 128 : max(width / heads, 1))
    guard headWidth % 2 == 0,
      ownHeadWidth != nil || architecture == .qwen3
        || width == heads * headWidth
    else {
      throw config.bad(
        "num_attention_heads", .number(Double(heads)),
        "heads of an even width that divide hidden_size (\(width))")
    }
    guard heads % kvHeads == 0 else {
      throw config.bad(
        "num_key_value_heads", .number(Double(kvHeads)),
        "a divisor of num_attention_heads (\(heads))")
    }
    let trained = try size("max_position_embeddings", Limit.contextLength)
    var window = try config.integer("sliding_window", in: 1...Limit.contextLength)
    if architecture != .llama, try config.bool("use_sliding_window") != true { window = nil }
    for case .string(let text) in try config.array("layer_types") ?? [] {
      guard text == "full_attention" || (text == "sliding_attention" && window != nil) else {
        throw unsupported(
          "layer_types", .string(text), "full_attention, and sliding_attention with a window")
      }
    }
    guard let epsilon = try config.positive("rms_norm_eps") else {
      throw ModelFileError(file: config.file, problem: "lacks the key \"rms_norm_eps\"")
    }
    let rope = try Self.rope(config, contextLength: trained)
    self.architecture = architecture
    self.layers = layers
    self.width = width
    self.heads = heads
    self.kvHeads = kvHeads
    self.headWidth = headWidth
    feedForwardWidth = try size("intermediate_size", Limit.feedForwardWidth)
    vocabulary = try size("vocab_size", Limit.vocabulary)
    ropeBase = rope.base
    ropeScaling = rope.scaling
    rmsEpsilon = Float(epsilon)
    contextLength = min(trained, window ?? trained)
    slidingWindow = window
  }

  /// `rope_parameters` of transformers 5, or `rope_theta` and `rope_scaling` of earlier versions.
  private static func rope(
    _ config: JSONObject, contextLength: Int
  ) throws(ModelFileError) -> (base: Double, scaling: RopeScaling) {
    let (new, old) = (try config.object("rope_parameters"), try config.object("rope_scaling"))
    let outerBase = try config.positive("rope_theta") ?? 10000
    guard let parameters = new ?? old else { return (outerBase, .none) }
    let base = try parameters.positive("rope_theta") ?? outerBase
    func positive(_ key: String) throws(ModelFileError) -> Double {
      guard let value = try parameters.positive(key) else {
        throw ModelFileError(
          file: config.file, problem: "lacks the key \"\(parameters.name(key))\"")
      }
      return value
    }
    if let part = parameters.value("partial_rotary_factor"), part != .number(1) {
      throw parameters.bad("partial_rotary_factor", part, "what is supported: 1")
    }
    let original =
      try parameters.integer("original_max_position_embeddings", in: 1...Limit.contextLength)
      ?? contextLength
    let (type, oldType) = (try parameters.string("rope_type"), try parameters.string("type"))
    let kind = type ?? oldType ?? "default"
    switch kind {
    case "default": return (base, .none)
    case "linear": return (base, .linear(factor: try positive("factor")))
    case "llama3":
      let (low, high) = (try positive("low_freq_factor"), try positive("high_freq_factor"))
      guard low < high else {
        throw parameters.bad(
          "low_freq_factor", .number(low), "less than high_freq_factor (\(high))")
      }
      return (
        base,
        .llama3(
          factor: try positive("factor"), lowFrequencyFactor: low, highFrequencyFactor: high,
          originalContext: original)
      )
    case "yarn":
      for key in ["mscale", "mscale_all_dim"] {
        if let value = parameters.value(key) {
          throw parameters.bad(key, value, "what is supported: none")
        }
      }
      if try parameters.bool("truncate") == false {
        throw parameters.bad("truncate", .bool(false), "what is supported: true")
      }
      let factor = try positive("factor")
      return (
        base,
        .yarn(
          factor: factor, originalContext: original,
          attentionFactor: try parameters.positive("attention_factor")
            ?? RopeScaling.yarnAttentionFactor(factor),
          betaFast: try parameters.positive("beta_fast") ?? 32,
          betaSlow: try parameters.positive("beta_slow") ?? 1)
      )
    default:
      throw parameters.bad(
        "rope_type", .string(kind), "what is supported: default, linear, llama3, yarn")
    }
  }
}
