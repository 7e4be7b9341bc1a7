// LoRA's factors as their tensors tell them: some layers, a rank and an alpha for each module, other
// writers' names. They become one adapter of one rank, which computes the same.

import Foundation
import LanguageModel
import LinearAlgebra

/// What a configuration says of its tensors' form.
public enum LoRAForm: Sendable, Equatable {
  /// One rank and alpha for the same projections of all layers, by PEFT's names.
  case uniform
  /// Projections, layers and ranks are the tensors'; alphas stand by the ends of modules' names.
  case byTensors(alphas: [String: Double])
  /// The same with mlx-lm's names, and every factor transposed.
  case mlx
}

struct LoRATensors {
  /// A module of the model and one of its tensors.
  private struct Place: Hashable {
    enum Part { case a, b, magnitude }
    var layer: Int
    var projection: Projection
    var part: Part

    init(_ layer: Int, _ projection: Projection, _ part: Part) {
      (self.layer, self.projection, self.part) = (layer, projection, part)
    }

    /// `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`; with an adapter's name before
    /// `weight`, without the beginning, or mlx-lm's `model.layers.0.self_attn.q_proj.lora_a`.
    init?(_ name: String) {
      guard let start = name.range(of: "layers.") else { return nil }
      let beginning = name[..<start.lowerBound]
      guard ["", "model.", "base_model.model.", "base_model.model.model."].contains(beginning)
      else { return nil }
      var parts = name[start.upperBound...].split(
        separator: ".", omittingEmptySubsequences: false)
      guard let number = parts.first.flatMap({ Int($0) }), number >= 0 else { return nil }
      parts.removeFirst()
      if parts.last == "weight" { parts.removeLast() }
      if parts.last == "default" { parts.removeLast() }
      switch parts.popLast() {
      case "lora_A", "lora_a": part = .a
      case "lora_B", "lora_b": part = .b
      case "lora_magnitude_vector": part = .magnitude
      default: return nil
      }
      let module = parts.joined(separator: ".")
      guard let found = Projection.allCases.first(where: { $0.moduleName == module }) else {
        return nil
      }
      (layer, projection) = (number, found)
    }
  }

  /// Whether a file's names are not those that ``PEFTFolder`` writes.
  static func isNeeded(_ file: SafetensorsFile, _ form: LoRAForm) -> Bool {
    form != .uniform || file.tensors.keys.contains { $0.contains(".default") }
  }

  private let file: SafetensorsFile
  private let settings: LoRASettings
  private let form: LoRAForm
  private let configuration: LlamaConfiguration
  private var names: [Place: String] = [:]

  /// - Throws: `PEFTError` for a tensor that is of no projection.
  init(
    _ file: SafetensorsFile, _ settings: LoRASettings, form: LoRAForm,
    configuration: LlamaConfiguration
  ) throws {
    (self.file, self.settings, self.form) = (file, settings, form)
    self.configuration = configuration
    for name in file.tensors.keys.sorted() {
      guard let place = Place(name), place.layer < configuration.layers else {
        throw refuse("tensor '\(name)' is of no projection of this model that can be adapted")
      }
      guard names.updateValue(name, forKey: place) == nil else {
        throw refuse("tensor '\(name)' is there under another name, too")
      }
    }
    guard !names.isEmpty else { throw refuse("has no tensors") }
  }

  private func refuse(_ problem: String) -> PEFTError {
    PEFTError(file: file.name, problem: problem)
  }

  /// The settings of the uniform adapter and its factors by layer. A module without tensors has
  /// factors of zeros.
  func uniform() throws -> (LoRASettings, [[Projection: LoRAFactors]]) {
    let targets = Projection.allCases.filter { projection in
      names.keys.contains { $0.projection == projection }
    }
    var modules: [[Projection: (rank: Int, factors: LoRAFactors)]] = []
    for layer in 0..<configuration.layers {
      var found: [Projection: (rank: Int, factors: LoRAFactors)] = [:]
      for projection in targets { found[projection] = try module(layer, projection) }
      guard found.count == targets.count || (form != .uniform && !settings.dora) else {
        throw refuse("lacks tensors of layer \(layer)")
      }
      modules.append(found)
    }
    if form == .uniform, targets != settings.targets {
      throw refuse(
        "adapts \(targets.map(\.rawValue).joined(separator: ", ")), its configuration says "
          + settings.targets.map(\.rawValue).joined(separator: ", "))
    }
    let rank = modules.flatMap { $0.values.map(\.rank) }.max() ?? settings.rank
    var uniform = settings
    uniform.targets = targets
    uniform.rank = rank
    if rank != settings.rank {
      uniform.alpha =
        settings.scaling * (settings.rankStabilized ? Float(rank).squareRoot() : Float(rank))
    }
    let layers = try modules.enumerated().map { layer, found in
      try Dictionary(
        uniqueKeysWithValues: targets.map { projection in
          (projection, try factors(found[projection], layer, projection, of: uniform))
        })
    }
    return (uniform, layers)
  }

