// Causal attention with grouped queries over packed segments, forward and backward.
//
// Scores are computed for a block of queries at a time and never kept: the backward pass computes
// them again and turns them into probabilities with the stored log-sum-exp of each row, as in
// FlashAttention (arXiv 2205.14135, section 3.1).

import CKernels
import LinearAlgebra
import Synchronization

struct AttentionPass {
  let shape: TransformerShape
  let batch: PackedBatch
  /// For each thread, room for two blocks of scores.
  let scoreScratch: Floats
  let scoreStride: Int

  /// Queries in a block.
  static let block = 64

  /// Floats of score scratch that one thread needs for a batch.
  static func scoreCount(_ batch: PackedBatch) -> Int {
    2 * block * (batch.segments.map { $0.prefix + $0.count }.max() ?? 0)
  }

  private var scale: Float { 1 / Float(shape.headWidth).squareRoot() }

  /// qkv [rows × qkvWidth], rotated; out [rows × attentionWidth]; logSums [rows × heads].
  func forward(qkv: Floats, out: Floats, logSums: Floats) {
    forEachTask(batch.segments.count * shape.heads) { task, scratch in
      let segment = batch.segments[task / shape.heads]
      let head = task % shape.heads
      forEachBlock(segment) { first, count in
        let keys = segment.prefix + first + count
        scores(qkv, segment, head, first, count, scratch)
        for row in 0..<count {
          let seen = segment.prefix + first + row + 1
          let line = scratch + row * keys
          logSums[(segment.start + first + row) * shape.heads + head] =
            Elementwise.softmax(line, count: seen)
          (line + seen).update(repeating: 0, count: keys - seen)
        }
        let o = out + (segment.start + first) * shape.attentionWidth + head * shape.headWidth
        forEachKeyPart(segment, first + count) { part in
          BLAS.shared.productOnThisThread(
            m: count, n: shape.headWidth, k: part.count, a: scratch + part.column, lda: keys,
            b: value(qkv, head, part.row), ldb: shape.qkvWidth, beta: part.column == 0 ? 0 : 1,
            c: o, ldc: shape.attentionWidth)
        }
      }
    }
  }

  /// Given the forward pass's qkv, out and logSums and dOut [rows × attentionWidth]: dQKV
  /// [rows × qkvWidth]. `keyParts` and `valueParts` [rows × attentionWidth] hold each query head's
  /// share of dK and dV until they are summed over the heads that share a key head.
  func backward(
    qkv: Floats, out: Floats, logSums: Floats, dOut: Floats, dQKV: Floats, keyParts: Floats,
    valueParts: Floats
  ) {
    let width = shape.attentionWidth
    rows { range in
      (keyParts + range.lowerBound * width).update(repeating: 0, count: range.count * width)
      (valueParts + range.lowerBound * width).update(repeating: 0, count: range.count * width)
    }
    // Segments add to the prefix's keys and values: with a prefix, a head's segments go in turn.
    let together = batch.prefixCount > 0 ? batch.segments.count : 1
    forEachTask(batch.segments.count / together * shape.heads) { task, scratch in
      let head = task % shape.heads
      let start = task / shape.heads * together
      for segment in batch.segments[start..<start + together] {
        forEachBlock(segment) { first, count in
          backwardBlock(
            segment, head, first, count, scratch, qkv: qkv, out: out, logSums: logSums, dOut: dOut,
            dQKV: dQKV, keyParts: keyParts, valueParts: valueParts)
        }
      }
    }
    let shared = shape.heads / shape.kvHeads
    rows { range in
      for row in range {
        for kvHead in 0..<shape.kvHeads {
          let dK = dQKV + row * shape.qkvWidth + width + kvHead * shape.headWidth
          let dV = dK + shape.kvWidth
          for head in kvHead * shared..<(kvHead + 1) * shared {
            let place = row * width + head * shape.headWidth
            for i in 0..<shape.headWidth {
              dK[i] = (head == kvHead * shared ? 0 : dK[i]) + keyParts[place + i]
              dV[i] = (head == kvHead * shared ? 0 : dV[i]) + valueParts[place + i]
            }
          }
        }
      }
    }
  }

