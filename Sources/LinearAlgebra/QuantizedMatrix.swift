// Matrices whose weights stay in ggml's quantised blocks.

import CKernels

/// ggml's tensor types that can be read here. Raw values are the numbers in GGUF files; the names are
/// ggml's own.
public enum WeightType: Int32, Sendable, CaseIterable {
  case f32 = 0
  case f16 = 1
  // swift-format-ignore: AlwaysUseLowerCamelCase
  case q4_0 = 2
  // swift-format-ignore: AlwaysUseLowerCamelCase
  case q4_1 = 3
  // swift-format-ignore: AlwaysUseLowerCamelCase
  case q5_0 = 6
  // swift-format-ignore: AlwaysUseLowerCamelCase
  case q5_1 = 7
  // swift-format-ignore: AlwaysUseLowerCamelCase
  case q8_0 = 8
  // swift-format-ignore: AlwaysUseLowerCamelCase
  case q4_K = 12
  // swift-format-ignore: AlwaysUseLowerCamelCase
  case q5_K = 13
  // swift-format-ignore: AlwaysUseLowerCamelCase
  case q6_K = 14
  case bf16 = 30

  /// Weights in a block; a row holds whole blocks.
  public var blockLength: Int {
    switch self {
    case .f32, .f16, .bf16: 1
    case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0: 32
    case .q4_K, .q5_K, .q6_K: 256
    }
  }

  /// Bytes of a block.
  public var blockBytes: Int {
    switch self {
    case .f32: 4
    case .f16, .bf16: 2
    case .q4_0: 18
    case .q4_1: 20
    case .q5_0: 22
    case .q5_1: 24
    case .q8_0: 34
    case .q4_K: 144
    case .q5_K: 176
    case .q6_K: 210
    }
  }

  /// The name as ggml's tools print it.
  public var name: String {
    switch self {
    case .f32: "F32"
    case .f16: "F16"
    case .q4_0: "Q4_0"
    case .q4_1: "Q4_1"
    case .q5_0: "Q5_0"
    case .q5_1: "Q5_1"
    case .q8_0: "Q8_0"
    case .q4_K: "Q4_K"
    case .q5_K: "Q5_K"
    case .q6_K: "Q6_K"
    case .bf16: "BF16"
    }
  }
}

/// A `rows` × `columns` matrix, row-major, in blocks of ``type``. The bytes belong to `owner`.
///
/// Unchecked: the bytes are only read, and `owner` keeps them alive and unchanged.
public struct QuantizedMatrix: @unchecked Sendable {
  public let type: WeightType
  public let rows: Int
  public let columns: Int
  /// Bytes from one row to the next.
  public let rowBytes: Int
  private let bytes: UnsafeRawPointer
  private let owner: AnyObject

  /// Traps unless `columns` is a multiple of the block length and `bytes` holds the whole matrix:
  /// whoever reads a file checks this before.
  public init(
    type: WeightType, rows: Int, columns: Int, bytes: UnsafeRawBufferPointer, owner: AnyObject
  ) {
    precondition(rows > 0 && columns > 0 && columns % type.blockLength == 0)
    rowBytes = columns / type.blockLength * type.blockBytes
    precondition(bytes.count >= rows * rowBytes)
    guard let base = bytes.baseAddress else { preconditionFailure("A matrix without bytes") }
    self.type = type
    self.rows = rows
    self.columns = columns
    self.bytes = base
    self.owner = owner
  }

  /// The size of the weights in memory.
  public var byteCount: Int { rows * rowBytes }

  /// The bytes from a row on.
  func bytes(fromRow row: Int) -> UnsafeRawPointer {
    precondition(row >= 0 && row < rows)
    return bytes + row * rowBytes
  }

  /// Expands some rows to f32 at `out` (range.count × columns), on the calling thread.
  public func expand(
    rows range: Range<Int>, into out: UnsafeMutablePointer<Float>,
    level: Elementwise.Level = Elementwise.level
  ) {
    precondition(range.lowerBound >= 0 && range.upperBound <= rows)
    ck_expand(
      level.rawValue, type.rawValue, bytes + range.lowerBound * rowBytes, out,
      range.count * columns)
  }

  /// Expands the whole matrix to f32 at `out` (rows × columns), on all of the pool's threads.
  public func expand(into out: UnsafeMutablePointer<Float>, pool: ThreadPool = .shared) {
    pool.parallelRanges(rows) { range in
      expand(rows: range, into: out + range.lowerBound * columns)
    }
  }

  /// y[c · yStride + r] = row r · x[c · xStride ...] for the rows in `range` and `count` vectors, on
  /// the calling thread, straight from the blocks. `y` points at column 0 of row 0.
  public func multiply(
    _ x: UnsafePointer<Float>, xStride: Int, count: Int, into y: UnsafeMutablePointer<Float>,
    yStride: Int, rows range: Range<Int>, level: Elementwise.Level = Elementwise.level
  ) {
    precondition(range.lowerBound >= 0 && range.upperBound <= rows)
    ck_rows_times(
      level.rawValue, type.rawValue, bytes + range.lowerBound * rowBytes, rowBytes, range.count,
      columns, x, xStride, count, y + range.lowerBound, yStride)
  }

  /// Y = X Wᵀ for `count` rows of X [count × columns], Y [count × rows], both dense, straight from
  /// the blocks, on all of the pool's threads. Meant for few rows of X.
  public func multiply(
    _ x: UnsafePointer<Float>, count: Int = 1, into y: UnsafeMutablePointer<Float>,
    pool: ThreadPool = .shared
  ) {
    pool.parallelRanges(rows, multiple: 4) { range in
      multiply(x, xStride: columns, count: count, into: y, yStride: rows, rows: range)
    }
  }

  /// A copy of the matrix in memory of its own, whose row `i` is this one's row `order[i]`.
  public func reordered(_ order: [Int]) -> QuantizedMatrix {
    precondition(order.count == rows && order.allSatisfy { $0 >= 0 && $0 < rows })
    let copy = ByteBuffer(count: byteCount)
    for (row, source) in order.enumerated() {
      (copy.pointer + row * rowBytes).copyMemory(
        from: bytes + source * rowBytes, byteCount: rowBytes)
    }
    return QuantizedMatrix(
      type: type, rows: rows, columns: columns,
      bytes: UnsafeRawBufferPointer(start: copy.pointer, count: copy.count), owner: copy)
  }
}

/// Owned bytes at a 64-byte boundary.
final class ByteBuffer {
  let count: Int
  let pointer: UnsafeMutableRawPointer

  init(count: Int) {
    self.count = count
    pointer = .allocate(byteCount: max(count, 1), alignment: 64)
  }

  deinit { pointer.deallocate() }
}
