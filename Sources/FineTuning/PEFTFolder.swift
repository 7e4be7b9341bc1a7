// Adapters in PEFT's form: a folder of adapter_config.json and adapter_model.safetensors, or
// the same weights as bytes.

import ErrorText
import Foundation
import LanguageModel
import LinearAlgebra

/// Reads and writes adapters as PEFT does.
public enum PEFTFolder {
  /// The file with an adapter's settings.
  public static let configurationName = "adapter_config.json"
  /// The file with an adapter's tensors.
  public static let weightsName = "adapter_model.safetensors"

  /// Writes an adapter as a folder that `PeftModel.from_pretrained` loads; the folder is made, and
  /// each file is replaced as a whole.
  /// - Parameters:
  ///   - baseModel: written as base_model_name_or_path.
  ///   - fingerprint: of the base model, which reading compares; PEFT passes over it.
  /// - Throws: the file system's error.
  public static func write(
    _ adapter: Adapter, to folder: String, baseModel: String, fingerprint: String?
  ) throws {
    let url = URL(fileURLWithPath: folder, isDirectory: true)
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    try encode(adapter, fingerprint: fingerprint).write(
      to: url.appendingPathComponent(weightsName), options: .atomic)
    try PEFTConfiguration(adapter, baseModel: baseModel).json().write(
      to: url.appendingPathComponent(configurationName), options: .atomic)
  }

  /// Reads a folder that PEFT or ``write(_:to:baseModel:)`` wrote.
  /// - Throws: `PEFTError` or `SafetensorsError` naming the file and what is wrong: an unsupported
  ///   kind or option, tensors missing or unknown, shapes that are not the model's, another base model.
  /// - Parameter under: the adapter over which a DoRA adapter was trained.
  public static func read(
    _ folder: String, model: LlamaModel, over under: Adapter? = nil
  ) throws -> Adapter {
    let (settings, weights) = try open(folder)
    if let fingerprint = weights.metadata[fingerprintKey], fingerprint != model.fingerprint {
      throw PEFTError(
        file: folder,
        problem: "was trained on another base model, \(settings.baseModel) "
          + "(\(fingerprint.prefix(12))…); this is \(model.path) "
          + "(\(model.fingerprint.prefix(12))…)")
    }
    return try adapter(weights, settings: settings, model: model, under: under)
  }

  /// What a folder calls its base model, where that is nothing like the model's name and nothing tells
  /// for certain which one it was; else nil.
  public static func otherBase(of folder: String, than model: LlamaModel) throws -> String? {
    let (settings, weights) = try open(folder)
    guard weights.metadata[fingerprintKey] == nil, !settings.baseModel.isEmpty else { return nil }
    /// A repository's name, or a file's without its kind: either may say more than the other.
    func name(_ text: String) -> String {
      let last = text.split(separator: "/").last.map { $0.lowercased() } ?? ""
      return last.hasSuffix(".gguf") ? String(last.dropLast(5)) : last
    }
    let (theirs, ours) = (name(settings.baseModel), name(model.path))
    return theirs.contains(ours) || ours.contains(theirs) ? nil : settings.baseModel
  }

  private static func open(
    _ folder: String
  ) throws -> (settings: PEFTConfiguration, weights: SafetensorsFile) {
    let url = URL(fileURLWithPath: folder, isDirectory: true)
    let path = url.appendingPathComponent(configurationName).path
    let json: Data
    do {
      json = try Data(contentsOf: URL(fileURLWithPath: path))
    } catch {
      throw PEFTError(file: path, problem: "cannot be read: \(ErrorText.reason(error))")
    }
    let settings = try PEFTConfiguration(json: json, file: path)
    let name = settings.form == .mlx ? "adapters.safetensors" : weightsName
    return (settings, try SafetensorsFile(path: url.appendingPathComponent(name).path))
  }

  /// An adapter's weights as the bytes of a safetensors file with PEFT's names.
  /// - Throws: `PEFTError` for a stack: PEFT keeps each of its adapters in a file of its own.
  /// - Parameter fingerprint: of the base model, for readers here.
  public static func encode(_ adapter: Adapter, fingerprint: String? = nil) throws -> Data {
    _ = try PEFTConfiguration(adapter, baseModel: "")
    var entries: [SafetensorsFile.Entry] = []
    func add(_ name: String, _ shape: [Int], _ values: FloatBuffer) {
      entries.append(.init(name: name, shape: shape, values: values.array))
    }
    if let rows = adapter.virtualTokens {
      add(promptName, [rows.count / adapter.width, adapter.width], rows)
    }
    for layer in 0..<adapter.layerCount {
      for projection in Projection.allCases {
        guard let change = adapter.changes(layer: layer, projection).first else { continue }
        let module = module(layer, projection)
        if let factors = change.factors {
          add(module + ".lora_A.weight", [change.rank, factors.a.count / change.rank], factors.a)
          add(module + ".lora_B.weight", [factors.b.count / change.rank, change.rank], factors.b)
          if let magnitude = factors.magnitude {
            add(module + ".lora_magnitude_vector", [magnitude.count], magnitude)
          }
        } else if let scale = change.inputScale {
          add(module + ".ia3_l", [1, scale.count], scale)
        } else if let scale = change.outputScale {
          add(module + ".ia3_l", [scale.count, 1], scale)
        }
      }
    }
    var metadata = ["format": "pt"]
    metadata[fingerprintKey] = fingerprint
    return try SafetensorsFile.encode(entries, metadata: metadata)
  }

