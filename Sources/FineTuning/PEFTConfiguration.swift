// adapter_config.json as PEFT writes it: what it says, and what is refused.

import Foundation
import JSON
import LanguageModel

/// Why a PEFT adapter was refused. `file` is the path or name that was given.
public struct PEFTError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let file: String
  /// Goes on after the file's name and a colon.
  public let problem: String

  public var description: String { "\(file): \(problem)" }
  public var errorDescription: String? { description }
}

/// The settings of an adapter that PEFT keeps beside its weights.
public struct PEFTConfiguration: Sendable, Equatable {
  public var method: AdapterMethod
  /// lora_dropout; 0 for the other methods.
  public var dropout: Float
  /// base_model_name_or_path; empty where the file has none.
  public var baseModel: String
  /// Of LoRA's tensors.
  public internal(set) var form = LoRAForm.uniform

  /// - Parameter dropout: a probability, for LoRA and DoRA; 0 for the other methods.
  public init(_ method: AdapterMethod, dropout: Float = 0, baseModel: String = "") {
    self.method = method
    self.dropout = dropout
    self.baseModel = baseModel
  }

  /// The settings of an adapter in memory.
  /// - Throws: `PEFTError` for a stack: PEFT keeps each of its adapters in a folder of its own.
  public init(_ adapter: Adapter, baseModel: String) throws {
    guard adapter.methods.count == 1 else {
      throw PEFTError(
        file: "adapter",
        problem: "is a stack of \(adapter.methods.count); each is saved on its own")
    }
    self.init(adapter.methods[0], baseModel: baseModel)
  }

  /// Keys that change nothing in how saved weights are applied.
  private static let harmless: Set<String> = [
    "auto_mapping", "base_model_name_or_path", "inference_mode", "layers_pattern", "loftq_config",
    "megatron_core", "peft_type", "peft_version", "qalora_group_size", "revision",
    "runtime_config", "task_type",
  ]
  /// Initialisations that leave the base model's weights as they are.
  private static let plainInitialisations: Set<String> = ["gaussian", "eva", "orthogonal"]

  /// - Throws: `PEFTError` for JSON that is not a PEFT configuration of LoRA, (IA)³ or prompt tuning,
  ///   and for every option that would change the result and is not supported.
  public init(json: Data, file: String = "adapter_config.json") throws {
    let value: JSONValue
    do {
      value = try JSONValue(reading: json, rules: .modelFiles)
    } catch {
      throw PEFTError(file: file, problem: "is no valid JSON: \(error)")
    }
    guard let object = value.object else {
      throw PEFTError(file: file, problem: "is not a JSON object")
    }
    var reader = Reader(file: file, object: object)
    let type = object["peft_type"]
    switch type {
    case nil where object["lora_parameters"] != nil:
      (method, dropout) = try reader.mlx()
      baseModel = object["model"]?.string ?? ""
      form = .mlx
      return
    case .string("LORA"): (method, dropout) = try reader.lora()
    case .string("IA3"): (method, dropout) = (try reader.ia3(), 0)
    case .string("PROMPT_TUNING"): (method, dropout) = (try reader.promptTuning(), 0)
    case .string(let type):
      throw reader.refuse(
        "peft_type '\(type)' is not supported; LORA, IA3 and PROMPT_TUNING are")
    default: throw reader.refuse("has no peft_type")
    }
    if case .string(let task)? = object["task_type"], task != "CAUSAL_LM" {
      throw reader.refuse("task_type '\(task)' is not supported; CAUSAL_LM is")
    }
    for (key, value) in object.sorted(by: { $0.key < $1.key })
    where !reader.known.contains(key) && !Self.harmless.contains(key) && !value.isUnset {
      throw reader.refuse("the option \(key) is set and is not supported")
    }
    baseModel = object["base_model_name_or_path"]?.string ?? ""
    form = reader.form
  }

  /// Reads the keys of one method and remembers which those are.
  private struct Reader {
    let file: String
    let object: [String: JSONValue]
    var known: Set<String> = []
    var form = LoRAForm.uniform

    func refuse(_ problem: String) -> PEFTError { PEFTError(file: file, problem: problem) }

