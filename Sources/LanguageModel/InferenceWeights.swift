// The weight matrices in the form that the forward pass multiplies with.

import LinearAlgebra

/// How the forward pass computes products with quantised weights.
public enum ProductPrecision: String, Sendable, Codable, CaseIterable {
  /// Activations rounded to 8 bits, a scale for each 32 of them: several times faster, and the loss
  /// of a text changes by less than 1 in 1000 (docs/performance.md).
  case int8
  /// Activations as they are.
  case float32
}

/// A matrix to multiply with.
enum ProductMatrix: Sendable {
  /// For 8-bit activations.
  case packed(PackedMatrix)
  /// For f32 activations.
  case blocks(QuantizedMatrix)

  var rows: Int {
    switch self {
    case .packed(let matrix): matrix.rows
    case .blocks(let matrix): matrix.rows
    }
  }

  var columns: Int {
    switch self {
    case .packed(let matrix): matrix.columns
    case .blocks(let matrix): matrix.columns
    }
  }
}

/// All matrices of a model that rows are multiplied with.
struct InferenceWeights: Sendable {
  private let layers: [[ProductMatrix]]
  /// [vocabulary × width]
  let output: ProductMatrix

  init(_ model: LlamaModel, precision: ProductPrecision) {
    func matrix(_ blocks: QuantizedMatrix) -> ProductMatrix {
      if precision == .int8, let packed = PackedMatrix(blocks) { return .packed(packed) }
      return .blocks(blocks)
    }
    layers = model.layers.map { layer in Projection.allCases.map { matrix(layer[$0]) } }
    output = matrix(model.output)
  }

  subscript(layer: Int, projection: Projection) -> ProductMatrix {
    layers[layer][projection.index]
  }
}
