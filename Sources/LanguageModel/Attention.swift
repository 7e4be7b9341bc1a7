// Causal grouped-query attention of new rows to a sequence's cache.

import Foundation
import LinearAlgebra

/// Attention in one layer: out = softmax(Q Kᵀ / sqrt(headWidth)) V for each head.
enum Attention {
  /// Query rows that share one product with the keys.
  private static let queryBlock = 64

  /// A task: some query rows of one key-value head's group.
  private struct Task {
    let segment: Int
    let kvHead: Int
    let rows: Range<Int>
  }

  /// Reads the queries [rows × queryWidth] and writes the heads' outputs in the same shape. The
  /// segments' keys and values of this layer are in their caches already, uncounted.
  static func compute(
    layer: Int, segments: [Segment], configuration: LlamaConfiguration,
    queries: UnsafePointer<Float>, into out: UnsafeMutablePointer<Float>, pool: ThreadPool
  ) {
    var tasks: [Task] = []
    var longest = 0
    for (index, segment) in segments.enumerated() {
      longest = max(longest, segment.position + segment.count)
      for start in stride(from: 0, to: segment.count, by: queryBlock) {
        for head in 0..<configuration.kvHeads {
          tasks.append(
            Task(
              segment: index, kvHead: head,
              rows: start..<min(start + queryBlock, segment.count)))
        }
      }
    }
    // Later blocks see more positions: begin with the longest tasks.
    tasks.reverse()
    let height = min(queryBlock, segments.map(\.count).max() ?? 0)
    let scratch = FloatBuffer(uninitialized: height * longest * min(pool.width, tasks.count))
    let run = { (slot: Int, number: Int) in
      let task = tasks[number]
      let segment = segments[task.segment]
      let scores = scratch.pointer + slot * height * longest
      let group = configuration.heads / configuration.kvHeads
      for head in task.kvHead * group..<(task.kvHead + 1) * group {
        if segment.count == 1 {
          one(layer, segment, head, task.kvHead, configuration, queries, out, scores)
        } else {
          block(layer, segment, head, task, configuration, queries, out, scores)
        }
      }
    }
    // A decoding step over a short sequence is done before another thread has woken up.
    if segments.reduce(0, { $0 + $1.count * ($1.position + $1.count) }) < 64 {
      for number in tasks.indices { run(0, number) }
    } else {
      pool.parallelSlots(tasks.count, run)
    }
  }

  private static func one(
    _ layer: Int, _ segment: Segment, _ head: Int, _ kvHead: Int,
    _ configuration: LlamaConfiguration, _ queries: UnsafePointer<Float>,
    _ out: UnsafeMutablePointer<Float>, _ scores: UnsafeMutablePointer<Float>
  ) {
    let width = configuration.headWidth
    let offset = segment.row * configuration.queryWidth + head * width
    let length = segment.position + 1
    forEachBlock(length) { block, start, count in
      Elementwise.dotRows(
        queries + offset, with: segment.cache.keys(layer: layer, block: block) + kvHead * width,
        stride: configuration.kvWidth, rows: count, width: width, into: scores + start)
    }
    let scale = 1 / Float(width).squareRoot()
    for position in 0..<length { scores[position] *= scale }
    Elementwise.softmax(scores, count: length)
    (out + offset).update(repeating: 0, count: width)
    forEachBlock(length) { block, start, count in
      Elementwise.addWeightedRows(
        scores + start, of: segment.cache.values(layer: layer, block: block) + kvHead * width,
        stride: configuration.kvWidth, rows: count, width: width, to: out + offset)
    }
  }

  private static func block(
    _ layer: Int, _ segment: Segment, _ head: Int, _ task: Task,
    _ configuration: LlamaConfiguration, _ queries: UnsafePointer<Float>,
    _ out: UnsafeMutablePointer<Float>, _ scores: UnsafeMutablePointer<Float>
  ) {
    let width = configuration.headWidth
    let offset =
      (segment.row + task.rows.lowerBound) * configuration.queryWidth + head * width
    let rows = task.rows.count
    let length = segment.position + task.rows.upperBound
    forEachBlock(length) { block, start, count in
      BLAS.shared.productOnThisThread(
        m: rows, n: count, k: width, alpha: 1 / Float(width).squareRoot(), a: queries + offset,
        lda: configuration.queryWidth,
        b: segment.cache.keys(layer: layer, block: block) + task.kvHead * width,
        ldb: configuration.kvWidth, transposeB: true, c: scores + start, ldc: length)
    }
    for row in 0..<rows {
      let visible = segment.position + task.rows.lowerBound + row + 1
      let line = scores + row * length
      Elementwise.softmax(line, count: visible)
      (line + visible).update(repeating: 0, count: length - visible)
    }
    forEachBlock(length) { block, start, count in
      BLAS.shared.productOnThisThread(
        m: rows, n: width, k: count, a: scores + start, lda: length,
        b: segment.cache.values(layer: layer, block: block) + task.kvHead * width,
        ldb: configuration.kvWidth, beta: start == 0 ? 0 : 1, c: out + offset,
        ldc: configuration.queryWidth)
    }
  }

  private static func forEachBlock(
    _ length: Int, _ body: (_ block: Int, _ start: Int, _ count: Int) -> Void
  ) {
    for start in stride(from: 0, to: length, by: KVCache.blockLength) {
      body(start / KVCache.blockLength, start, min(KVCache.blockLength, length - start))
    }
  }
}
