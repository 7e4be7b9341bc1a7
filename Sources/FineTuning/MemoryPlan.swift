// What a fine-tuning will need in memory, computed before it starts.

import LinearAlgebra

/// Bytes that training needs and how it keeps within a limit: a batch is worked through in passes of
/// limited rows, whose gradients add up to those of the whole; where even one example is too long
/// for its layers' activations to be kept, they are computed again in the backward pass.
public struct MemoryPlan: Sendable, Equatable {
  /// Rows (tokens) in one pass at most, unless a single example has more.
  public let rowsPerPass: Int
  /// Whether the backward pass keeps every layer's activations or computes them again.
  public let keepsLayers: Bool
  /// The base model's weights.
  public let weightBytes: Int
  /// The adapter, its gradient, the optimiser's two moments and the best state so far.
  public let adapterBytes: Int
  /// Everything a pass works in.
  public let passBytes: Int
  /// The process itself: code, tokenizer, allocator.
  public static let processBytes = 96 << 20

  /// All of it, which a training's limit is compared with.
  public var totalBytes: Int {
    weightBytes + adapterBytes + passBytes + Self.processBytes
  }

  /// - Parameters:
  ///   - longest: tokens of the longest example, virtual tokens included.
  ///   - batchRows: tokens of the largest batch.
  /// - Throws: `TrainingError.memory` with the numbers where no plan stays below `limit`.
  init(
    weights: FrozenWeights, layout: AdapterLayout, drops: Bool, longest: Int, batchRows: Int,
    limit: Int
  ) throws {
    let shape = weights.shape
    let weightBytes = weights.byteCount + weights.packedByteCount
    let adapterBytes = (5 * layout.count + layout.normCount * shape.layers) * 4
    let products = layout.productWidth
    let stash = PassWorkspace.stashWidth(shape, productWidth: products)
    let scratch = PassWorkspace.scratchWidth(
      shape, productWidth: products, scaleWidth: layout.scaleWidth, drops: drops)
    let inputs = shape.width * (shape.layers + 1)
    let fixed =
      PassWorkspace.weightScratchCount(shape) + longest * shape.headWidth
      + 2 * AttentionPass.block * longest * ThreadPool.shared.width
      + PassWorkspace.logitRows(shape) * shape.vocabulary
    /// Hidden states and their gradients at loss positions are at most two widths a row.
    func bytes(rows: Int, keep: Bool) -> Int {
      4 * (fixed + rows * (inputs + scratch + 2 * shape.width + stash * (keep ? shape.layers : 1)))
    }
    let room = limit - weightBytes - adapterBytes - Self.processBytes
    let wanted = max(longest, min(batchRows, Self.enoughRows))
    for keep in [true, false] {
      let perRow = bytes(rows: 1, keep: keep) - bytes(rows: 0, keep: keep)
      let rows = min(wanted, (room - bytes(rows: 0, keep: keep)) / perRow)
      if rows >= longest {
        rowsPerPass = rows
        keepsLayers = keep
        self.weightBytes = weightBytes
        self.adapterBytes = adapterBytes
        passBytes = bytes(rows: rows, keep: keep)
        return
      }
    }
    throw TrainingError.memory(
      needed: weightBytes + adapterBytes + Self.processBytes + bytes(rows: longest, keep: false),
      limit: limit, longestExample: longest)
  }

  /// Matrix products gain nothing from more rows than this.
  static let enoughRows = 1024
}
