// What each sequence's adapter adds to a pass's products with the base model's weights.

import CKernels
import LinearAlgebra

extension RowChunk {
  /// Turns the base model's product y of these rows into the one with their adapter. X and y are
  /// those of the whole pass.
  func applyAdapter(
    layer: Int, _ projection: Projection, _ x: FloatBuffer, to y: FloatBuffer,
    _ configuration: LlamaConfiguration
  ) {
    guard let changes = changes?.changes(layer: layer, projection), !changes.isEmpty else { return }
    let columns = projection.inputWidth(in: configuration)
    let width = projection.outputWidth(in: configuration)
    let y = y.pointer + rows.lowerBound * width
    for (index, change) in changes.enumerated() {
      if let a = change.a, let bTransposed = change.bTransposed {
        var input = UnsafePointer(x.pointer + rows.lowerBound * columns)
        // The adapters above this one may scale what it sees.
        let above = changes[(index + 1)...]
        var copy: FloatBuffer?
        if above.contains(where: { $0.inputScale != nil }) {
          let scaled = FloatBuffer(uninitialized: rows.count * columns)
          scaled.pointer.update(from: input, count: scaled.count)
          for scale in above.compactMap(\.inputScale) {
            multiplyRows(scaled.pointer, by: scale, rows: rows.count, width: columns)
          }
          input = UnsafePointer(scaled.pointer)
          copy = scaled
        }
        withUnsafeTemporaryAllocation(of: Float.self, capacity: rows.count * change.rank) { inner in
          guard let inner = inner.baseAddress else { return }
          ck_low_rank(
            Elementwise.level.rawValue, input, rows.count, columns, a, change.rank, bTransposed,
            width, change.scaling, inner, y)
        }
        withExtendedLifetime(copy) {}
      }
      if let scale = change.outputScale {
        multiplyRows(y, by: scale, rows: rows.count, width: width)
      }
    }
  }

  /// Adds a projection's bias to these rows of y. (IA)³ scales a projection's whole output, the bias
  /// too; DoRA's scales are of the weights alone.
  func add(_ bias: [Float], layer: Int, _ projection: Projection, to y: FloatBuffer) {
    var bias = bias
    if let changes = changes?.changes(layer: layer, projection) {
      for change in changes {
        guard change.a == nil, let scale = change.outputScale else { continue }
        for index in bias.indices { bias[index] *= scale[index] }
      }
    }
    for row in rows {
      Elementwise.addScaled(1, bias, to: y.pointer + row * bias.count, count: bias.count)
    }
  }
}

extension PassRows {
  /// A copy of X as the base model's projection sees it under adapters that scale its input.
  func scaledInput(
    _ x: FloatBuffer, layer: Int, _ projection: Projection, _ configuration: LlamaConfiguration
  ) -> FloatBuffer {
    let columns = projection.inputWidth(in: configuration)
    let copy = FloatBuffer(uninitialized: count * columns)
    copy.pointer.update(from: x.pointer, count: copy.count)
    for chunk in chunks {
      guard let changes = chunk.changes?.changes(layer: layer, projection) else { continue }
      for scale in changes.compactMap(\.inputScale) {
        multiplyRows(
          copy.pointer + chunk.rows.lowerBound * columns, by: scale, rows: chunk.rows.count,
          width: columns)
      }
    }
    return copy
  }
}

/// y [rows × width] ⊙= scale [width], row by row.
func multiplyRows(
  _ y: UnsafeMutablePointer<Float>, by scale: UnsafePointer<Float>, rows: Int, width: Int
) {
  for row in 0..<rows {
    let line = y + row * width
    for column in 0..<width { line[column] *= scale[column] }
  }
}
