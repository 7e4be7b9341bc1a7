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
  /// Rows; the scales are one for each 32 columns of a row.
  public let count: Int
  /// A multiple of 32.
  public let columns: Int
  private let codes: ByteBuffer
  private let factors: FloatBuffer

  /// Room for `count` rows, each of which ``round(_:rows:level:)`` has to fill before its use;
  /// `columns` is a multiple of 32.
  public init(room count: Int, columns: Int) {
    precondition(columns % 32 == 0)
    self.count = count
    self.columns = columns
    codes = ByteBuffer(count: count * columns)
    factors = FloatBuffer(uninitialized: count * ck_activation_factors(columns))
  }

  /// Quantises `count` dense rows [count × columns]; `columns` is a multiple of 32.
  public init(
    _ x: UnsafePointer<Float>, count: Int, columns: Int, pool: ThreadPool = .shared,
    level: Int8Level = .best
  ) {
    self.init(room: count, columns: columns)
    // A few microseconds of work are done before another thread joins in.
    if count * columns < 16_384 {
      round(x, rows: 0..<count, level: level)
    } else {
      pool.parallelRanges(count) { round(x, rows: $0, level: level) }
    }
  }

  /// Quantises some of the rows of `x` [count × columns] on the calling thread.
  public func round(_ x: UnsafePointer<Float>, rows: Range<Int>, level: Int8Level = .best) {
    precondition(rows.lowerBound >= 0 && rows.upperBound <= count)
    let all = all
    for row in rows {
      ck_quantize_row(
        level.rawValue, x + row * columns, columns, all.codes + row * columns,
        all.factors + row * ck_activation_factors(columns))
    }
  }

  /// The rows without their ownership, for code that counts no references.
  struct All {
    let count: Int
    let columns: Int
    let codes: UnsafeMutablePointer<Int8>
    let factors: UnsafeMutablePointer<Float>
  }

  var all: All {
    All(
      count: count, columns: columns, codes: codes.pointer.assumingMemoryBound(to: Int8.self),
      factors: factors.pointer)
  }
}

/// A `rows` × `columns` matrix in panels of 16 rows (CKernels' panels.h), about as large as its blocks
/// were.
///
/// Unchecked: the panels are written in `init` and only read afterwards.
public struct PackedMatrix: @unchecked Sendable {
  /// Of the blocks in the panels.
  public let type: WeightType
  /// Without those that fill up the last panel.
  public let rows: Int
  public let columns: Int
  /// The number of panels.
  public let panels: Int
  private let panelBytes: Int
  private let bytes: UnsafeMutableRawPointer
  /// What `bytes` belongs to.
  private let memory: AnyObject

  /// Rows in a panel.
  public static let panelRows = Int(CK_PANEL_ROWS)

  /// Memory that just holds the panels of all of some matrices.
  package static func commonMemory(for matrices: [QuantizedMatrix]) -> CommonMemory {
    CommonMemory(byteCount: matrices.reduce(0) { $0 + CommonMemory.room(byteCount($1)) })
  }

  /// The memory that a matrix' panels take; 0 for types without blocks.
  private static func byteCount(_ matrix: QuantizedMatrix) -> Int {
    (matrix.rows + panelRows - 1) / panelRows
      * ck_panel_bytes(matrix.type.rawValue, matrix.columns)
  }

