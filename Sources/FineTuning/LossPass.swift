// The last norm, the output projection and cross-entropy, only at positions that have a loss.

import CKernels
import LinearAlgebra

/// The output matrix [vocabulary × W] is expanded a tile at a time, and logits exist for a limited
/// number of positions at a time.
struct LossPass {
  let workspace: PassWorkspace
  let batch: PackedBatch

  private var weights: FrozenWeights { workspace.weights }

  /// The loss -log p(target) of each of the batch's loss positions, given the residual stream x
  /// [T × W]. With `d` [T × W]: d becomes the gradient of `factor` · (sum of the losses).
  func run(_ x: Floats, d: Floats? = nil, factor: Float = 0) -> [Double] {
    let width = weights.shape.width
    let count = batch.losses.count
    workspace.prepareLoss(count: count)
    let hidden = workspace.hidden.pointer
    let dHidden = hidden + count * width
    var inverseRMS = [Float](repeating: 0, count: count)
    for (index, loss) in batch.losses.enumerated() {
      inverseRMS[index] = Elementwise.rmsNorm(
        x + loss.row * width, weight: weights.outputNorm, into: hidden + index * width,
        count: width, epsilon: weights.shape.rmsEpsilon)
    }
    var losses = [Double](repeating: 0, count: count)
    let limit = PassWorkspace.logitRows(weights.shape)
    for start in stride(from: 0, to: count, by: limit) {
      let range = start..<min(start + limit, count)
      losses.withUnsafeMutableBufferPointer {
        chunk(
          range, hidden: hidden + start * width,
          dHidden: d == nil ? nil : dHidden + start * width, factor: factor, losses: $0)
      }
    }
    guard let d else { return losses }
    ThreadPool.shared.parallelRanges(batch.rows) { rows in
      (d + rows.lowerBound * width).update(repeating: 0, count: rows.count * width)
    }
    for (index, loss) in batch.losses.enumerated() {
      Elementwise.rmsNormBackward(
        x + loss.row * width, weight: weights.outputNorm, dy: dHidden + index * width,
        inverseRMS: inverseRMS[index], addingTo: d + loss.row * width, count: width)
    }
    return losses
  }

  private func chunk(
    _ range: Range<Int>, hidden: Floats, dHidden: Floats?, factor: Float,
    losses: UnsafeMutableBufferPointer<Double>
  ) {
    let width = weights.shape.width
    let vocabulary = weights.shape.vocabulary
    let logits = workspace.logits.pointer
    // Disjoint elements, one writer each.
    nonisolated(unsafe) let losses = losses
    if case .packed(let output)? = weights.forward?.output {
      output.multiply(
        QuantizedRows(hidden, count: range.count, columns: width), into: logits,
        yStride: vocabulary)
    } else {
      forEachTile { first, rows, tile in
        sgemm(
          m: range.count, n: rows, k: width, a: hidden, lda: width, b: tile, ldb: width,
          transposeB: true, c: logits + first, ldc: vocabulary)
      }
    }
    ThreadPool.shared.parallel(range.count) { index in
      let position = range.lowerBound + index
      losses[position] = training_cross_entropy(
        logits + index * vocabulary, vocabulary, Int(batch.losses[position].target),
        dHidden == nil ? 0 : factor)
    }
    guard let dHidden else { return }
    if let output = weights.backward?.output {
      output.multiply(
        QuantizedRows(logits, count: range.count, columns: vocabulary), into: dHidden,
        yStride: width)
      return
    }
    forEachTile { first, rows, tile in
      sgemm(
        m: range.count, n: width, k: rows, a: logits + first, lda: vocabulary, b: tile,
        ldb: width, beta: first == 0 ? 0 : 1, c: dHidden, ldc: width)
    }
  }

  /// Calls `body` with each tile's first row, its number of rows and the expanded rows.
  private func forEachTile(_ body: (Int, Int, Floats) -> Void) {
    let tile = workspace.weightScratch.pointer
    let width = weights.shape.width
    let height = max(1, workspace.weightScratch.count / width)
    for first in stride(from: 0, to: weights.shape.vocabulary, by: height) {
      let rows = min(height, weights.shape.vocabulary - first)
      ThreadPool.shared.parallelRanges(rows) { part in
        weights.output.expand(
          rows: first + part.lowerBound..<first + part.upperBound,
          into: tile + part.lowerBound * width)
      }
      body(first, rows, tile)
    }
  }
}
