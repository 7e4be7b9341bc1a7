// adapter_config.json as PEFT writes it for LoRA: what it says, and what is refused.

import Foundation
import LanguageModel

/// Why a PEFT adapter was refused. `file` is the path or name that was given.
public struct PEFTError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let file: String
  public let problem: String

  public var description: String { "\(file): \(problem)" }
  public var errorDescription: String? { description }
}

/// The settings of a LoRA adapter that PEFT keeps beside its weights.
public struct PEFTConfiguration: Sendable, Equatable {
  public var rank: Int
  public var alpha: Float
  public var targets: [Projection]
  public var dropout: Float
  /// rsLoRA: the scale is alpha / √rank instead of alpha / rank.
  public var rankStabilized: Bool
  public var baseModel: String

  public init(
    rank: Int, alpha: Float, targets: [Projection], dropout: Float = 0,
    rankStabilized: Bool = false, baseModel: String = ""
  ) {
    self.rank = rank
    self.alpha = alpha
    self.targets = targets
    self.dropout = dropout
    self.rankStabilized = rankStabilized
    self.baseModel = baseModel
  }

  /// The settings of an adapter in memory.
  public init(_ adapter: LoRAAdapter, baseModel: String) {
    let plain = adapter.alpha / Float(adapter.rank)
    self.init(
      rank: adapter.rank, alpha: adapter.alpha, targets: adapter.targets,
      rankStabilized: abs(adapter.scaling - plain) > 1e-6 * abs(plain), baseModel: baseModel)
  }

  public var scaling: Float {
    alpha / (rankStabilized ? Float(rank).squareRoot() : Float(rank))
  }

  /// Keys that change nothing in how saved weights are applied.
  private static let harmless: Set<String> = [
    "auto_mapping", "base_model_name_or_path", "inference_mode", "layers_pattern", "loftq_config",
    "megatron_core", "peft_version", "qalora_group_size", "revision", "runtime_config",
  ]
  /// Initialisations that leave the base model's weights as they are.
  private static let plainInitialisations: Set<String> = ["gaussian", "eva", "orthogonal"]

  /// - Throws: `PEFTError` for JSON that is not a PEFT LoRA configuration, and for every option that
  ///   would change the result and is not supported.
  public init(json: Data, file: String = "adapter_config.json") throws {
    func refuse(_ problem: String) -> PEFTError { PEFTError(file: file, problem: problem) }
    guard let object = try? JSONDecoder().decode([String: JSONValue].self, from: json) else {
      throw refuse("is not a JSON object")
    }
    guard case .string(let type)? = object["peft_type"] else { throw refuse("has no peft_type") }
    guard type == "LORA" else {
      throw refuse("peft_type '\(type)' is not supported; LORA is")
    }
    if case .string(let task)? = object["task_type"], task != "CAUSAL_LM" {
      throw refuse("task_type '\(task)' is not supported; CAUSAL_LM is")
    }
    func number(_ key: String) throws -> Double {
      guard case .number(let value)? = object[key] else { throw refuse("\(key) is not a number") }
      return value
    }
    let rank = try number("r")
    guard rank == rank.rounded(), (1...4096).contains(rank) else {
      throw refuse("r must be a whole number from 1 to 4096, not \(rank)")
    }
    let alpha = try number("lora_alpha")
    guard Float(alpha).isFinite else {
      throw refuse("lora_alpha must be a finite number, not \(alpha)")
    }
    let dropout = object["lora_dropout"] == nil ? 0 : try number("lora_dropout")
    guard (0...1).contains(dropout) else {
      throw refuse("lora_dropout must be 0 to 1, not \(dropout)")
    }
    let names: [JSONValue]
    switch object["target_modules"] {
    case .array(let list): names = list
    case .string(let one): names = [.string(one)]
    default: throw refuse("target_modules is not a list of names")
    }
    var found: Set<Projection> = []
    for name in names {
      guard case .string(let text) = name, let projection = Projection(rawValue: text) else {
        throw refuse(
          "target module \(name) is not supported; supported are "
            + Projection.allCases.map(\.rawValue).joined(separator: ", "))
      }
      found.insert(projection)
    }
    guard !found.isEmpty else { throw refuse("target_modules is empty") }
    if let bias = object["bias"], bias != .string("none"), bias != .null {
      throw refuse("bias \(bias) is not supported; none is")
    }
    if case .string(let start)? = object["init_lora_weights"],
      !Self.plainInitialisations.contains(start)
    {
      throw refuse(
        "init_lora_weights '\(start)' changes the base model's weights and is not supported")
    }
    let known: Set<String> = [
      "peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "target_modules", "bias",
      "init_lora_weights", "use_rslora",
    ]
    for (key, value) in object.sorted(by: { $0.key < $1.key })
    where !known.contains(key) && !Self.harmless.contains(key) && !value.isUnset {
      throw refuse("the option \(key) is set and is not supported")
    }
    var baseModel = ""
    if case .string(let name)? = object["base_model_name_or_path"] { baseModel = name }
    self.init(
      rank: Int(rank), alpha: Float(alpha), targets: Projection.allCases.filter(found.contains),
      dropout: Float(dropout), rankStabilized: object["use_rslora"] == .bool(true),
      baseModel: baseModel)
  }

  /// The JSON that PEFT loads, with the keys that PEFT itself writes.
  public func json() throws -> Data {
    let none = NSNull()
    let object: [String: Any] = [
      "alpha_pattern": [String: Any](), "auto_mapping": none,
      "base_model_name_or_path": baseModel, "bias": "none", "fan_in_fan_out": false,
      "inference_mode": true, "init_lora_weights": true, "layer_replication": none,
      "layers_pattern": none, "layers_to_transform": none,
      "lora_alpha": alpha == alpha.rounded() ? Int(alpha) as Any : Double(alpha) as Any,
      "lora_dropout": Double(dropout), "modules_to_save": none, "peft_type": "LORA", "r": rank,
      "rank_pattern": [String: Any](), "revision": none,
      "target_modules": targets.map(\.rawValue), "task_type": "CAUSAL_LM", "use_dora": false,
      "use_rslora": rankStabilized,
    ]
    return try JSONSerialization.data(
      withJSONObject: object, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
  }
}

/// Any JSON, with true and false apart from 1 and 0.
private enum JSONValue: Decodable, Equatable, CustomStringConvertible {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode([JSONValue].self) {
      self = .array(value)
    } else {
      self = .object(try container.decode([String: JSONValue].self))
    }
  }

  /// Null, false, and empty lists and objects.
  var isUnset: Bool {
    switch self {
    case .null, .bool(false): true
    case .array(let values): values.isEmpty
    case .object(let values): values.isEmpty
    default: false
    }
  }

  var description: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .number(let value): "\(value)"
    case .string(let value): "'\(value)'"
    case .array: "a list"
    case .object: "an object"
    }
  }
}