  private func backwardBlock(
    _ segment: PackedBatch.Segment, _ head: Int, _ first: Int, _ count: Int, _ scratch: Floats,
    qkv: Floats, out: Floats, logSums: Floats, dOut: Floats, dQKV: Floats, keyParts: Floats,
    valueParts: Floats
  ) {
    let width = shape.attentionWidth
    let keys = segment.prefix + first + count
    let probabilities = scratch
    let dScores = scratch + scoreStride / 2
    let place = (segment.start + first) * width + head * shape.headWidth
    scores(qkv, segment, head, first, count, probabilities)
    // dP = dO Vᵀ
    forEachKeyPart(segment, first + count) { part in
      BLAS.shared.productOnThisThread(
        m: count, n: part.count, k: shape.headWidth, a: dOut + place, lda: width,
        b: value(qkv, head, part.row), ldb: shape.qkvWidth, transposeB: true,
        c: dScores + part.column, ldc: keys)
    }
    // dS = P (dP - Σ P dP), where Σ P dP = O · dO.
    for row in 0..<count {
      let o = place + row * width
      training_softmax_backward(
        probabilities + row * keys, dScores + row * keys, segment.prefix + first + row + 1, keys,
        logSums[(segment.start + first + row) * shape.heads + head],
        Elementwise.dot(out + o, dOut + o, count: shape.headWidth))
    }
    let q = qkv + (segment.start + first) * shape.qkvWidth + head * shape.headWidth
    let dQ = dQKV + (segment.start + first) * shape.qkvWidth + head * shape.headWidth
    forEachKeyPart(segment, first + count) { part in
      // dQ = scale dS K; dK += scale dSᵀ Q; dV += Pᵀ dO.
      BLAS.shared.productOnThisThread(
        m: count, n: shape.headWidth, k: part.count, alpha: scale, a: dScores + part.column,
        lda: keys, b: key(qkv, head, part.row), ldb: shape.qkvWidth,
        beta: part.column == 0 ? 0 : 1, c: dQ, ldc: shape.qkvWidth)
      BLAS.shared.productOnThisThread(
        m: part.count, n: shape.headWidth, k: count, alpha: scale, a: dScores + part.column,
        lda: keys, transposeA: true, b: q, ldb: shape.qkvWidth, beta: 1,
        c: keyParts + part.row * width + head * shape.headWidth, ldc: width)
      BLAS.shared.productOnThisThread(
        m: part.count, n: shape.headWidth, k: count, a: probabilities + part.column, lda: keys,
        transposeA: true, b: dOut + place, ldb: width, beta: 1,
        c: valueParts + part.row * width + head * shape.headWidth, ldc: width)
    }
  }

  /// scratch [count × keys] = scale Q Kᵀ for the queries first ..< first + count of a segment.
  private func scores(
    _ qkv: Floats, _ segment: PackedBatch.Segment, _ head: Int, _ first: Int, _ count: Int,
    _ scratch: Floats
  ) {
    let keys = segment.prefix + first + count
    let q = qkv + (segment.start + first) * shape.qkvWidth + head * shape.headWidth
    forEachKeyPart(segment, first + count) { part in
      BLAS.shared.productOnThisThread(
        m: count, n: part.count, k: shape.headWidth, alpha: scale, a: q, lda: shape.qkvWidth,
        b: key(qkv, head, part.row), ldb: shape.qkvWidth, transposeB: true,
        c: scratch + part.column, ldc: keys)
    }
  }

  private struct KeyPart {
    var column: Int
    var row: Int
    var count: Int
  }

  /// The keys that a block sees: the prefix's rows, then the segment's first `own` rows.
  private func forEachKeyPart(
    _ segment: PackedBatch.Segment, _ own: Int, _ body: (KeyPart) -> Void
  ) {
    if segment.prefix > 0 { body(KeyPart(column: 0, row: 0, count: segment.prefix)) }
    body(KeyPart(column: segment.prefix, row: segment.start, count: own))
  }

  private func forEachBlock(_ segment: PackedBatch.Segment, _ body: (Int, Int) -> Void) {
    for first in stride(from: 0, to: segment.count, by: Self.block) {
      body(first, min(Self.block, segment.count - first))
    }
  }

  private func key(_ qkv: Floats, _ head: Int, _ row: Int) -> Floats {
    let kvHead = head / (shape.heads / shape.kvHeads)
    return qkv + row * shape.qkvWidth + shape.attentionWidth + kvHead * shape.headWidth
  }

  private func value(_ qkv: Floats, _ head: Int, _ row: Int) -> Floats {
    key(qkv, head, row) + shape.kvWidth
  }

  /// Runs tasks on all threads, each thread with score scratch of its own.
  private func forEachTask(_ count: Int, _ body: (Int, Floats) -> Void) {
    let next = Atomic<Int>(0)
    ThreadPool.shared.parallel(min(ThreadPool.shared.width, count)) { worker in
      while true {
        let task = next.add(1, ordering: .relaxed).oldValue
        if task >= count { return }
        body(task, scoreScratch + worker * scoreStride)
      }
    }
  }

  private func rows(_ body: (Range<Int>) -> Void) {
    ThreadPool.shared.parallelRanges(batch.rows, body)
  }
}
