// Products of rows with quantised weight matrices.

import LinearAlgebra

/// Y = X Wᵀ for several matrices W that share the rows X.
enum Product {
  /// Up to so many rows, products straight from the quantised blocks are faster than expanding the
  /// weights for OpenBLAS: on two Zen 3 cores the two meet between 24 and 32 (SpeedTests prints it).
  static let fewRows = 16
  /// The most weights that one task expands: 2 MiB of f32.
  private static let tileFloats = 1 << 19

  private struct Tile {
    let matrix: Int
    let rows: Range<Int>
  }

  /// Writes `count` rows of each product, [count × matrix.rows]. All matrices have `columns` columns,
  /// X is [count × columns], dense.
  static func compute(
    _ x: UnsafePointer<Float>, count: Int, columns: Int,
    _ outputs: [(matrix: QuantizedMatrix, y: UnsafeMutablePointer<Float>)], pool: ThreadPool,
    fewRows: Int = Product.fewRows
  ) {
    if count <= fewRows {
      pool.parallel(pool.width) { part in
        for (matrix, y) in outputs {
          let units = (matrix.rows + 3) / 4
          let start = units * part / pool.width * 4
          let end = min(units * (part + 1) / pool.width * 4, matrix.rows)
          guard start < end else { continue }
          matrix.multiply(
            x, xStride: columns, count: count, into: y, yStride: matrix.rows, rows: start..<end)
        }
      }
      return
    }
    var tiles: [Tile] = []
    for (index, output) in outputs.enumerated() {
      let rows = output.matrix.rows
      let height = tileRows(rows: rows, columns: columns, width: pool.width)
      for start in stride(from: 0, to: rows, by: height) {
        tiles.append(Tile(matrix: index, rows: start..<min(start + height, rows)))
      }
    }
    let largest = tiles.map(\.rows.count).max() ?? 0
    let scratch = FloatBuffer(uninitialized: largest * columns * min(pool.width, tiles.count))
    pool.parallelSlots(tiles.count) { slot, task in
      let tile = tiles[task]
      let (matrix, y) = outputs[tile.matrix]
      let weights = scratch.pointer + slot * largest * columns
      matrix.expand(rows: tile.rows, into: weights)
      BLAS.shared.productOnThisThread(
        m: count, n: tile.rows.count, k: columns, a: x, lda: columns, b: weights, ldb: columns,
        transposeB: true, c: y + tile.rows.lowerBound, ldc: matrix.rows)
    }
  }

  /// The rows of one task: an even share of the matrix, unless that is too large.
  static func tileRows(rows: Int, columns: Int, width: Int) -> Int {
    let share = ((rows + width - 1) / width + 7) / 8 * 8
    return max(min(share, tileFloats / columns / 8 * 8), 8)
  }
}