    mutating func lora() throws -> (AdapterMethod, dropout: Float) {
      known = [
        "r", "lora_alpha", "lora_dropout", "target_modules", "bias", "init_lora_weights",
        "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "layers_to_transform",
      ]
      let rank = try integer("r", 1...4096)
      let alpha = try number("lora_alpha")
      guard Float(alpha).isFinite else {
        throw refuse("lora_alpha must be a finite number, not \(alpha)")
      }
      let dropout = object["lora_dropout"] == nil ? 0 : try number("lora_dropout")
      guard (0...1).contains(dropout) else {
        throw refuse("lora_dropout must be 0 to 1, not \(dropout)")
      }
      let named = try looseTargets()
      let alphas = try pattern("alpha_pattern")
      let isUniform =
        named != nil && alphas.isEmpty && object["rank_pattern"]?.isUnset ?? true
        && object["layers_to_transform"]?.isUnset ?? true
      if !isUniform { form = .byTensors(alphas: alphas) }
      let targets = named ?? []
      if let bias = object["bias"], bias != .string("none"), bias != .null {
        throw refuse("bias \(bias.shown) is not supported; none is")
      }
      if case .string(let start)? = object["init_lora_weights"],
        !PEFTConfiguration.plainInitialisations.contains(start)
      {
        throw refuse(
          "init_lora_weights '\(start)' changes the base model's weights and is not supported")
      }
      let settings = LoRASettings(
        rank: rank, alpha: Float(alpha), targets: targets,
        rankStabilized: try flag("use_rslora"), dora: try flag("use_dora"))
      return (.lora(settings), Float(dropout))
    }

    /// mlx-lm's own form: one scale, whatever the rank is.
    func mlx() throws -> (AdapterMethod, dropout: Float) {
      if let type = object["fine_tune_type"], type != .string("lora") {
        throw refuse("fine_tune_type \(type) of mlx-lm is not supported; lora is")
      }
      guard case .object(let parameters)? = object["lora_parameters"] else {
        throw refuse("lora_parameters is not an object")
      }
      let inner = Reader(file: file, object: parameters)
      let rank = try inner.integer("rank", 1...4096)
      let dropout = parameters["dropout"] == nil ? 0 : try inner.number("dropout")
      let scale = Float(try inner.number("scale"))
      guard scale.isFinite, (0...1).contains(dropout) else {
        throw refuse("lora_parameters has a scale or a dropout out of range")
      }
      return (
        .lora(LoRASettings(rank: rank, alpha: scale * Float(rank), targets: [])), Float(dropout)
      )
    }

    /// The projections that `target_modules` lists by their names; nil where it has paths or a pattern,
    /// and the tensors tell.
    private func looseTargets() throws -> [Projection]? {
      switch object["target_modules"] {
      case .string(let text) where Projection(rawValue: text) == nil: return nil
      case .array(let names) where names.contains { $0.string?.contains(".") ?? false }:
        for name in names {
          let last = name.string?.split(separator: ".").last.map(String.init)
          guard last.flatMap(Projection.init) != nil else {
            throw refuse("module \(name.shown) in target_modules is not supported")
          }
        }
        return nil
      default: return try projections("target_modules")
      }
    }

    /// Numbers by the ends of modules' names; PEFT takes regular expressions, of which plain names
    /// are the common case.
    private func pattern(_ key: String) throws -> [String: Double] {
      guard let value = object[key], !value.isUnset else { return [:] }
      guard case .object(let members) = value else { throw refuse("\(key) is not an object") }
      return try Dictionary(
        uniqueKeysWithValues: members.map { name, value in
          guard case .number(let number) = value, number.isFinite else {
            throw refuse("\(key) has \(value) for \(name); a number was expected")
          }
          let name = name.hasPrefix("^") ? String(name.dropFirst()) : name
          let isPlain = name.allSatisfy { $0.isLetter || $0.isNumber || $0 == "_" || $0 == "." }
          guard isPlain, !name.isEmpty else {
            throw refuse("\(key) has the pattern \(name); the end of a module's name is supported")
          }
          return (name, number)
        })
    }

    mutating func ia3() throws -> AdapterMethod {
      known = ["target_modules", "feedforward_modules", "init_ia3_weights"]
      let targets = try projections("target_modules")
      let isUnset = object["feedforward_modules"]?.isUnset ?? true
      let feedForward = isUnset ? [] : try projections("feedforward_modules")
      if let stranger = feedForward.first(where: { !targets.contains($0) }) {
        throw refuse("feedforward module \(stranger.rawValue) is not among target_modules")
      }
      return .ia3(IA3Settings(targets: targets, feedForward: feedForward))
    }

