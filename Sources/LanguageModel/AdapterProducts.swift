// What each sequence's adapter adds to a pass's products with the base model's weights.

import LinearAlgebra

/// The adapters of a pass's segments.
struct AdapterProducts {
  typealias Output = (projection: Projection, y: FloatBuffer)

  let segments: [Segment]
  let rows: Int
  let configuration: LlamaConfiguration
  let pool: ThreadPool

  /// Nil where no segment has an adapter: then there is only the base model's product.
  init?(segments: [Segment], rows: Int, configuration: LlamaConfiguration, pool: ThreadPool) {
    guard segments.contains(where: { $0.adapter != nil }) else { return nil }
    self.segments = segments
    self.rows = rows
    self.configuration = configuration
    self.pool = pool
  }

  /// The products of X [rows × columns] with some projections of a layer, adapters included. `base`
  /// computes those with the base model's weights for all rows.
  func multiply(
    _ x: FloatBuffer, layer: Int, _ outputs: [Output], base: (FloatBuffer, [Output]) -> Void
  ) {
    let scaled = outputs.filter { scalesInput(layer: layer, $0.projection) }
    let plain = outputs.filter { output in !scaled.contains { $0.projection == output.projection } }
    if !plain.isEmpty { base(x, plain) }
    for output in scaled { base(scaledInput(x, layer: layer, output.projection), [output]) }
    apply(x, layer: layer, outputs)
  }

  private func scalesInput(layer: Int, _ projection: Projection) -> Bool {
    segments.contains { segment in
      segment.adapter?.changes(layer: layer, projection).contains { $0.inputScale != nil } ?? false
    }
  }

  /// A copy of X as the base model's projection sees it.
  private func scaledInput(_ x: FloatBuffer, layer: Int, _ projection: Projection) -> FloatBuffer {
    let columns = projection.inputWidth(in: configuration)
    let copy = FloatBuffer(uninitialized: rows * columns)
    copy.pointer.update(from: x.pointer, count: copy.count)
    for segment in segments {
      for change in segment.adapter?.changes(layer: layer, projection) ?? [] {
        guard let scale = change.inputScale else { continue }
        multiplyRows(
          copy.pointer + segment.row * columns, by: scale.pointer, rows: segment.count,
          width: columns)
      }
    }
    return copy
  }

  /// Turns the base model's products into those with each segment's adapter.
  private func apply(_ x: FloatBuffer, layer: Int, _ outputs: [Output]) {
    let tasks = segments.flatMap { segment in
      outputs.compactMap { output in
        let changes = segment.adapter?.changes(layer: layer, output.projection) ?? []
        return changes.isEmpty ? nil : (segment, output, changes)
      }
    }
    // Small sums for a few rows: not worth another thread.
    if rows < 8 && tasks.count < 8 {
      for (segment, output, changes) in tasks { apply(changes, x, segment, output) }
    } else {
      pool.parallel(tasks.count) { index in
        let (segment, output, changes) = tasks[index]
        apply(changes, x, segment, output)
      }
    }
  }

  private func apply(
    _ changes: [ProjectionChange], _ x: FloatBuffer, _ segment: Segment, _ output: Output
  ) {
    let columns = output.projection.inputWidth(in: configuration)
    let width = output.projection.outputWidth(in: configuration)
    let y = output.y.pointer + segment.row * width
    for (index, change) in changes.enumerated() {
      if let factors = change.factors {
        var input = UnsafePointer(x.pointer + segment.row * columns)
        // The adapters above this one may scale what it sees.
        let scales = changes[(index + 1)...].compactMap(\.inputScale)
        let copy = FloatBuffer(uninitialized: scales.isEmpty ? 0 : segment.count * columns)
        if !scales.isEmpty {
          copy.pointer.update(from: input, count: copy.count)
          for scale in scales {
            multiplyRows(copy.pointer, by: scale.pointer, rows: segment.count, width: columns)
          }
          input = UnsafePointer(copy.pointer)
        }
        let inner = FloatBuffer(uninitialized: segment.count * change.rank)
        BLAS.shared.productOnThisThread(
          m: segment.count, n: change.rank, k: columns, a: input, lda: columns,
          b: factors.a.pointer, ldb: columns, transposeB: true, c: inner.pointer,
          ldc: change.rank)
        BLAS.shared.productOnThisThread(
          m: segment.count, n: width, k: change.rank, alpha: change.scaling, a: inner.pointer,
          lda: change.rank, b: factors.b.pointer, ldb: change.rank, transposeB: true, beta: 1,
          c: y, ldc: width)
        withExtendedLifetime(copy) {}
      }
      if let scale = change.outputScale {
        multiplyRows(y, by: scale.pointer, rows: segment.count, width: width)
      }
    }
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
