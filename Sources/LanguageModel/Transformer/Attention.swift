// Causal grouped-query attention of new rows to their sequences' caches.

import CKernels
import LinearAlgebra

/// Attention of a pass's rows: out = softmax(Q Kᵀ / sqrt(headWidth)) V for each head. Keys and values
/// of a layer are in the caches before it is computed, though not counted there yet.
final class Attention {
  private let configuration: LlamaConfiguration
  private let layout: KVLayout
  private let scratch: [Scratch]

  /// For chunks whose rows see at most `longest` positions, computed in so many `slots` at a time.
  init(_ configuration: LlamaConfiguration, layout: KVLayout, longest: Int, slots: Int) {
    self.configuration = configuration
    self.layout = layout
    let rows = RowChunk.height * configuration.heads / configuration.kvHeads
    scratch = (0..<slots).map { _ in Scratch(rows: rows, positions: longest) }
  }

  /// Computes the heads that share a key-value head for the rows of a chunk. Reads `queries` and
  /// writes `out`, both [rows of the pass × queryWidth]. Each slot is used by one thread at a time.
  func compute(
    _ chunk: RowChunk, kvHead: Int, layer: Int, queries: FloatBuffer, into out: FloatBuffer,
    slot: Int
  ) {
    let scratch = scratch[slot]
    let group = configuration.heads / configuration.kvHeads
    let headWidth = configuration.headWidth
    var index = 0
    for (offset, row) in chunk.rows.enumerated() {
      let start = row * configuration.queryWidth + kvHead * group * headWidth
      for head in 0..<group {
        scratch.queries[index] = UnsafePointer(queries.pointer + start + head * headWidth)
        scratch.outs[index] = out.pointer + start + head * headWidth
        scratch.visible[index] = chunk.position + offset + 1
        index += 1
      }
    }
    let keys = layout.keys(layer: layer, head: kvHead)
    let values = layout.values(layer: layer, head: kvHead)
    for block in 0...(chunk.position + chunk.rows.count - 1) / KVCache.blockLength {
      scratch.keys[block] = UnsafeRawPointer(chunk.blocks[block] + keys)
      scratch.values[block] = UnsafeRawPointer(chunk.blocks[block] + values)
    }
    ck_attend(
      Elementwise.level.rawValue, layout.format, index, scratch.queries, scratch.outs,
      scratch.visible, scratch.keys, scratch.values, headWidth,
      1 / Float(headWidth).squareRoot(), scratch.scores.pointer)
  }

  /// Puts the keys and values of a chunk's rows, both [rows of the pass × kvWidth], into its cache.
  func store(_ chunk: RowChunk, layer: Int, keys: FloatBuffer, values: FloatBuffer) {
    for (offset, row) in chunk.rows.enumerated() {
      let (number, inside) = (chunk.position + offset)
        .quotientAndRemainder(dividingBy: KVCache.blockLength)
      let block = chunk.blocks[number]
      for head in 0..<layout.kvHeads {
        let place = row * configuration.kvWidth + head * layout.headWidth
        ck_put_position(
          Elementwise.level.rawValue, layout.format, keys.pointer + place,
          values.pointer + place, layout.headWidth, inside,
          block + layout.keys(layer: layer, head: head),
          block + layout.values(layer: layer, head: head))
      }
    }
  }

  /// What one thread's kernel points at.
  private final class Scratch {
    let queries: UnsafeMutablePointer<UnsafePointer<Float>?>
    let outs: UnsafeMutablePointer<UnsafeMutablePointer<Float>?>
    let visible: UnsafeMutablePointer<Int>
    let keys: UnsafeMutablePointer<UnsafeRawPointer?>
    let values: UnsafeMutablePointer<UnsafeRawPointer?>
    let scores: FloatBuffer

    init(rows: Int, positions: Int) {
      let blocks = positions / KVCache.blockLength + 1
      queries = .allocate(capacity: rows)
      outs = .allocate(capacity: rows)
      visible = .allocate(capacity: rows)
      keys = .allocate(capacity: blocks)
      values = .allocate(capacity: blocks)
      scores = FloatBuffer(uninitialized: rows * ((positions + 15) / 16 * 16))
    }

    deinit {
      queries.deallocate()
      outs.deallocate()
      visible.deallocate()
      keys.deallocate()
      values.deallocate()
    }
  }
}
