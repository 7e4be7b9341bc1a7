// Where the trained numbers of an adapter lie: one flat array, so that clipping and the optimiser see
// a single vector.

import Foundation
import LanguageModel
import LinearAlgebra
import RandomNumbers

/// The order of an adapter's numbers in a flat array. Layers follow each other; in a layer each group
/// of projections with a common input has its members' A factors stacked [n·rank × in], so that the
/// group needs one product for them, then their B factors [out × rank], then their scales. Prompt
/// tuning has its embeddings [virtual tokens × width] and nothing else.
struct AdapterLayout: Sendable {
  /// What a site's scale multiplies: with DoRA it is magnitude / norm, with (IA)³ the vector itself.
  enum Scale: Sendable {
    case none
    case input
    case output
  }

  /// One adapted projection. Offsets count from the layer's first number.
  struct Site: Sendable {
    var projection: Projection
    var inputWidth: Int
    var outputWidth: Int
    /// Its first column in the group's output.
    var outputColumn: Int
    var a: Int
    var b: Int
    var scaleKind: Scale
    /// [scaleCount]
    var scale: Int
    var scaleCount: Int
    /// The place of its row norms (DoRA) in a layer's.
    var norm: Int
  }

  let shape: TransformerShape
  let method: AdapterMethod
  /// 0 where there are no factors.
  let rank: Int
  let isDoRA: Bool
  let virtualTokens: Int
  /// The adapted projections of each ``ProjectionGroup``.
  let sites: [[Site]]
  /// Numbers in a layer.
  let layerCount: Int
  /// DoRA's norms in a layer.
  let normCount: Int

  init(shape: TransformerShape, rank: Int, targets: [Projection]) {
    self.init(shape: shape, method: .lora(LoRASettings(rank: rank, alpha: 1, targets: targets)))
  }

  init(shape: TransformerShape, method: AdapterMethod) {
    self.shape = shape
    self.method = method
    let targets: [Projection]
    var inputScaled: [Projection] = []
    switch method {
    case .lora(let settings):
      (rank, isDoRA, virtualTokens) = (settings.rank, settings.dora, 0)
      targets = settings.targets
    case .ia3(let settings):
      (rank, isDoRA, virtualTokens) = (0, false, 0)
      targets = settings.targets
      inputScaled = settings.feedForward
    case .promptTuning(let count):
      (rank, isDoRA, virtualTokens) = (0, false, count)
      targets = []
    }
    let hasScales = isDoRA || rank == 0
    var offset = 0
    var norms = 0
    var sites: [[Site]] = []
    for group in ProjectionGroup.allCases {
      let inputWidth = group.inputWidth(shape)
      var column = 0
      var found: [Site] = []
      for projection in group.members {
        let outputWidth = ProjectionGroup.outputWidth(of: projection, shape)
        if targets.contains(projection) {
          let kind: Scale =
            !hasScales ? .none : inputScaled.contains(projection) ? .input : .output
          found.append(
            Site(
              projection: projection, inputWidth: inputWidth, outputWidth: outputWidth,
              outputColumn: column, a: offset, b: 0, scaleKind: kind, scale: 0,
              scaleCount: kind == .none ? 0 : kind == .input ? inputWidth : outputWidth,
              norm: norms))
          offset += rank * inputWidth
          norms += isDoRA ? outputWidth : 0
        }
        column += outputWidth
      }
      for index in found.indices {
        found[index].b = offset
        offset += rank * found[index].outputWidth
      }
      for index in found.indices {
        found[index].scale = offset
        offset += found[index].scaleCount
      }
      sites.append(found)
    }
    self.sites = sites
    layerCount = offset
    normCount = norms
  }

  /// All numbers.
  var count: Int { layerCount * shape.layers + virtualTokens * shape.width }

  /// Columns of all A products of a row: rank for each adapted projection.
  var productWidth: Int { rank * sites.joined().count }

  /// Columns of scratch that scaled inputs and outputs need; 0 where nothing is scaled.
  var scaleWidth: Int {
    sites.joined().allSatisfy { $0.scaleKind == .none }
      ? 0
      : ProjectionGroup.allCases.map { max($0.inputWidth(shape), $0.outputWidth(shape)) }.max() ?? 0
  }

  func sites(_ group: ProjectionGroup) -> [Site] { sites[group.rawValue] }

  func scales(_ kind: Scale, _ group: ProjectionGroup) -> Bool {
    sites(group).contains { $0.scaleKind == kind }
  }

  /// Calls `body` with every site and the offset of its layer's first number.
  func forEachSite(_ body: (Site, Int) throws -> Void) rethrows {
    for layer in 0..<shape.layers {
      for site in sites.joined() { try body(site, layer * layerCount) }
    }
  }
}