    mutating func promptTuning() throws -> AdapterMethod {
      known = [
        "num_attention_heads", "num_layers", "num_transformer_submodules", "num_virtual_tokens",
        "prompt_tuning_init", "prompt_tuning_init_text", "token_dim", "tokenizer_kwargs",
        "tokenizer_name_or_path",
      ]
      if let modules = object["num_transformer_submodules"], modules != .null, modules != .number(1)
      {
        throw refuse("num_transformer_submodules \(modules.shown) is not supported; 1 is")
      }
      return .promptTuning(virtualTokens: try integer("num_virtual_tokens", 1...65_536))
    }

    func number(_ key: String) throws -> Double {
      guard case .number(let value)? = object[key] else { throw refuse("\(key) is not a number") }
      return value
    }

    func integer(_ key: String, _ range: ClosedRange<Int>) throws -> Int {
      let value = try number(key)
      guard value == value.rounded(), Double(range.lowerBound) <= value,
        value <= Double(range.upperBound)
      else {
        throw refuse(
          "\(key) must be a whole number from \(range.lowerBound) to \(range.upperBound), not "
            + "\(value)")
      }
      return Int(value)
    }

    private func flag(_ key: String) throws -> Bool {
      switch object[key] {
      case nil, .null: return false
      case .bool(let value): return value
      case .some(let other): throw refuse("\(key) must be true or false, not \(other.shown)")
      }
    }

    private func projections(_ key: String) throws -> [Projection] {
      let names: [JSONValue]
      switch object[key] {
      case .array(let list): names = list
      case .string(let one): names = [.string(one)]
      default: throw refuse("\(key) is not a list of names")
      }
      var found: Set<Projection> = []
      for name in names {
        guard case .string(let text) = name, let projection = Projection(rawValue: text) else {
          throw refuse(
            "module \(name.shown) in \(key) is not supported; supported are "
              + Projection.allCases.map(\.rawValue).joined(separator: ", "))
        }
        found.insert(projection)
      }
      guard !found.isEmpty else { throw refuse("\(key) is empty") }
      return Projection.allCases.filter(found.contains)
    }
  }

  /// The JSON that PEFT loads, with the keys that PEFT itself writes.
  public func json() throws -> Data {
    let none = NSNull()
    var object: [String: Any] = [
      "auto_mapping": none, "base_model_name_or_path": baseModel, "inference_mode": true,
      "modules_to_save": none, "revision": none, "task_type": "CAUSAL_LM",
    ]
    let own: [String: Any]
    switch method {
    case .lora(let settings):
      let alpha = settings.alpha
      own = [
        "alpha_pattern": [String: Any](), "bias": "none", "fan_in_fan_out": false,
        "init_lora_weights": true, "layer_replication": none, "layers_pattern": none,
        "layers_to_transform": none,
        "lora_alpha": alpha == alpha.rounded() ? Int(alpha) as Any : Double(alpha) as Any,
        "lora_dropout": Double(dropout), "peft_type": "LORA", "r": settings.rank,
        "rank_pattern": [String: Any](), "target_modules": settings.targets.map(\.rawValue),
        "use_dora": settings.dora, "use_rslora": settings.rankStabilized,
      ]
    case .ia3(let settings):
      own = [
        "exclude_modules": none, "fan_in_fan_out": false,
        "feedforward_modules": settings.feedForward.map(\.rawValue), "init_ia3_weights": true,
        "peft_type": "IA3", "target_modules": settings.targets.map(\.rawValue),
      ]
    case .promptTuning(let virtualTokens):
      // What is null here PEFT takes from the model's own configuration.
      own = [
        "num_attention_heads": none, "num_layers": none, "num_transformer_submodules": 1,
        "num_virtual_tokens": virtualTokens, "peft_type": "PROMPT_TUNING",
        "prompt_tuning_init": "RANDOM", "prompt_tuning_init_text": none, "token_dim": none,
        "tokenizer_kwargs": none, "tokenizer_name_or_path": none,
      ]
    }
    object.merge(own) { $1 }
    return try JSONSerialization.data(
      withJSONObject: object, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
  }
}

extension JSONValue {
  /// Null, false, and empty lists and objects.
  fileprivate var isUnset: Bool {
    switch self {
    case .null, .bool(false): true
    case .array(let values): values.isEmpty
    case .object(let values): values.isEmpty
    default: false
    }
  }

  /// The value in an error's words.
  fileprivate var shown: String {
    switch self {
    case .string(let value): "'\(value)'"
    case .array: "a list"
    case .object: "an object"
    default: canonical
    }
  }
}
