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

  var isPacked: Bool { if case .packed = self { true } else { false } }

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
    let blocks = model.layers.flatMap { layer in Projection.allCases.map { layer[$0] } }
    let memory =
      precision == .int8 ? PackedMatrix.commonMemory(for: blocks + [model.output]) : nil
    func matrix(_ blocks: QuantizedMatrix) -> ProductMatrix {
      if let memory, let packed = PackedMatrix(blocks, in: memory) { return .packed(packed) }
      return .blocks(blocks)
    }
    // The largest first, while the others take no memory yet.
    output = matrix(model.output)
    model.releasePages()
    layers = model.layers.map { layer in
      // What is packed is not read again, but for training and single rows of the embedding.
      defer { model.releasePages() }
      return Projection.allCases.map { matrix(layer[$0]) }
    }
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

  /// Whether some layer's product of a group wants its input as 8-bit codes.
  func usesCodes(_ group: ProjectionGroup) -> Bool {
    layers.contains { layer in layer[group.indices].contains { $0.isPacked } }
  }

  /// The products with all layers' matrices, by layer and `Projection.index`; empty unless all are
  /// packed. They are valid as long as these weights and what `y` gives for each projection.
  func products(into y: (Projection) -> UnsafeMutablePointer<Float>) -> ContiguousArray<
    PanelProduct
  > {
    let outputs = Projection.allCases.map(y)
    var products: ContiguousArray<PanelProduct> = []
    products.reserveCapacity(layers.count * outputs.count)
    for layer in layers {
      for (matrix, y) in zip(layer, outputs) {
        guard case .packed(let packed) = matrix else { return [] }
        products.append(packed.product(into: y, yStride: packed.rows))
      }
    }
    return products
  }
}

/// The matrices that gradients are multiplied with: those of a layer that share an input are one
/// matrix under the other, transposed and rounded to 8 bits (docs/performance.md says
/// what that does to a gradient).
package struct GradientWeights: Sendable {
  /// By layer and group, [input width × sum of the output widths]; nil where a width is no multiple
  /// of 32.
  package let layers: [[PackedMatrix?]]
  /// [width × vocabulary]
  package let output: PackedMatrix?

  init(_ model: LlamaModel) {
    layers = model.layers.map { layer in
      defer { model.releasePages() }
      return ProjectionGroup.allCases.map { group in
        Self.transposed(group.members.map { layer[$0] })
      }
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
