// Where the trained numbers of a LoRA adapter lie: one flat array, so that clipping and the
// optimiser see a single vector.

import Foundation
import LanguageModel
import LinearAlgebra

/// The order of a LoRA adapter's numbers in a flat array. Layers follow each other; in a layer each
/// group of projections with a common input has its members' A factors stacked [n·rank × in], so
/// that the group needs one product for them, then their B factors [out × rank].
struct AdapterLayout: Sendable {
  /// One adapted projection. Offsets count from the layer's first number.
  struct Site: Sendable {
    var projection: Projection
    var inputWidth: Int
    var outputWidth: Int
    /// Its first column in the group's output.
    var outputColumn: Int
    var a: Int
    var b: Int
  }

  let shape: TransformerShape
  let rank: Int
  let targets: [Projection]
  /// The adapted projections of each ``ProjectionGroup``.
  let sites: [[Site]]
  /// Numbers in a layer.
  let layerCount: Int

  init(shape: TransformerShape, rank: Int, targets: [Projection]) {
    self.shape = shape
    self.rank = rank
    self.targets = targets
    var offset = 0
    var sites: [[Site]] = []
    for group in ProjectionGroup.allCases {
      let inputWidth = group.inputWidth(shape)
      var column = 0
      var found: [Site] = []
      for projection in group.members {
        let outputWidth = ProjectionGroup.outputWidth(of: projection, shape)
        if targets.contains(projection) {
          found.append(
            Site(
              projection: projection, inputWidth: inputWidth, outputWidth: outputWidth,
              outputColumn: column, a: offset, b: 0))
          offset += rank * inputWidth
        }
        column += outputWidth
      }
      for index in found.indices {
        found[index].b = offset
        offset += rank * found[index].outputWidth
      }
      sites.append(found)
    }
    self.sites = sites
    layerCount = offset
  }

  /// All numbers.
  var count: Int { layerCount * shape.layers }

  /// Columns of all A products of a row: rank for each adapted projection.
  var productWidth: Int { rank * sites.joined().count }

  func sites(_ group: ProjectionGroup) -> [Site] { sites[group.rawValue] }

  /// PEFT's initialisation: A uniform with Kaiming's bound for a = √5, which is 1 / √in; B zero.
  func initialParameters(seed: UInt64) -> FloatBuffer {
    let parameters = FloatBuffer(zeros: count)
    var generator = SplitMix64(seed: seed)
    forEachSite { site, base in
      let bound = 1 / Float(site.inputWidth).squareRoot()
      for index in 0..<rank * site.inputWidth {
        parameters.pointer[base + site.a + index] = generator.nextUniform() * bound
      }
    }
    return parameters
  }

  /// Calls `body` with every site and the offset of its layer's first number.
  func forEachSite(_ body: (Site, Int) throws -> Void) rethrows {
    for layer in 0..<shape.layers {
      for site in sites.joined() { try body(site, layer * layerCount) }
    }
  }
}

extension AdapterLayout {
  /// The numbers of an adapter in this layout.
  /// - Throws: `TrainingError.adapter` where rank, targets or layers differ.
  func parameters(of adapter: LoRAAdapter) throws -> FloatBuffer {
    guard adapter.rank == rank, Set(adapter.targets) == Set(targets),
      adapter.layerCount == shape.layers
    else {
      throw TrainingError.adapter(
        "it has rank \(adapter.rank) on \(adapter.targets.map(\.rawValue)) in "
          + "\(adapter.layerCount) layers; rank \(rank) on \(targets.map(\.rawValue)) in "
          + "\(shape.layers) layers was expected")
    }
    let parameters = FloatBuffer(zeros: count)
    try forEachSite { site, base in
      let layer = base / layerCount
      guard let factors = adapter.factors(layer: layer, site.projection),
        factors.a.count == rank * site.inputWidth, factors.b.count == rank * site.outputWidth
      else {
        throw TrainingError.adapter(
          "layer \(layer) \(site.projection.rawValue) has factors of other sizes")
      }
      (parameters.pointer + base + site.a).update(from: factors.a.pointer, count: factors.a.count)
      (parameters.pointer + base + site.b).update(from: factors.b.pointer, count: factors.b.count)
    }
    return parameters
  }

  /// An adapter that holds a copy of `parameters`.
  func adapter(
    _ parameters: FloatBuffer, alpha: Float, scaling: Float, configuration: LlamaConfiguration
  ) throws -> LoRAAdapter {
    var layers = [[Projection: LoRAFactors]](repeating: [:], count: shape.layers)
    forEachSite { site, base in
      let a = FloatBuffer(uninitialized: rank * site.inputWidth)
      let b = FloatBuffer(uninitialized: rank * site.outputWidth)
      a.pointer.initialize(from: parameters.pointer + base + site.a, count: a.count)
      b.pointer.initialize(from: parameters.pointer + base + site.b, count: b.count)
      layers[base / layerCount][site.projection] = LoRAFactors(a: a, b: b)
    }
    return try LoRAAdapter(
      rank: rank, alpha: alpha, targets: targets, layers: layers, configuration: configuration,
      scaling: scaling)
  }
}