  private func module(
    _ layer: Int, _ projection: Projection
  ) throws -> (rank: Int, factors: LoRAFactors)? {
    func name(_ part: Place.Part) -> String? { names[Place(layer, projection, part)] }
    guard let a = name(.a), let b = name(.b) else {
      if let alone = name(.a) ?? name(.b) ?? name(.magnitude) {
        throw refuse("tensor '\(alone)' lacks its counterpart")
      }
      return nil
    }
    let (input, output) = (
      projection.inputWidth(in: configuration), projection.outputWidth(in: configuration)
    )
    let isTransposed = form == .mlx
    let shape = file.tensors[a]?.shape ?? []
    let rank = (isTransposed ? shape.last : shape.first) ?? 0
    guard (1...4096).contains(rank), form != .uniform || rank == settings.rank else {
      throw refuse(
        "tensor '\(a)' has the shape \(shape); its configuration says rank \(settings.rank)")
    }
    var factors = (
      a: try floats(a, isTransposed ? [input, rank] : [rank, input]),
      b: try floats(b, isTransposed ? [rank, output] : [output, rank])
    )
    if isTransposed {
      factors.a = Self.transposed(factors.a, rows: input)
      factors.b = Self.transposed(factors.b, rows: rank)
    }
    let magnitude = try name(.magnitude).map { try floats($0, [output]) }
    guard (magnitude != nil) == settings.dora else {
      throw refuse("layer \(layer) \(projection.rawValue) has magnitudes or lacks them")
    }
    return (
      rank,
      LoRAFactors(
        a: FloatBuffer(factors.a), b: FloatBuffer(factors.b),
        magnitude: magnitude.map { FloatBuffer($0) })
    )
  }

  private func floats(_ name: String, _ shape: [Int]) throws -> [Float] {
    guard file.tensors[name]?.shape == shape else {
      throw refuse(
        "tensor '\(name)' has the shape \(file.tensors[name]?.shape ?? []); this model needs \(shape)"
      )
    }
    let values = try file.floats(name)
    guard values.allSatisfy(\.isFinite) else {
      throw refuse("tensor '\(name)' holds values that are not finite numbers")
    }
    return values
  }

  private static func transposed(_ values: [Float], rows: Int) -> [Float] {
    let columns = values.count / rows
    return (0..<values.count).map { values[$0 % rows * columns + $0 / rows] }
  }

  /// Factors of the uniform rank: what a module has less are zeros, and B has the module's own scaling
  /// in it where that is another than the adapter's.
  private func factors(
    _ module: (rank: Int, factors: LoRAFactors)?, _ layer: Int, _ projection: Projection,
    of uniform: LoRASettings
  ) throws -> LoRAFactors {
    let rank = uniform.rank
    let (input, output) = (
      projection.inputWidth(in: configuration), projection.outputWidth(in: configuration)
    )
    guard let (own, factors) = module else {
      return LoRAFactors(
        a: FloatBuffer(zeros: rank * input), b: FloatBuffer(zeros: rank * output))
    }
    var scaled = settings
    scaled.rank = own
    scaled.alpha = alpha(layer, projection)
    // mlx-lm has one scale whatever the rank is.
    let share = form == .mlx ? 1 : scaled.scaling / uniform.scaling
    guard share.isFinite else {
      throw refuse("lora_alpha is 0, which no module's alpha can be measured by")
    }
    if own == rank, share == 1 { return factors }
    let (a, b) = (FloatBuffer(zeros: rank * input), FloatBuffer(zeros: rank * output))
    a.pointer.update(from: factors.a.pointer, count: own * input)
    for row in 0..<output {
      for column in 0..<own {
        b.pointer[row * rank + column] = share * factors.b.pointer[row * own + column]
      }
    }
    return LoRAFactors(a: a, b: b, magnitude: factors.magnitude)
  }

  /// As PEFT finds it: by a name that the module's ends in.
  private func alpha(_ layer: Int, _ projection: Projection) -> Float {
    guard case .byTensors(let alphas) = form else { return settings.alpha }
    let module = ".model.layers.\(layer).\(projection.moduleName)"
    let key = alphas.keys.sorted().first { module.hasSuffix(".\($0)") }
    return key.flatMap { alphas[$0] }.map { Float($0) } ?? settings.alpha
  }
}
