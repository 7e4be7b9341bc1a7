// LoRA adapters in llama.cpp's GGUF form.
//
// general.type is "adapter", adapter.type "lora"; each adapted matrix NAME has NAME.lora_a [rank × in]
// and NAME.lora_b [out × rank]; llama.cpp scales by adapter.lora.alpha / rank. Rows of query and key
// matrices lie in GGUF's order of rotary pairs, and so do those of their lora_b.

import Foundation
import LinearAlgebra

/// Reads and writes LoRA adapters as GGUF files.
public enum GGUFAdapter {
  /// The file that llama.cpp loads beside the base model.
  /// - Parameter fingerprint: of the base model, which reading compares; llama.cpp passes over it.
  /// - Throws: ``AdapterError`` for what the form cannot hold: DoRA, (IA)³, prompt tuning and stacks.
  public static func encode(
    _ adapter: Adapter, configuration: LlamaConfiguration, fingerprint: String? = nil
  ) throws(AdapterError) -> Data {
    guard let settings = adapter.lora, !settings.dora else {
      throw AdapterError(
        "GGUF holds LoRA adapters only: no DoRA, no (IA)³, no prompt tuning and no stack.")
    }
    guard adapter.fits(configuration) else {
      throw AdapterError("The adapter was made for a model of another shape.")
    }
    var writer = GGUFWriter()
    writer.set("general.architecture", .string(configuration.architecture.rawValue))
    writer.set("general.type", .string("adapter"))
    writer.set("general.file_type", .unsigned(0))
    writer.set("adapter.type", .string("lora"))
    if let fingerprint { writer.set(fingerprintKey, .string(fingerprint)) }
    // The reader divides by the rank, whatever the adapter's own scaling was.
    writer.set(
      "adapter.lora.alpha", .float(Double(settings.scaling) * Double(settings.rank)))
    for layer in 0..<adapter.layerCount {
      for projection in settings.targets {
        guard let factors = adapter.factors(layer: layer, projection) else { continue }
        let rank = settings.rank
        let rows = projection.outputWidth(in: configuration)
        let name = name(layer, projection)
        writer.add(
          name + ".lora_a", shape: [projection.inputWidth(in: configuration), rank],
          values: factors.a.array)
        var b = factors.b.array
        for (row, place) in order(projection, configuration).enumerated() {
          for i in 0..<rank { b[place * rank + i] = factors.b.pointer[row * rank + i] }
        }
        writer.add(name + ".lora_b", shape: [rank, rows], values: b)
      }
    }
    return writer.encode()
  }

  /// Reads an adapter's file. All adapted matrices must have the same rank, and every layer the same
  /// targets. Throws ``GGUFError`` for the file, ``AdapterError`` for what does not fit the model.
  /// - Parameter fingerprint: of the base model; one that the file names is compared with it.
  public static func read(
    path: String, configuration: LlamaConfiguration, fingerprint: String? = nil
  ) throws -> Adapter {
    let file = try GGUFFile(path: path)
    if let fingerprint, case .string(let theirs)? = file.metadata[fingerprintKey],
      theirs != fingerprint
    {
      throw AdapterError(
        "\(path) was trained on another base model (\(theirs.prefix(12))…) than this "
          + "(\(fingerprint.prefix(12))…).")
    }
    for (key, wanted) in [
      ("general.type", "adapter"),
      ("general.architecture", configuration.architecture.rawValue), ("adapter.type", "lora"),
    ] {
      let found = try file.string(key)
      guard found == wanted else {
        throw file.error(.unsupported(what: key, found: found, supported: wanted))
      }
    }
    guard case .float(let alpha)? = file.metadata["adapter.lora.alpha"], alpha.isFinite else {
      throw file.error(
        .badValue(
          key: "adapter.lora.alpha",
          found: file.metadata["adapter.lora.alpha"]?.summary ?? "nothing",
          expected: "a finite number"))
    }
    var unread = Set(file.tensors.map(\.name))
    var rank: Int?
    var layers: [[Projection: LoRAFactors]] = []
    for layer in 0..<configuration.layers {
      var found: [Projection: LoRAFactors] = [:]
      for projection in Projection.allCases {
        let (nameA, nameB) = (
          name(layer, projection) + ".lora_a", name(layer, projection) + ".lora_b"
        )
        guard let tensor = file.tensor(nameA) else { continue }
        let (input, output) = (
          projection.inputWidth(in: configuration), projection.outputWidth(in: configuration)
        )
        let here = rank ?? tensor.shape.last ?? 0
        guard (1...4096).contains(here), tensor.shape == [input, here] else {
          throw file.error(
            .badShape(
              tensor: nameA, shape: tensor.shape,
              expected: "[\(input), \(rank.map(String.init) ?? "a rank from 1 to 4096")]"))
        }
        rank = here
        let a = try floats(file, nameA, rows: here, columns: input)
        let stored = try floats(file, nameB, rows: output, columns: here)
        let b = FloatBuffer(uninitialized: stored.count)
        for (row, place) in order(projection, configuration).enumerated() {
          (b.pointer + row * here).update(from: stored.pointer + place * here, count: here)
        }
        found[projection] = LoRAFactors(a: a, b: b)
        unread.subtract([nameA, nameB])
      }
      layers.append(found)
    }
    if let stranger = unread.min() { throw file.error(.unexpectedTensor(stranger)) }
    guard let rank else { throw AdapterError("\(path) has no adapted matrices of this model.") }
    return try Adapter(
      rank: rank, alpha: Float(alpha), targets: Array(layers[0].keys), layers: layers,
      configuration: configuration)
  }

  private static let fingerprintKey = "oppu.base_fingerprint"

  private static func floats(
    _ file: GGUFFile, _ name: String, rows: Int, columns: Int
  ) throws -> FloatBuffer {
    let matrix = try file.matrix(name, rows: rows, columns: columns)
    let buffer = FloatBuffer(uninitialized: rows * columns)
    matrix.expand(into: buffer.pointer)
    guard buffer.elements.allSatisfy(\.isFinite) else {
      throw file.error(
        .badValue(key: name, found: "a number that is not finite", expected: "finite numbers"))
    }
    return buffer
  }

  private static func name(_ layer: Int, _ projection: Projection) -> String {
    "blk.\(layer).\(projection.ggufName).weight"
  }

  /// Where in GGUF each of the projection's rows lies: only a llama's are interleaved.
  private static func order(_ projection: Projection, _ configuration: LlamaConfiguration) -> [Int]
  {
    let rows = projection.outputWidth(in: configuration)
    switch projection {
    case .query where configuration.architecture == .llama,
      .key where configuration.architecture == .llama:
      return LlamaLayer.halfSplitOrder(rows: rows, headWidth: configuration.headWidth)
    default: return Array(0..<rows)
    }
  }
}
