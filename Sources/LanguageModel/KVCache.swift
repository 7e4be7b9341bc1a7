// The keys and values of a sequence's positions, which later positions attend to.

import LinearAlgebra

/// One sequence's keys and values, in blocks of ``blockLength`` positions, so that growing copies
/// nothing. A fork shares its origin's blocks until either writes to one. Used by one call at a time.
public final class KVCache {
  static let blockLength = 128

  let layers: Int
  let kvWidth: Int
  /// The number of positions held.
  public private(set) var count = 0
  private var blocks: [FloatBuffer] = []
  /// How many of the first positions are an adapter's virtual tokens.
  var virtualTokens = 0

  /// An empty cache for a model of this shape.
  public init(for configuration: LlamaConfiguration) {
    layers = configuration.layers
    kvWidth = configuration.kvWidth
  }

  private init(forking other: KVCache) {
    layers = other.layers
    kvWidth = other.kvWidth
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

  private var blockFloats: Int { layers * 2 * Self.blockLength * kvWidth }

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

  /// The keys of a block's first position in a layer; positions are kvWidth apart.
  func keys(layer: Int, block: Int) -> UnsafeMutablePointer<Float> {
    blocks[block].pointer + layer * 2 * Self.blockLength * kvWidth
  }

  /// The values, like ``keys(layer:block:)``.
  func values(layer: Int, block: Int) -> UnsafeMutablePointer<Float> {
    blocks[block].pointer + (layer * 2 + 1) * Self.blockLength * kvWidth
  }

  /// Where a position's keys and values lie in a layer.
  func place(layer: Int, position: Int) -> (
    keys: UnsafeMutablePointer<Float>, values: UnsafeMutablePointer<Float>
  ) {
    let (block, inside) = position.quotientAndRemainder(dividingBy: Self.blockLength)
    return (
      keys(layer: layer, block: block) + inside * kvWidth,
      values(layer: layer, block: block) + inside * kvWidth
    )
  }
}
