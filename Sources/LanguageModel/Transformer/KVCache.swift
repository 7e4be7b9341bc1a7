// The keys and values of a sequence's positions, which later positions attend to.

import CKernels
import LinearAlgebra

/// How the keys and values of ``KVCache/blockLength`` positions lie in a block: by layer all heads'
/// keys, then all heads' values.
struct KVLayout: Equatable, Sendable {
  let layers: Int
  let kvHeads: Int
  let headWidth: Int
  /// Halves where products round their input more coarsely anyway, else f32.
  let isHalf: Bool

  init(_ configuration: LlamaConfiguration, precision: ProductPrecision) {
    layers = configuration.layers
    kvHeads = configuration.kvHeads
    headWidth = configuration.headWidth
    isHalf = precision == .int8
  }

  /// The kernels' number for the format.
  var format: Int32 { (isHalf ? WeightType.f16 : .f32).rawValue }
  var blockBytes: Int { layers * 2 * kvHeads * headBytes }
  /// The keys or the values of one head.
  private var headBytes: Int { KVCache.blockLength * headWidth * (isHalf ? 2 : 4) }

  /// Where one head's keys lie: strips of 16 positions, [headWidth × 16] each.
  func keys(layer: Int, head: Int) -> Int { (layer * 2 * kvHeads + head) * headBytes }

  /// Where one head's values lie, [position × headWidth].
  func values(layer: Int, head: Int) -> Int { ((layer * 2 + 1) * kvHeads + head) * headBytes }
}

/// One sequence's keys and values, in blocks of ``blockLength`` positions, so that growing copies
/// nothing. A fork shares its origin's blocks until either writes to one. Used by one call at a time.
public final class KVCache {
  static let blockLength = Int(CK_KV_BLOCK)

  let layout: KVLayout
  /// The number of positions held.
  public private(set) var count = 0
  private(set) var blocks: [FloatBuffer] = []
  /// How many of the first positions are an adapter's virtual tokens.
  var virtualTokens = 0

  /// An empty cache for a model.
  public init(for model: LlamaModel) {
    layout = KVLayout(model.configuration, precision: model.precision)
  }

  /// A cache that begins with whole blocks of another.
  init(for model: LlamaModel, blocks: [FloatBuffer], virtualTokens: Int) {
    layout = KVLayout(model.configuration, precision: model.precision)
    count = blocks.count * Self.blockLength
    self.blocks = blocks
    self.virtualTokens = blocks.isEmpty ? 0 : virtualTokens
  }

  /// The blocks that the first `positions` positions fill.
  func wholeBlocks(of positions: Int) -> [FloatBuffer] {
    Array(blocks.prefix(positions / Self.blockLength))
  }

  private init(forking other: KVCache) {
    layout = other.layout
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
  public var byteCount: Int { blocks.count * layout.blockBytes }

  /// The memory that a sequence of that many positions takes.
  public static func byteCount(
    positions: Int, configuration: LlamaConfiguration, precision: ProductPrecision
  ) -> Int {
    blocks(for: positions) * KVLayout(configuration, precision: precision).blockBytes
  }

  private static func blocks(for positions: Int) -> Int {
    (positions + blockLength - 1) / blockLength
  }

  /// Makes room for the next `positions` positions, and copies a shared block they begin in.
  func prepare(toAppend positions: Int) {
    let floats = layout.blockBytes / 4
    if count % Self.blockLength != 0, !isKnownUniquelyReferenced(&blocks[blocks.count - 1]) {
      let copy = FloatBuffer(uninitialized: floats)
      copy.pointer.update(from: blocks[blocks.count - 1].pointer, count: floats)
      blocks[blocks.count - 1] = copy
    }
    while blocks.count < Self.blocks(for: count + positions) {
      blocks.append(FloatBuffer(uninitialized: floats))
    }
  }

  /// Counts positions that every layer has written.
  func advance(by positions: Int) { count += positions }
}
