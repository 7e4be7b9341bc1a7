// The keys and values of a sequence's positions, which later positions attend to.

import CKernels
import LinearAlgebra

/// One sequence's keys and values, in blocks of ``blockLength`` positions, so that growing copies
/// nothing. A fork shares its origin's blocks until either writes to one. Used by one call at a time.
public final class KVCache {
  static let blockLength = Int(CK_KV_BLOCK)

  let layers: Int
  let kvHeads: Int
  let headWidth: Int
  /// The number of positions held.
  public private(set) var count = 0
  private var blocks: [FloatBuffer] = []
  /// How many of the first positions are an adapter's virtual tokens.
  var virtualTokens = 0

  /// An empty cache for a model of this shape.
  public init(for configuration: LlamaConfiguration) {
    layers = configuration.layers
    kvHeads = configuration.kvHeads
    headWidth = configuration.headWidth
  }

  /// A cache that begins with whole blocks of another.
  init(for configuration: LlamaConfiguration, blocks: [FloatBuffer], virtualTokens: Int) {
    layers = configuration.layers
    kvHeads = configuration.kvHeads
    headWidth = configuration.headWidth
    count = blocks.count * Self.blockLength
    self.blocks = blocks
    self.virtualTokens = blocks.isEmpty ? 0 : virtualTokens
  }

  /// The blocks that the first `positions` positions fill.
  func wholeBlocks(of positions: Int) -> [FloatBuffer] {
    Array(blocks.prefix(positions / Self.blockLength))
  }

  private init(forking other: KVCache) {
    layers = other.layers
    kvHeads = other.kvHeads
    headWidth = other.headWidth
    count = other.count
    virtualTokens = other.virtualTokens
    blocks = other.blocks
  }

  /// A cache that goes on from here on its own.
  public func fork() -> KVCache { KVCache(forking: self) }

  /// Forgets the positions from `count` on; virtual tokens all or none.
  public func truncate(to count: Int) {
    self.count = min(max(count, 0), self.count)
    if self.count < virtualTokens { (self.count, virtualTokens) = (0, 0) }
    blocks.removeLast(blocks.count - Self.blocks(for: self.count))
  }

  /// The memory of the blocks, shared ones included.
  public var byteCount: Int { blocks.count * blockFloats * 4 }

  /// The memory that a sequence of that many positions takes.
  public static func byteCount(positions: Int, configuration: LlamaConfiguration) -> Int {
    blocks(for: positions) * configuration.layers * 2 * blockLength * configuration.kvWidth * 4
  }

  private static func blocks(for positions: Int) -> Int {
    (positions + blockLength - 1) / blockLength
  }

  private var blockFloats: Int { layers * 2 * kvHeads * headFloats }
  /// The keys or the values of one head in a block.
  private var headFloats: Int { Self.blockLength * headWidth }

  /// Makes room for the next `positions` positions, and copies a shared block they begin in.
  func prepare(toAppend positions: Int) {
    if count % Self.blockLength != 0, !isKnownUniquelyReferenced(&blocks[blocks.count - 1]) {
      let copy = FloatBuffer(uninitialized: blockFloats)
      copy.pointer.update(from: blocks[blocks.count - 1].pointer, count: blockFloats)
      blocks[blocks.count - 1] = copy
    }
    while blocks.count < Self.blocks(for: count + positions) {
      blocks.append(FloatBuffer(uninitialized: blockFloats))
    }
  }

  /// Counts positions that every layer has written.
  func advance(by positions: Int) { count += positions }

  /// One head's keys in a block of a layer: strips of 16 positions, [headWidth × 16] each.
  func keys(layer: Int, block: Int, head: Int) -> UnsafeMutablePointer<Float> {
    blocks[block].pointer + (layer * 2 * kvHeads + head) * headFloats
  }

  /// One head's values in a block of a layer, [position × headWidth].
  func values(layer: Int, block: Int, head: Int) -> UnsafeMutablePointer<Float> {
    blocks[block].pointer + ((layer * 2 + 1) * kvHeads + head) * headFloats
  }

  /// Puts a position's keys and values of a layer, [kvHeads × headWidth] each, in their places.
  func store(
    keys: UnsafePointer<Float>, values: UnsafePointer<Float>, layer: Int, position: Int
  ) {
    let (block, inside) = position.quotientAndRemainder(dividingBy: Self.blockLength)
    let strip = Int(CK_KV_STRIP)
    for head in 0..<kvHeads {
      let target =
        self.keys(layer: layer, block: block, head: head) + inside / strip * strip * headWidth
        + inside % strip
      let source = keys + head * headWidth
      for i in 0..<headWidth { target[i * strip] = source[i] }
      (self.values(layer: layer, block: block, head: head) + inside * headWidth)
        .update(from: values + head * headWidth, count: headWidth)
    }
  }
}