extension AdapterLayout {
  /// PEFT's initialisation. LoRA: A uniform with Kaiming's bound for a = √5, which is 1 / √in, and B
  /// zero; DoRA's magnitudes: the norms of W; (IA)³: ones; prompt tuning: as `prompt` says.
  func initialParameters(
    seed: UInt64, weights: FrozenWeights? = nil, prompt: PromptInitialization = .random
  ) -> FloatBuffer {
    let parameters = FloatBuffer(zeros: count)
    var generator = SplitMix64(seed: seed)
    forEachSite { site, base in
      let bound = 1 / Float(site.inputWidth).squareRoot()
      for index in 0..<rank * site.inputWidth {
        parameters.pointer[base + site.a + index] = generator.nextUniform() * bound
      }
      if rank == 0 {
        (parameters.pointer + base + site.scale).update(repeating: 1, count: site.scaleCount)
      }
    }
    if isDoRA, let weights { setNorms(of: weights, in: parameters) }
    guard virtualTokens > 0 else { return parameters }
    let rows = parameters.pointer + layerCount * shape.layers
    for token in 0..<virtualTokens {
      let row = rows + token * shape.width
      let id: Int?
      switch prompt {
      case .random: id = nil
      case .sampleVocabulary: id = Int(generator.next() % UInt64(shape.vocabulary))
      case .tokens(let tokens): id = tokens.isEmpty ? nil : Int(tokens[token % tokens.count])
      }
      if let id, let weights {
        weights.embedding.expand(rows: id..<id + 1, into: row)
      } else {
        // Standard normal, as torch.nn.Embedding's; Box and Muller 1958.
        for i in 0..<shape.width {
          let u = Double(generator.next() >> 11) * 0x1p-53
          let v = Double(generator.next() >> 11) * 0x1p-53
          row[i] = Float((-2 * log(1 - u)).squareRoot() * cos(2 * Double.pi * v))
        }
      }
    }
    return parameters
  }

  /// Sets DoRA's magnitudes to the norms of the rows of W, so that training begins at the base model.
  private func setNorms(of weights: FrozenWeights, in parameters: FloatBuffer) {
    let scratch = FloatBuffer(uninitialized: PassWorkspace.weightScratchCount(shape))
    for layer in 0..<shape.layers {
      for group in ProjectionGroup.allCases where !sites(group).isEmpty {
        weights.expand(group, layer: layer, into: scratch.pointer)
        for site in sites(group) {
          for row in 0..<site.outputWidth {
            let w = scratch.pointer + (site.outputColumn + row) * site.inputWidth
            parameters.pointer[layer * layerCount + site.scale + row] =
              Elementwise.dot(w, w, count: site.inputWidth).squareRoot()
          }
        }
      }
    }
  }

  /// The numbers of an adapter in this layout.
  /// - Throws: `TrainingError.adapter` where method, rank, targets or sizes differ.
  func parameters(of adapter: Adapter) throws -> FloatBuffer {
    guard adapter.methods.count == 1, adapter.layerCount == shape.layers,
      adapter.width == shape.width,
      AdapterLayout(shape: shape, method: adapter.methods[0]).hasNumbers(of: self)
    else {
      throw TrainingError.adapter(
        "it is \(adapter.methods.map(\.description).joined(separator: " over ")) in "
          + "\(adapter.layerCount) layers; \(method) in \(shape.layers) layers was expected")
    }
    let parameters = FloatBuffer(zeros: count)
    func copy(_ source: FloatBuffer?, to offset: Int, count: Int, _ what: String) throws {
      if count == 0 { return }
      guard let source, source.count == count else {
        throw TrainingError.adapter("\(what) has \(source?.count ?? 0) numbers, not \(count)")
      }
      (parameters.pointer + offset).update(from: source.pointer, count: count)
    }
    try forEachSite { site, base in
      let layer = base / layerCount
      let name = "layer \(layer) \(site.projection.rawValue)"
      guard let change = adapter.changes(layer: layer, site.projection).first else {
        throw TrainingError.adapter("\(name) is not adapted")
      }
      try copy(change.factors?.a, to: base + site.a, count: rank * site.inputWidth, name)
      try copy(change.factors?.b, to: base + site.b, count: rank * site.outputWidth, name)
      let scale =
        isDoRA
        ? change.factors?.magnitude
        : site.scaleKind == .input ? change.inputScale : change.outputScale
      try copy(scale, to: base + site.scale, count: site.scaleCount, name)
    }
    try copy(
      adapter.virtualTokens, to: layerCount * shape.layers, count: virtualTokens * shape.width,
      "its virtual tokens")
    return parameters
  }

  /// Whether the numbers lie in the same places, whatever alpha is.
  private func hasNumbers(of other: AdapterLayout) -> Bool {
    func places(_ layout: AdapterLayout) -> [[Int]] {
      layout.sites.joined().map {
        [$0.projection.index, $0.a, $0.b, $0.scale, $0.scaleCount, $0.scaleKind == .input ? 1 : 0]
      }
    }
    return rank == other.rank && isDoRA == other.isDoRA && virtualTokens == other.virtualTokens
      && places(self) == places(other)
  }

  /// An adapter of `model`, changed by the adapter `under` this one if there is one, that holds a copy
  /// of `parameters`.
  func adapter(_ parameters: FloatBuffer, model: LlamaModel, over under: Adapter?) throws -> Adapter
  {
    func copy(_ offset: Int, _ count: Int) -> FloatBuffer {
      let buffer = FloatBuffer(uninitialized: count)
      buffer.pointer.initialize(from: parameters.pointer + offset, count: count)
      return buffer
    }
    switch method {
    case .lora(let settings):
      var layers = [[Projection: LoRAFactors]](repeating: [:], count: shape.layers)
      forEachSite { site, base in
        layers[base / layerCount][site.projection] = LoRAFactors(
          a: copy(base + site.a, rank * site.inputWidth),
          b: copy(base + site.b, rank * site.outputWidth),
          magnitude: isDoRA ? copy(base + site.scale, site.scaleCount) : nil)
      }
      return try Adapter(settings, layers: layers, model: model, over: under)
    case .ia3(let settings):
      var layers = [[Projection: FloatBuffer]](repeating: [:], count: shape.layers)
      forEachSite { site, base in
        layers[base / layerCount][site.projection] = copy(base + site.scale, site.scaleCount)
      }
      return try Adapter(settings, layers: layers, configuration: model.configuration)
    case .promptTuning:
      return try Adapter(
        promptEmbeddings: copy(layerCount * shape.layers, virtualTokens * shape.width),
        configuration: model.configuration)
    }
  }
}
