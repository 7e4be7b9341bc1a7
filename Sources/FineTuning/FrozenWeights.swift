// The base model as training sees it: sizes and frozen matrices, grouped by the input they share.

import LanguageModel
import LinearAlgebra

/// The sizes of a llama-architecture transformer.
struct TransformerShape: Sendable, Equatable {
  var layers: Int
  var width: Int
  var heads: Int
  var kvHeads: Int
  var headWidth: Int
  var feedForwardWidth: Int
  var vocabulary: Int
  var ropeBase: Double
  var rmsEpsilon: Float
  var ropeScaling = RopeScaling.none
  /// Whether query and key heads are normalised before the rotation.
  var normalizesHeads = false

  var attentionWidth: Int { heads * headWidth }
  var kvWidth: Int { kvHeads * headWidth }
  /// Queries, keys and values side by side in a row.
  var qkvWidth: Int { attentionWidth + 2 * kvWidth }
}

/// A group's outputs lie side by side in a row, so that it is one matrix product.
extension ProjectionGroup {
  func inputWidth(_ shape: TransformerShape) -> Int {
    switch self {
    case .qkv, .gateUp: shape.width
    case .output: shape.attentionWidth
    case .down: shape.feedForwardWidth
    }
  }

  func outputWidth(_ shape: TransformerShape) -> Int {
    members.reduce(0) { $0 + Self.outputWidth(of: $1, shape) }
  }

  static func outputWidth(of projection: Projection, _ shape: TransformerShape) -> Int {
    switch projection {
    case .query: shape.attentionWidth
    case .key, .value: shape.kvWidth
    case .output, .down: shape.width
    case .gate, .up: shape.feedForwardWidth
    }
  }
}

/// The frozen weights that a pass reads.
struct FrozenWeights: Sendable {
  struct Layer: Sendable {
    var attentionNorm: [Float]
    var feedForwardNorm: [Float]
    /// For each ``ProjectionGroup``, its members' matrices [out × in].
    var groups: [[QuantizedMatrix]]
    /// Biases of queries, keys and values side by side [qkvWidth].
    var qkvBias: [Float]?
    /// Weights of the heads' norms [headWidth], where the shape has them.
    var queryNorm: [Float]?
    var keyNorm: [Float]?
  }

  var shape: TransformerShape
  var layers: [Layer]
  var embedding: QuantizedMatrix
  var output: QuantizedMatrix
  var outputNorm: [Float]
  /// For products with 8-bit activations, which are f32 products where there are none.
  var forward: InferenceWeights?
  /// For those of the backward pass.
  var backward: GradientWeights?
  /// An adapter under the one that is trained, or the one that is evaluated, without a gradient: it is
  /// merged into the weights whenever they are expanded, and LoRA's factors are multiplied beside
  /// 8-bit weights, as in serving.
  var merged: Adapter?

  /// Bytes of all matrices and of the merged adapter.
  var byteCount: Int {
    layers.reduce(embedding.byteCount + (merged?.byteCount ?? 0)) { sum, layer in
      sum + layer.groups.joined().reduce(0) { $0 + $1.byteCount }
    }
  }

  /// Bytes of the matrices for 8-bit products.
  var packedByteCount: Int {
    (forward?.byteCount ?? 0) + (backward?.byteCount ?? 0)
  }

  /// A group's matrices for 8-bit activations, without the factors of ``frozenFactors(_:layer:)``; nil
  /// where there are none, or an adapter changes them otherwise.
  func packed(_ group: ProjectionGroup, layer: Int) -> [PackedMatrix]? {
    guard let forward, !isMerged(group, layer: layer) else { return nil }
    var matrices: [PackedMatrix] = []
    for projection in group.members {
      guard case .packed(let matrix) = forward[layer, projection] else { return nil }
      matrices.append(matrix)
    }
    return matrices
  }

  /// The group's matrix for gradients, [inputWidth × outputWidth]; nil and without factors as
  /// ``packed(_:layer:)``.
  func transposed(_ group: ProjectionGroup, layer: Int) -> PackedMatrix? {
    isMerged(group, layer: layer) ? nil : backward?.layers[layer][group.rawValue]
  }

  /// Whether the frozen adapter scales what the group reads or gives, so that it has to be merged.
  private func isMerged(_ group: ProjectionGroup, layer: Int) -> Bool {
    guard let merged else { return false }
    return group.members.contains {
      merged.changes(layer: layer, $0).contains { $0.inputScale != nil || $0.outputScale != nil }
    }
  }

  /// Factors of the frozen adapter and the first column of the group's output that they add to.
  struct FrozenFactors {
    let factors: LoRAFactors
    let rank: Int
    let scaling: Float
    let outputColumn: Int
    let outputWidth: Int
  }

  /// What the frozen adapter adds to a group's products with ``packed(_:layer:)`` matrices.
  func frozenFactors(_ group: ProjectionGroup, layer: Int) -> [FrozenFactors] {
    guard let merged else { return [] }
    var column = 0
    var found: [FrozenFactors] = []
    for projection in group.members {
      let width = ProjectionGroup.outputWidth(of: projection, shape)
      for change in merged.changes(layer: layer, projection) {
        guard let factors = change.factors else { continue }
        found.append(
          FrozenFactors(
            factors: factors, rank: change.rank, scaling: change.scaling, outputColumn: column,
            outputWidth: width))
      }
      column += width
    }
    return found
  }

  /// Expands a group's matrices to f32, one under the other: [outputWidth × inputWidth].
  func expand(_ group: ProjectionGroup, layer: Int, into out: UnsafeMutablePointer<Float>) {
    var target = out
    for (projection, matrix) in zip(group.members, layers[layer].groups[group.rawValue]) {
      matrix.expand(into: target)
      merged?.merge(
        into: target, layer: layer, projection, rows: matrix.rows, columns: matrix.columns)
      target += matrix.rows * matrix.columns
    }
  }
}

extension FrozenWeights {
  /// The weights of a loaded model; nothing is copied but the norms.
  init(_ model: LlamaModel) {
    let configuration = model.configuration
    shape = TransformerShape(
      layers: configuration.layers, width: configuration.width, heads: configuration.heads,
      kvHeads: configuration.kvHeads, headWidth: configuration.headWidth,
      feedForwardWidth: configuration.feedForwardWidth, vocabulary: configuration.vocabulary,
      ropeBase: configuration.ropeBase, rmsEpsilon: configuration.rmsEpsilon,
      ropeScaling: configuration.ropeScaling,
      normalizesHeads: configuration.architecture == .qwen3)
    layers = model.layers.map { layer in
      Layer(
        attentionNorm: layer.attentionNorm, feedForwardNorm: layer.feedForwardNorm,
        groups: ProjectionGroup.allCases.map { $0.members.map { layer[$0] } },
        qkvBias: Self.sideBySide(ProjectionGroup.qkv.members.map(layer.bias)),
        queryNorm: layer.queryNorm, keyNorm: layer.keyNorm)
    }
    embedding = model.tokenEmbedding
    output = model.output
    outputNorm = model.outputNorm
    if model.precision == .int8 {
      forward = model.inferenceWeights
      backward = model.gradientWeights
    }
  }

  private static func sideBySide(_ biases: [[Float]?]) -> [Float]? {
    let present = biases.compactMap { $0 }
    return present.count == biases.count ? present.flatMap { $0 } : nil
  }
}