  /// The adapter in bytes that ``encode(_:)`` made.
  /// - Throws: as ``read(_:model:over:)``; `file` stands for the bytes in errors.
  public static func decode(
    _ data: Data, settings: PEFTConfiguration, model: LlamaModel, over under: Adapter? = nil,
    file: String = "adapter"
  ) throws -> Adapter {
    try adapter(
      SafetensorsFile(data: data, name: file), settings: settings, model: model, under: under)
  }

  private static func adapter(
    _ file: SafetensorsFile, settings: PEFTConfiguration, model: LlamaModel, under: Adapter?
  ) throws -> Adapter {
    let configuration = model.configuration
    if case .lora(let lora) = settings.method, LoRATensors.isNeeded(file, settings.form) {
      let (uniform, layers) = try LoRATensors(
        file, lora, form: settings.form, configuration: configuration
      ).uniform()
      return try Adapter(uniform, layers: layers, model: model, over: under)
    }
    var tensors = Tensors(file: file)
    let adapter: Adapter
    switch settings.method {
    case .lora(let lora):
      let layers = try (0..<configuration.layers).map { layer in
        var factors: [Projection: LoRAFactors] = [:]
        for projection in lora.targets {
          let module = module(layer, projection)
          let (input, output) = (
            projection.inputWidth(in: configuration), projection.outputWidth(in: configuration)
          )
          factors[projection] = LoRAFactors(
            a: try tensors.take(module + ".lora_A.weight", [lora.rank, input]),
            b: try tensors.take(module + ".lora_B.weight", [output, lora.rank]),
            magnitude: lora.dora
              ? try tensors.take(module + ".lora_magnitude_vector", [output]) : nil)
        }
        return factors
      }
      try tensors.finish()
      adapter = try Adapter(lora, layers: layers, model: model, over: under)
    case .ia3(let ia3):
      let layers = try (0..<configuration.layers).map { layer in
        var scales: [Projection: FloatBuffer] = [:]
        for projection in ia3.targets {
          scales[projection] = try tensors.take(
            module(layer, projection) + ".ia3_l",
            ia3.feedForward.contains(projection)
              ? [1, projection.inputWidth(in: configuration)]
              : [projection.outputWidth(in: configuration), 1])
        }
        return scales
      }
      try tensors.finish()
      adapter = try Adapter(ia3, layers: layers, configuration: configuration)
    case .promptTuning(let virtualTokens):
      let rows = try tensors.take(promptName, [virtualTokens, configuration.width])
      try tensors.finish()
      adapter = try Adapter(promptEmbeddings: rows, configuration: configuration)
    }
    return adapter
  }

  /// A file's tensors, and which of them nobody has asked for yet.
  private struct Tensors {
    let file: SafetensorsFile
    var unread: Set<String>

    init(file: SafetensorsFile) {
      self.file = file
      unread = Set(file.tensors.keys)
    }

    mutating func take(_ name: String, _ shape: [Int]) throws -> FloatBuffer {
      guard let tensor = file.tensors[name] else {
        throw PEFTError(file: file.name, problem: "lacks the tensor '\(name)'")
      }
      guard tensor.shape == shape else {
        throw PEFTError(
          file: file.name,
          problem: "tensor '\(name)' has the shape \(tensor.shape); its configuration and this "
            + "model need \(shape)")
      }
      unread.remove(name)
      let values = try file.floats(name)
      guard values.allSatisfy(\.isFinite) else {
        throw PEFTError(
          file: file.name, problem: "tensor '\(name)' holds values that are not finite numbers")
      }
      return FloatBuffer(values)
    }

    func finish() throws {
      if let unknown = unread.min() {
        throw PEFTError(
          file: file.name,
          problem: "has \(unread.count) tensors that its configuration and this model do not "
            + "explain, among them '\(unknown)'")
      }
    }
  }

  /// PEFT's name of a module of a causal language model.
  static func module(_ layer: Int, _ projection: Projection) -> String {
    "base_model.model.model.layers.\(layer).\(projection.moduleName)"
  }

  /// Where the weights' file names the base model's exact bytes.
  static let fingerprintKey = "oppu.base_fingerprint"

  /// PEFT's name of prompt tuning's embeddings.
  static let promptName = "prompt_embeddings"
}