  /// nil for types without blocks, whose products are computed in f32. Takes its memory from `common`
  /// where there is enough left.
  public init?(
    _ matrix: QuantizedMatrix, in common: CommonMemory? = nil, pool: ThreadPool = .shared
  ) {
    let byteCount = Self.byteCount(matrix)
    guard byteCount > 0 else { return nil }
    type = matrix.type
    rows = matrix.rows
    columns = matrix.columns
    let height = Self.panelRows
    let panels = (matrix.rows + height - 1) / height
    self.panels = panels
    let panelBytes = byteCount / panels
    self.panelBytes = panelBytes
    let bytes: UnsafeMutableRawPointer
    if let common, let place = common.take(byteCount) {
      (bytes, memory) = (place, common)
    } else {
      let own = ByteBuffer(count: byteCount)
      (bytes, memory) = (own.pointer, own)
    }
    self.bytes = bytes
    pool.parallelRanges(panels) { range in
      for panel in range {
        let first = panel * height
        ck_pack_panel(
          matrix.type.rawValue, matrix.bytes(fromRow: first), matrix.rowBytes,
          min(height, matrix.rows - first), matrix.columns, bytes + panel * panelBytes)
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
    panels = (rows + Self.panelRows - 1) / Self.panelRows
    let memory = ByteBuffer(count: panels * panelBytes)
    self.memory = memory
    bytes = memory.pointer
    pool.parallelRanges(panels) { range in
      for panel in range {
        let first = panel * Self.panelRows
        ck_pack_floats(
          source + first * rowStride, rowStride, columnStride, min(Self.panelRows, rows - first),
          columns, memory.pointer + panel * panelBytes)
      }
    }
  }

  /// The size of the panels in memory.
  public var byteCount: Int { panels * panelBytes }

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
    withExtendedLifetime((memory, x)) {
      product(into: y, yStride: yStride)
        .compute(x.all, count: x.count, panels: range, level: level)
    }
  }

  /// The product that writes y[c · yStride + r]. Whoever keeps it keeps the matrix too.
  package func product(into y: UnsafeMutablePointer<Float>, yStride: Int) -> PanelProduct {
    PanelProduct(
      type: type, rows: rows, columns: columns, panels: panels, panelBytes: panelBytes,
      bytes: UnsafeRawPointer(bytes), y: y, yStride: yStride)
  }
}

/// A product with a matrix, without ownership of the matrix and of y: copying it counts no references.
package struct PanelProduct {
  /// Below so many rows of X, threads take even shares of a product.
  private static let fewRows = 64
  /// Panels in one task where there are more rows: some microseconds of work, and so many tasks that
  /// no thread waits long for the last one.
  private static let taskPanels = 2

  let type: WeightType
  let rows: Int
  let columns: Int
  let panels: Int
  let panelBytes: Int
  let bytes: UnsafeRawPointer
  let y: UnsafeMutablePointer<Float>
  let yStride: Int

  private var tasks: Int { (panels + Self.taskPanels - 1) / Self.taskPanels }

  /// Computes the first `count` rows of several products that share X, on all of the pool's threads.
  package static func compute(
    _ products: UnsafeBufferPointer<PanelProduct>, _ x: QuantizedRows, count: Int, pool: ThreadPool
  ) {
    precondition(count <= x.count)
    let all = x.all
    if count < fewRows {
      // Some microseconds of work: no bookkeeping.
      pool.parallel(pool.width) { part in
        for product in products {
          let start = product.panels * part / pool.width
          let end = product.panels * (part + 1) / pool.width
          product.compute(all, count: count, panels: start..<end)
        }
      }
    } else {
      pool.parallel(products.reduce(0) { $0 + $1.tasks }) { number in
        var number = number
        for product in products {
          if number < product.tasks {
            let first = number * taskPanels
            product.compute(
              all, count: count, panels: first..<min(first + taskPanels, product.panels))
            return
          }
          number -= product.tasks
        }
      }
    }
    withExtendedLifetime(x) {}
  }

  /// y[c · yStride + r] = row r · x[c] for the rows of some panels and the first `count` rows c.
  func compute(
    _ x: QuantizedRows.All, count: Int, panels range: Range<Int>, level: Int8Level = .best
  ) {
    precondition(x.columns == columns && range.lowerBound >= 0 && range.upperBound <= panels)
    let width = ck_activation_factors(columns)
    let height = PackedMatrix.panelRows
    // So many activations at a time that they stay in the second-level cache over the panels.
    let most = max((1 << 18) / (columns + 4 * width) / 8 * 8, 8)
    for first in stride(from: 0, to: count, by: most) {
      let some = min(most, count - first)
      for panel in range {
        let row = panel * height
        ck_panel_times(
          level.rawValue, type.rawValue, bytes + panel * panelBytes, min(height, rows - row),
          columns, x.codes + first * columns, x.factors + first * width, some,
          y + first * yStride + row, yStride)
      }
    }
  }
}
