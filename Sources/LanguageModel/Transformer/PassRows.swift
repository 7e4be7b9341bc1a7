// The rows of a pass, and how threads share them out.

import LinearAlgebra

/// A run of rows of one sequence within a pass.
struct Segment {
  let tokens: ArraySlice<Int32>
  let cache: KVCache
  let adapter: Adapter?
  /// The first row within the pass.
  let row: Int
  /// The first row's position in the sequence.
  let position: Int
  /// Those of its rows, counted from its first, whose last hidden states are wanted.
  let wanted: Range<Int>
  var count: Int { tokens.count }
}

/// Neighbouring rows of one sequence that one task works on. It holds no references, so that threads
/// do not wait for each other over counting them; ``PassRows`` keeps what it points at.
struct RowChunk {
  /// Rows of a chunk at most: enough for attention to use what it reads several times.
  static let height = 16

  /// Within the pass.
  let rows: Range<Int>
  /// The first row's position in its sequence.
  let position: Int
  /// The sequence's key-value blocks.
  let blocks: UnsafePointer<UnsafeMutableRawPointer>
  /// The sequence's adapter.
  let changes: ChangeTable.View?
}

/// The rows of a pass, or those of them that its last layer goes on with.
final class PassRows {
  let segments: [Segment]
  let count: Int
  let chunks: ContiguousArray<RowChunk>
  /// Whether each sequence has one chunk, which no other chunk's keys and values matter to.
  let areIndependent: Bool
  let hasAdapters: Bool
  /// The projections that some adapter scales the input of.
  let scaledInputs: Set<Projection>
  /// Rows times the positions they see, about.
  let attentionWork: Int
  /// The most positions that a row sees.
  let longest: Int
  private let blockTable: UnsafeMutablePointer<UnsafeMutableRawPointer>

  /// The segments' caches have room for their rows already.
  init(_ segments: [Segment]) {
    self.segments = segments
    let capacity = segments.reduce(0) { $0 + $1.cache.blocks.count }
    blockTable = .allocate(capacity: max(capacity, 1))
    var nextBlock = blockTable
    var chunks: ContiguousArray<RowChunk> = []
    for segment in segments {
      let first = nextBlock
      for block in segment.cache.blocks {
        nextBlock.initialize(to: UnsafeMutableRawPointer(block.pointer))
        nextBlock += 1
      }
      for start in stride(from: 0, to: segment.count, by: RowChunk.height) {
        let end = min(start + RowChunk.height, segment.count)
        chunks.append(
          RowChunk(
            rows: segment.row + start..<segment.row + end, position: segment.position + start,
            blocks: UnsafePointer(first), changes: segment.adapter?.changeTable.view))
      }
    }
    self.chunks = chunks
    count = segments.reduce(0) { $0 + $1.count }
    areIndependent = chunks.count == segments.count
    hasAdapters = segments.contains { $0.adapter != nil }
    scaledInputs = segments.reduce(into: []) { found, segment in
      if let adapter = segment.adapter { found.formUnion(adapter.changeTable.scaledInputs) }
    }
    attentionWork = segments.reduce(0) { $0 + $1.count * ($1.position + $1.count) }
    longest = segments.reduce(0) { max($0, $1.position + $1.count) }
  }

  deinit { blockTable.deallocate() }

  /// The number of wanted rows.
  var wantedCount: Int { segments.reduce(0) { $0 + $1.wanted.count } }

  /// The wanted rows alone, one after the other from row 0 on.
  func wanted() -> PassRows {
    var row = 0
    return PassRows(
      segments.filter { !$0.wanted.isEmpty }.map { segment in
        defer { row += segment.wanted.count }
        let start = segment.tokens.startIndex
        return Segment(
          tokens: segment.tokens[
            start + segment.wanted.lowerBound..<start + segment.wanted.upperBound],
          cache: segment.cache, adapter: segment.adapter, row: row,
          position: segment.position + segment.wanted.lowerBound, wanted: 0..<segment.wanted.count)
      })
  }

  /// Moves the wanted rows of X to where ``wanted()`` has them. They only move up.
  func moveWanted(_ x: FloatBuffer, width: Int) {
    var row = 0
    for segment in segments {
      for offset in segment.wanted {
        if row != segment.row + offset {
          (x.pointer + row * width)
            .update(from: x.pointer + (segment.row + offset) * width, count: width)
        }
        row += 1
      }
    }
  }
}
