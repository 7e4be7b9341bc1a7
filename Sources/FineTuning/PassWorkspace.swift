// The memory that passes over the transformer work in, grown as batches need it and used again.

import Foundation
import LanguageModel
import LinearAlgebra

/// The memory of passes, grown as batches need it and used again.
final class PassWorkspace {
  let weights: FrozenWeights
  private(set) var rows = 0
  private(set) var productWidth = 0
  private(set) var inputs: [FloatBuffer] = []
  private(set) var stashes: [FloatBuffer] = []
  private var scratch = FloatBuffer(uninitialized: 0)
  private var scores = FloatBuffer(uninitialized: 0)
  private(set) var logits = FloatBuffer(uninitialized: 0)
  private(set) var hidden = FloatBuffer(uninitialized: 0)
  let weightScratch: FloatBuffer
  let angles: (cosines: [Float], sines: [Float])
  let longest: Int

  /// - Parameter longest: the longest sequence in tokens.
  init(weights: FrozenWeights, longest: Int) {
    self.weights = weights
    self.longest = longest
    weightScratch = FloatBuffer(uninitialized: Self.weightScratchCount(weights.shape))
    let half = weights.shape.headWidth / 2
    var cosines = [Float](repeating: 0, count: longest * half)
    var sines = cosines
    let scaling = weights.shape.ropeScaling
    let frequencies = scaling.frequencies(
      base: weights.shape.ropeBase, headWidth: weights.shape.headWidth)
    for position in 0..<longest {
      for i in 0..<half {
        let angle = Float(position) * frequencies[i]
        cosines[position * half + i] = scaling.magnitude * cos(angle)
        sines[position * half + i] = scaling.magnitude * sin(angle)
      }
    }
    angles = (cosines, sines)
  }

  static func weightScratchCount(_ shape: TransformerShape) -> Int {
    ProjectionGroup.allCases.map { $0.inputWidth(shape) * $0.outputWidth(shape) }.max() ?? 0
  }

  /// Numbers kept of a row in a layer, in the order of ``Stash``.
  static func stashWidth(_ shape: TransformerShape, productWidth: Int) -> Int {
    shape.qkvWidth + shape.attentionWidth + shape.heads + shape.width
      + 2 * shape.feedForwardWidth + productWidth + 2 + rawWidth(shape)
  }

  /// Queries and keys as they are before their norm, where there is one.
  static func rawWidth(_ shape: TransformerShape) -> Int {
    shape.normalizesHeads ? shape.attentionWidth + shape.kvWidth : 0
  }

  /// Numbers of a row that exist once: see ``Scratch``.
  static func scratchWidth(
    _ shape: TransformerShape, productWidth: Int, scaleWidth: Int, drops: Bool
  ) -> Int {
    4 * shape.width + 3 * shape.attentionWidth + 2 * shape.feedForwardWidth + shape.qkvWidth
      + productWidth + scaleWidth + (drops ? max(shape.feedForwardWidth, shape.width) : 0)
  }

  /// Makes room for a batch. `keepLayers`: every layer keeps its stash; else all share one.
  func prepare(
    _ batch: PackedBatch, productWidth: Int, scaleWidth: Int, inputCount: Int, keepLayers: Bool,
    drops: Bool
  ) {
    let shape = weights.shape
    let stashCount = keepLayers ? shape.layers : 1
    if batch.rows > rows || inputCount > inputs.count || stashCount > stashes.count
      || productWidth > self.productWidth
    {
      rows = max(rows, batch.rows)
      self.productWidth = max(productWidth, self.productWidth)
      let inputCount = max(inputCount, inputs.count)
      let stashCount = max(stashCount, stashes.count)
      // The old buffers go before the new ones come.
      inputs = []
      stashes = []
      let stash = rows * Self.stashWidth(shape, productWidth: self.productWidth)
      inputs = (0..<inputCount).map { _ in FloatBuffer(uninitialized: rows * shape.width) }
      stashes = (0..<stashCount).map { _ in FloatBuffer(uninitialized: stash) }
    }
    let wanted =
      batch.rows
      * Self.scratchWidth(shape, productWidth: productWidth, scaleWidth: scaleWidth, drops: drops)
    if scratch.count < wanted { scratch = FloatBuffer(uninitialized: wanted) }
    let scoreCount = AttentionPass.scoreCount(batch) * ThreadPool.shared.width
    if scores.count < scoreCount { scores = FloatBuffer(uninitialized: scoreCount) }
  }

