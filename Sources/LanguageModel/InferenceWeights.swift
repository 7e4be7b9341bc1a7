// The weight matrices in the form that the forward pass multiplies with.

import LinearAlgebra

/// How the forward pass computes products with quantised weights.
public enum ProductPrecision: String, Sendable, Codable, CaseIterable {
  /// Activations rounded to 8 bits, a scale for each 32 of them: several times faster, and the mean
  /// loss of texts changes by some thousandths (docs/performance.md).
  case int8
  /// Activations as they are.
  case float32
}

/// A matrix to multiply with.
package enum ProductMatrix: Sendable {
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
package struct InferenceWeights: Sendable {
  private let layers: [[ProductMatrix]]
  /// [vocabulary × width]
  package let output: ProductMatrix

  init(_ model: LlamaModel, precision: ProductPrecision) {
    func matrix(_ blocks: QuantizedMatrix) -> ProductMatrix {
      if precision == .int8, let packed = PackedMatrix(blocks) { return .packed(packed) }
      return .blocks(blocks)
    }
    layers = model.layers.map { layer in
      // What is packed is not read again, but for training and single rows of the embedding.
      defer { model.releasePages() }
      return Projection.allCases.map { matrix(layer[$0]) }
    }
    output = matrix(model.output)
    model.releasePages()
  }

  /// The memory of the packed matrices.
  package var byteCount: Int {
    (layers.joined() + [output]).reduce(0) { sum, matrix in
      if case .packed(let packed) = matrix { sum + packed.byteCount } else { sum }
    }
  }

  package subscript(layer: Int, projection: Projection) -> ProductMatrix {
    layers[layer][projection.index]
  }
}

/// The matrices that gradients are multiplied with: those of a layer that share an input are one
/// matrix under the other, transposed and rounded to 8 bits (docs/performance.md says
/// what that does to a gradient).
package struct GradientWeights: Sendable {
  /// The projections of a layer that share an input.
  package static let groups: [[Projection]] = [
    [.query, .key, .value], [.output], [.gate, .up], [.down],
  ]
  /// By layer and group, [input width × sum of the output widths]; nil where a width is no multiple
  /// of 32.
  package let layers: [[PackedMatrix?]]
  /// [width × vocabulary]
  package let output: PackedMatrix?

  init(_ model: LlamaModel) {
    layers = model.layers.map { layer in
      defer { model.releasePages() }
      return Self.groups.map { group in Self.transposed(group.map { layer[$0] }) }
    }
    output = Self.transposed([model.output])
    model.releasePages()
  }

  /// The memory of the matrices.
  package var byteCount: Int {
    layers.joined().reduce(output?.byteCount ?? 0) { $0 + ($1?.byteCount ?? 0) }
  }

  private static func transposed(_ matrices: [QuantizedMatrix]) -> PackedMatrix? {
    let columns = matrices[0].columns
    let rows = matrices.reduce(0) { $0 + $1.rows }
    let weights = FloatBuffer(uninitialized: rows * columns)
    var next = weights.pointer
    for matrix in matrices {
      matrix.expand(into: next)
      next += matrix.rows * columns
    }
    return PackedMatrix(
      rounding: weights.pointer, rows: columns, columns: rows, rowStride: 1, columnStride: columns)
  }
}
