// What each sequence's adapter adds to a pass's products with the base model's weights.

import CKernels
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
    let run = { (task: Int) in
      let segment = segments[task / outputs.count]
      guard let adapter = segment.adapter else { return }
      let output = outputs[task % outputs.count]
      let changes = adapter.changes(layer: layer, output.projection)
      if !changes.isEmpty { apply(changes, x, segment, output) }
    }
    // Small sums for a few rows: not worth another thread.
    let tasks = segments.count * outputs.count
    if rows < 4 {
      for task in 0..<tasks { run(task) }
    } else {
      pool.parallel(tasks, run)
    }
  }

  private func apply(
    _ changes: [ProjectionChange], _ x: FloatBuffer, _ segment: Segment, _ output: Output
  ) {
    let columns = output.projection.inputWidth(in: configuration)
    let width = output.projection.outputWidth(in: configuration)
    let y = output.y.pointer + segment.row * width
    for (index, change) in changes.enumerated() {
      if let factors = change.factors, let bTransposed = change.bTransposed {
        var input = UnsafePointer(x.pointer + segment.row * columns)
        // The adapters above this one may scale what it sees.
        let above = changes[(index + 1)...]
        let isScaled = above.contains { $0.inputScale != nil }
        let copy = FloatBuffer(uninitialized: isScaled ? segment.count * columns : 0)
        if isScaled {
          copy.pointer.update(from: input, count: copy.count)
          for scale in above.compactMap(\.inputScale) {
            multiplyRows(copy.pointer, by: scale.pointer, rows: segment.count, width: columns)
          }
          input = UnsafePointer(copy.pointer)
        }
        let inner = FloatBuffer(uninitialized: segment.count * change.rank)
        ck_low_rank(
          Elementwise.level.rawValue, input, segment.count, columns, factors.a.pointer,
          change.rank, bTransposed.pointer, width, change.scaling, inner.pointer, y)
        withExtendedLifetime((copy, inner)) {}
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
