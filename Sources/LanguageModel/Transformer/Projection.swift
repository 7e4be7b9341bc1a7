// The seven weight matrices of a transformer layer, which are also what an adapter can target.

/// A linear projection in a layer. Raw values are PEFT's names.
public enum Projection: String, CaseIterable, Codable, Sendable {
  case query = "q_proj"
  case key = "k_proj"
  case value = "v_proj"
  case output = "o_proj"
  case gate = "gate_proj"
  case up = "up_proj"
  case down = "down_proj"

  /// The position among all cases, from 0.
  public var index: Int {
    switch self {
    case .query: 0
    case .key: 1
    case .value: 2
    case .output: 3
    case .gate: 4
    case .up: 5
    case .down: 6
    }
  }

  /// The width of the vectors that go in (the matrix' columns).
  public func inputWidth(in configuration: LlamaConfiguration) -> Int {
    switch self {
    case .query, .key, .value, .gate, .up: configuration.width
    case .output: configuration.queryWidth
    case .down: configuration.feedForwardWidth
    }
  }

  /// The width of the vectors that come out (the matrix' rows).
  public func outputWidth(in configuration: LlamaConfiguration) -> Int {
    switch self {
    case .query: configuration.queryWidth
    case .key, .value: configuration.kvWidth
    case .output, .down: configuration.width
    case .gate, .up: configuration.feedForwardWidth
    }
  }

  /// The module's name inside a Hugging Face llama layer, e.g. `self_attn.q_proj`.
  public var moduleName: String {
    switch self {
    case .query, .key, .value, .output: "self_attn.\(rawValue)"
    case .gate, .up, .down: "mlp.\(rawValue)"
    }
  }

  /// The matrix' name in a GGUF file, without `blk.N.` and `.weight`.
  var ggufName: String {
    switch self {
    case .query: "attn_q"
    case .key: "attn_k"
    case .value: "attn_v"
    case .output: "attn_output"
    case .gate: "ffn_gate"
    case .up: "ffn_up"
    case .down: "ffn_down"
    }
  }
}

/// The projections of a layer that read the same input.
package enum ProjectionGroup: Int, CaseIterable, Sendable {
  case qkv
  case output
  case gateUp
  case down

  package var members: [Projection] {
    switch self {
    case .qkv: [.query, .key, .value]
    case .output: [.output]
    case .gateUp: [.gate, .up]
    case .down: [.down]
    }
  }

  /// The members' places among all projections, which are in the same order.
  var indices: Range<Int> {
    switch self {
    case .qkv: 0..<3
    case .output: 3..<4
    case .gateUp: 4..<6
    case .down: 6..<7
    }
  }
}
