// Causal grouped-query attention of new rows to their sequences' caches.

import CKernels
import LinearAlgebra

/// Attention in one layer: out = softmax(Q Kᵀ / sqrt(headWidth)) V for each head.
enum Attention {
  /// Query rows of a task, each with all heads that share a key-value head.
  private static let taskRows = 16

  /// Some query rows of a segment with one key-value head.
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
    var work = 0
    var longest = 0
    for (index, segment) in segments.enumerated() {
      longest = max(longest, segment.position + segment.count)
      work += segment.count * (segment.position + segment.count)
      for start in stride(from: 0, to: segment.count, by: taskRows) {
        for head in 0..<configuration.kvHeads {
          tasks.append(
            Task(
              segment: index, kvHead: head, rows: start..<min(start + taskRows, segment.count)))
        }
      }
    }
    // Later rows see more positions: begin with the longest tasks.
    tasks.reverse()
    let group = configuration.heads / configuration.kvHeads
    let height = min(taskRows, segments.map(\.count).max() ?? 0) * group
    let scoreCount = height * ((longest + 15) / 16 * 16)
    let run = { (scratch: Scratch, number: Int) in
      let task = tasks[number]
      let segment = segments[task.segment]
      scratch.point(
        at: task.rows, of: segment, kvHead: task.kvHead, layer: layer,
        configuration: configuration, queries: queries, out: out)
      ck_attend(
        Elementwise.level.rawValue, task.rows.count * group, scratch.queries, scratch.outs,
        scratch.visible, scratch.keys, scratch.values, configuration.headWidth,
        1 / Float(configuration.headWidth).squareRoot(), scratch.scores.pointer)
    }
    // A decoding step over a short sequence is done before another thread has woken up.
    if work < 64 {
      let scratch = Scratch(rows: height, scores: scoreCount, positions: longest)
      for number in tasks.indices { run(scratch, number) }
      return
    }
    let slots = (0..<min(pool.width, tasks.count)).map { _ in
      Scratch(rows: height, scores: scoreCount, positions: longest)
    }
    pool.parallelSlots(tasks.count) { slot, number in run(slots[slot], number) }
  }

  /// What one thread's task points at.
  private final class Scratch {
    let queries: UnsafeMutablePointer<UnsafePointer<Float>?>
    let outs: UnsafeMutablePointer<UnsafeMutablePointer<Float>?>
    let visible: UnsafeMutablePointer<Int>
    let keys: UnsafeMutablePointer<UnsafePointer<Float>?>
    let values: UnsafeMutablePointer<UnsafePointer<Float>?>
    let scores: FloatBuffer

    init(rows: Int, scores: Int, positions: Int) {
      let blocks = positions / KVCache.blockLength + 1
      queries = .allocate(capacity: rows)
      outs = .allocate(capacity: rows)
      visible = .allocate(capacity: rows)
      keys = .allocate(capacity: blocks)
      values = .allocate(capacity: blocks)
      self.scores = FloatBuffer(uninitialized: scores)
    }

    deinit {
      queries.deallocate()
      outs.deallocate()
      visible.deallocate()
      keys.deallocate()
      values.deallocate()
    }

    func point(
      at rows: Range<Int>, of segment: Segment, kvHead: Int, layer: Int,
      configuration: LlamaConfiguration, queries from: UnsafePointer<Float>,
      out: UnsafeMutablePointer<Float>
    ) {
      let group = configuration.heads / configuration.kvHeads
      var index = 0
      for row in rows {
        for head in kvHead * group..<(kvHead + 1) * group {
          let place =
            (segment.row + row) * configuration.queryWidth + head * configuration.headWidth
          queries[index] = from + place
          outs[index] = out + place
          visible[index] = segment.position + row + 1
          index += 1
        }
      }
      let length = segment.position + rows.upperBound
      for block in 0...(length - 1) / KVCache.blockLength {
        keys[block] = UnsafePointer(segment.cache.keys(layer: layer, block: block, head: kvHead))
        values[block] = UnsafePointer(
          segment.cache.values(layer: layer, block: block, head: kvHead))
      }
    }
  }
}
