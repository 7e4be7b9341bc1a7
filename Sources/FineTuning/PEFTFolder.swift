// LoRA adapters in PEFT's form: a folder of adapter_config.json and adapter_model.safetensors, or
// the same weights as bytes.

import Foundation
import LanguageModel
import LinearAlgebra

/// Reads and writes adapters as PEFT does.
public enum PEFTFolder {
  public static let configurationName = "adapter_config.json"
  public static let weightsName = "adapter_model.safetensors"

  /// Writes an adapter as a folder that `PeftModel.from_pretrained` loads; the folder is made, and
  /// each file is replaced as a whole.
  /// - Parameter baseModel: written as base_model_name_or_path.
  /// - Throws: the file system's error.
  public static func write(_ adapter: LoRAAdapter, to folder: String, baseModel: String) throws {
    let url = URL(fileURLWithPath: folder, isDirectory: true)
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    try encode(adapter).write(
      to: url.appendingPathComponent(weightsName), options: .atomic)
    try PEFTConfiguration(adapter, baseModel: baseModel).json().write(
      to: url.appendingPathComponent(configurationName), options: .atomic)
  }

  /// Reads a folder that PEFT or ``write(_:to:baseModel:)`` wrote.
  /// - Throws: `PEFTError` or `SafetensorsError` naming the file and what is wrong: an unsupported
  ///   kind or option, tensors missing or unknown, shapes that are not the model's.
  public static func read(
    _ folder: String, configuration: LlamaConfiguration
  ) throws -> LoRAAdapter {
    let url = URL(fileURLWithPath: folder, isDirectory: true)
    let path = url.appendingPathComponent(configurationName).path
    let json: Data
    do {
      json = try Data(contentsOf: URL(fileURLWithPath: path))
    } catch {
      throw PEFTError(file: path, problem: "cannot be read: \(error.localizedDescription)")
    }
    return try adapter(
      SafetensorsFile(path: url.appendingPathComponent(weightsName).path),
      settings: PEFTConfiguration(json: json, file: path), configuration: configuration)
  }

  /// An adapter's weights as the bytes of a safetensors file with PEFT's names.
  public static func encode(_ adapter: LoRAAdapter) throws -> Data {
    var entries: [SafetensorsFile.Entry] = []
    for layer in 0..<adapter.layerCount {
      for projection in adapter.targets {
        guard let factors = adapter.factors(layer: layer, projection) else { continue }
        entries.append(
          .init(
            name: name(layer, projection, "A"),
            shape: [adapter.rank, factors.a.count / adapter.rank], values: factors.a.array))
        entries.append(
          .init(
            name: name(layer, projection, "B"),
            shape: [factors.b.count / adapter.rank, adapter.rank], values: factors.b.array))
      }
    }
    return try SafetensorsFile.encode(entries, metadata: ["format": "pt"])
  }

  /// The adapter in bytes that ``encode(_:)`` made.
  /// - Throws: as ``read(_:configuration:)``; `file` stands for the bytes in errors.
  public static func decode(
    _ data: Data, settings: PEFTConfiguration, configuration: LlamaConfiguration,
    file: String = "adapter"
  ) throws -> LoRAAdapter {
    try adapter(
      SafetensorsFile(data: data, name: file), settings: settings, configuration: configuration)
  }

  private static func adapter(
    _ file: SafetensorsFile, settings: PEFTConfiguration, configuration: LlamaConfiguration
  ) throws -> LoRAAdapter {
    var unread = Set(file.tensors.keys)
    func floats(_ name: String, _ shape: [Int]) throws -> FloatBuffer {
      guard let tensor = file.tensors[name] else {
        throw PEFTError(file: file.name, problem: "lacks the tensor '\(name)'")
      }
      guard tensor.shape == shape else {
        throw PEFTError(
          file: file.name,
          problem: "tensor '\(name)' has the shape \(tensor.shape); rank \(settings.rank) and this "
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
    let layers = try (0..<configuration.layers).map { layer in
      var factors: [Projection: LoRAFactors] = [:]
      for projection in settings.targets {
        factors[projection] = LoRAFactors(
          a: try floats(
            name(layer, projection, "A"),
            [settings.rank, projection.inputWidth(in: configuration)]),
          b: try floats(
            name(layer, projection, "B"),
            [projection.outputWidth(in: configuration), settings.rank]))
      }
      return factors
    }
    if let unknown = unread.min() {
      throw PEFTError(
        file: file.name,
        problem: "has \(unread.count) tensors that its configuration and this model do not "
          + "explain, among them '\(unknown)'")
    }
    return try LoRAAdapter(
      rank: settings.rank, alpha: settings.alpha, targets: settings.targets, layers: layers,
      configuration: configuration, scaling: settings.scaling)
  }

  /// PEFT's name of a factor of a causal language model.
  static func name(_ layer: Int, _ projection: Projection, _ factor: String) -> String {
    "base_model.model.model.layers.\(layer).\(projection.moduleName).lora_\(factor).weight"
  }
}
