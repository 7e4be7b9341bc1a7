// Weight matrices repacked for products with 8-bit activations.

import CKernels

/// The instructions that products with 8-bit activations use. Every level gives the same bits.
public enum Int8Level: Int32, Sendable, CaseIterable {
  case scalar = 0
  case avx2 = 1
  /// AVX-512 with VNNI.
  case vnni = 2
  /// ARM64 with the dot product instructions.
  case armDot = 3

  /// The best level of this processor.
  public static let best = Int8Level(rawValue: ck_int8_level()) ?? .scalar
}

/// Rows of activations as 8-bit codes: x ≈ code · scale, one scale for each 32 columns.
public struct QuantizedRows {
  public let count: Int
  public let columns: Int
  fileprivate let codes: ByteBuffer
  fileprivate let factors: FloatBuffer

  /// Quantises `count` dense rows [count × columns]; `columns` is a multiple of 32.
  public init(
    _ x: UnsafePointer<Float>, count: Int, columns: Int, pool: ThreadPool = .shared,
    level: Int8Level = .best
  ) {
    precondition(columns % 32 == 0)
    let codes = ByteBuffer(count: count * columns)
    let width = ck_activation_factors(columns)
    let factors = FloatBuffer(uninitialized: count * width)
    let quantize = { (rows: Range<Int>) in
      for row in rows {
        ck_quantize_row(
          level.rawValue, x + row * columns, columns,
          codes.pointer.assumingMemoryBound(to: Int8.self) + row * columns,
          factors.pointer + row * width)
      }
    }
    // A few microseconds of work are done before another thread joins in.
    if count * columns < 16_384 {
      quantize(0..<count)
    } else {
      pool.parallelRanges(count, quantize)
    }
    self.count = count
    self.columns = columns
    self.codes = codes
    self.factors = factors
  }
}

/// A `rows` × `columns` matrix in panels of 16 rows (CKernels' panels.h), in memory of its own and
/// about as large as its blocks were.
///
/// Unchecked: the panels are written in `init` and only read afterwards.
public struct PackedMatrix: @unchecked Sendable {
  public let type: WeightType
  public let rows: Int
  public let columns: Int
  private let panelBytes: Int
  private let memory: ByteBuffer

  /// Rows in a panel.
  public static let panelRows = Int(CK_PANEL_ROWS)

  /// nil for types without blocks, whose products are computed in f32.
  public init?(_ matrix: QuantizedMatrix, pool: ThreadPool = .shared) {
    let panelBytes = ck_panel_bytes(matrix.type.rawValue, matrix.columns)
    guard panelBytes > 0 else { return nil }
    type = matrix.type
    rows = matrix.rows
    columns = matrix.columns
    self.panelBytes = panelBytes
    let height = Self.panelRows
    let panels = (matrix.rows + height - 1) / height
    let memory = ByteBuffer(count: panels * panelBytes)
    self.memory = memory
    pool.parallelRanges(panels) { range in
      for panel in range {
        let first = panel * height
        ck_pack_panel(
          matrix.type.rawValue, matrix.bytes(fromRow: first), matrix.rowBytes,
          min(height, matrix.rows - first), matrix.columns, memory.pointer + panel * panelBytes)
      }
    }
  }

  /// An f32 matrix rounded to 8 bits, a scale for each 32 columns of a row. Element (r, c) is
  /// source[r · rowStride + c · columnStride]. nil unless `columns` is a multiple of 32.
  public init?(
    rounding source: UnsafePointer<Float>, rows: Int, columns: Int, rowStride: Int,
    columnStride: Int, pool: ThreadPool = .shared
  ) {
    guard rows > 0, columns > 0, columns % 32 == 0 else { return nil }
    type = .q8_0
    self.rows = rows
    self.columns = columns
    let panelBytes = ck_panel_bytes(WeightType.q8_0.rawValue, columns)
    self.panelBytes = panelBytes
    let panels = (rows + Self.panelRows - 1) / Self.panelRows
    let memory = ByteBuffer(count: panels * panelBytes)
    self.memory = memory
    pool.parallelRanges(panels) { range in
      for panel in range {
        let first = panel * Self.panelRows
        ck_pack_floats(
          source + first * rowStride, rowStride, columnStride, min(Self.panelRows, rows - first),
          columns, memory.pointer + panel * panelBytes)
      }
    }
  }

  /// The number of panels.
  public var panels: Int { memory.count / panelBytes }

  /// The size of the panels in memory.
  public var byteCount: Int { memory.count }

  /// y[c · yStride + r] = row r · x[c] for all rows, on all of the pool's threads.
  public func multiply(
    _ x: QuantizedRows, into y: UnsafeMutablePointer<Float>, yStride: Int,
    pool: ThreadPool = .shared
  ) {
    let step = 2
    pool.parallel((panels + step - 1) / step) { task in
      multiply(
        x, into: y, yStride: yStride,
        panels: task * step..<min((task + 1) * step, panels))
    }
  }

  /// y[c · yStride + r] = row r · x[c] for the rows of some panels and all rows c of `x`, on the
  /// calling thread. `y` points at row 0 of the matrix.
  public func multiply(
    _ x: QuantizedRows, into y: UnsafeMutablePointer<Float>, yStride: Int, panels range: Range<Int>,
    level: Int8Level = .best
  ) {
    precondition(x.columns == columns && range.lowerBound >= 0 && range.upperBound <= panels)
    let width = ck_activation_factors(columns)
    // So many activations at a time that they stay in the second-level cache over the panels.
    let most = max((1 << 18) / (columns + 4 * width) / 8 * 8, 8)
    for first in stride(from: 0, to: x.count, by: most) {
      let count = min(most, x.count - first)
      for panel in range {
        let row = panel * Self.panelRows
        ck_panel_times(
          level.rawValue, type.rawValue, memory.pointer + panel * panelBytes,
          min(Self.panelRows, rows - row), columns,
          x.codes.pointer.assumingMemoryBound(to: Int8.self) + first * columns,
          x.factors.pointer + first * width, count, y + first * yStride + row, yStride)
      }
    }
  }
}