  /// Rows of logits in memory at a time: about 32 MB of them, not all of a batch's.
  static func logitRows(_ shape: TransformerShape) -> Int { max(8, (8 << 20) / shape.vocabulary) }

  /// Makes room for the loss of `count` positions.
  func prepareLoss(count: Int) {
    let shape = weights.shape
    let wanted = min(count, Self.logitRows(shape)) * shape.vocabulary
    if logits.count < wanted { logits = FloatBuffer(uninitialized: wanted) }
    if hidden.count < 2 * count * shape.width {
      hidden = FloatBuffer(uninitialized: 2 * count * shape.width)
    }
  }

  /// What a layer keeps for its backward pass.
  struct Stash {
    let qkv: Floats  // [T × qkvWidth], rotated
    let attention: Floats  // [T × A]
    let logSums: Floats  // [T × heads]
    let middle: Floats  // [T × W], after attention's residual
    let gateUp: Floats  // [T × 2F]
    let products: Floats  // [T × productWidth], by group
    let inverseRMS: Floats  // [2 × T]
    let raw: Floats  // [T × rawWidth]
  }

  func stash(_ layer: Int, rows: Int) -> Stash {
    let shape = weights.shape
    let qkv = stashes[stashes.count == 1 ? 0 : layer].pointer
    let attention = qkv + rows * shape.qkvWidth
    let logSums = attention + rows * shape.attentionWidth
    let middle = logSums + rows * shape.heads
    let gateUp = middle + rows * shape.width
    let products = gateUp + rows * 2 * shape.feedForwardWidth
    return Stash(
      qkv: qkv, attention: attention, logSums: logSums, middle: middle, gateUp: gateUp,
      products: products, inverseRMS: products + rows * productWidth,
      raw: products + rows * (productWidth + 2))
  }

  /// What exists once and is overwritten by every layer.
  struct Scratch {
    let normed: Floats  // [T × W]
    let dNormed: Floats  // [T × W]
    let dResidual: Floats  // [T × W]
    let sums: Floats  // [T × W]
    let dAttention: Floats  // [T × A]
    let keyParts: Floats  // [T × A]
    let valueParts: Floats  // [T × A]
    let activated: Floats  // [T × F]
    let dActivated: Floats  // [T × F]
    let dQKV: Floats  // [T × qkvWidth]
    let products: Floats  // [T × productWidth]
    let scaled: Floats  // [T × scaleWidth]
    let dropped: Floats  // [T × max(F, W)], with dropout only
  }

  func scratch(rows: Int, productWidth: Int, scaleWidth: Int) -> Scratch {
    let shape = weights.shape
    var next = scratch.pointer
    func take(_ width: Int) -> Floats {
      defer { next += rows * width }
      return next
    }
    return Scratch(
      normed: take(shape.width), dNormed: take(shape.width), dResidual: take(shape.width),
      sums: take(shape.width),
      dAttention: take(shape.attentionWidth), keyParts: take(shape.attentionWidth),
      valueParts: take(shape.attentionWidth), activated: take(shape.feedForwardWidth),
      dActivated: take(shape.feedForwardWidth), dQKV: take(shape.qkvWidth),
      products: take(productWidth), scaled: take(scaleWidth), dropped: next)
  }

  func attention(_ batch: PackedBatch) -> AttentionPass {
    AttentionPass(
      shape: weights.shape, batch: batch, scoreScratch: scores.pointer,
      scoreStride: scores.count / ThreadPool.shared.width)
  }
}
