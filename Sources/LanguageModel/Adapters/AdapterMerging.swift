// Adapters merged into weights, and the norms that DoRA needs of merged weights.

import Cryptography
import Foundation
import LinearAlgebra

extension Adapter {
  /// Turns a projection's f32 weights [output width × input width] into those that give alone what
  /// they give with this adapter beside them.
  public func merge(
    into weights: UnsafeMutablePointer<Float>, layer: Int, _ projection: Projection,
    rows: Int, columns: Int, pool: ThreadPool = .shared
  ) {
    for change in changes(layer: layer, projection) {
      if let scale = change.inputScale {
        pool.parallelRanges(rows) { range in
          multiplyRows(
            weights + range.lowerBound * columns, by: scale.pointer, rows: range.count,
            width: columns)
        }
      }
      if let factors = change.factors {
        sgemm(
          m: rows, n: columns, k: change.rank, alpha: change.scaling, a: factors.b.pointer,
          lda: change.rank, b: factors.a.pointer, ldb: columns, beta: 1, c: weights, ldc: columns,
          pool: pool)
      }
      if let scale = change.outputScale {
        pool.parallelRanges(rows) { range in
          for row in range {
            let factor = scale.pointer[row]
            for column in row * columns..<(row + 1) * columns { weights[column] *= factor }
          }
        }
      }
    }
  }
}

/// What DoRA (arXiv 2402.09353) divides its magnitudes by.
public enum DoRA {
  /// Writes the norm of each row of W + scaling · B A, where W is [rows × columns] and f32.
  ///
  /// ‖w + s b A‖² = ‖w‖² + 2 s b·(A w) + s² b (A Aᵀ) bᵀ, so that no matrix of W's size is made.
  public static func weightNorms(
    weights: UnsafePointer<Float>, rows: Int, columns: Int, a: UnsafePointer<Float>,
    b: UnsafePointer<Float>, rank: Int, scaling: Float,
    into norms: UnsafeMutablePointer<Float>, pool: ThreadPool = .shared
  ) {
    let products = FloatBuffer(uninitialized: rows * rank)
    let gram = FloatBuffer(uninitialized: rank * rank)
    sgemm(
      m: rows, n: rank, k: columns, a: weights, lda: columns, b: a, ldb: columns, transposeB: true,
      c: products.pointer, ldc: rank, pool: pool)
    sgemm(
      m: rank, n: rank, k: columns, a: a, lda: columns, b: a, ldb: columns, transposeB: true,
      c: gram.pointer, ldc: rank, pool: pool)
    pool.parallelRanges(rows) { range in
      for row in range {
        let (w, factor) = (weights + row * columns, b + row * rank)
        var cross: Float = 0
        var own: Float = 0
        for i in 0..<rank {
          cross += factor[i] * products.pointer[row * rank + i]
          own += factor[i] * Elementwise.dot(gram.pointer + i * rank, factor, count: rank)
        }
        let square =
          Elementwise.dot(w, w, count: columns) + 2 * scaling * cross + scaling * scaling * own
        norms[row] = max(square, 0).squareRoot()
      }
    }
  }
}

extension LlamaModel {
  /// magnitude / ‖W + scaling · B A‖ for each row of a projection.
  func doraScale(
    layer: Int, _ projection: Projection, factors: LoRAFactors, magnitude: FloatBuffer, rank: Int,
    scaling: Float, under: Adapter?
  ) -> FloatBuffer {
    let matrix = layers[layer][projection]
    let weights = FloatBuffer(uninitialized: matrix.rows * matrix.columns)
    matrix.expand(into: weights.pointer)
    under?.merge(
      into: weights.pointer, layer: layer, projection, rows: matrix.rows, columns: matrix.columns)
    let scale = FloatBuffer(uninitialized: matrix.rows)
    DoRA.weightNorms(
      weights: weights.pointer, rows: matrix.rows, columns: matrix.columns, a: factors.a.pointer,
      b: factors.b.pointer, rank: rank, scaling: scaling, into: scale.pointer)
    for row in 0..<scale.count {
      scale.pointer[row] = magnitude.pointer[row] / scale.pointer[row]
    }
    return scale
  }

  /// A model with the adapter in its weights: the adapted projections in f32, all others as they
  /// are and shared with this model. Throws ``AdapterError`` for virtual tokens, which are no weights.
  public func merging(_ adapter: Adapter) throws(AdapterError) -> LlamaModel {
    guard adapter.fits(configuration) else {
      throw AdapterError("The adapter was made for a model of another shape.")
    }
    guard adapter.virtualTokens == nil else {
      throw AdapterError("Virtual tokens (prompt tuning) cannot be merged into weights.")
    }
    guard adapter.scaledBiases(of: self).isEmpty else {
      throw AdapterError(
        "An (IA)³ adapter on projections with biases is not merged: biases stay as they are.")
    }
    var hash = SHA256()
    hash.update(data: Data(fingerprint.utf8))
    var merged: [LlamaLayer] = []
    for (number, layer) in layers.enumerated() {
      var changed: [Projection: QuantizedMatrix] = [:]
      for projection in Projection.allCases
      where !adapter.changes(layer: number, projection).isEmpty {
        let matrix = layer[projection]
        let weights = FloatBuffer(uninitialized: matrix.rows * matrix.columns)
        matrix.expand(into: weights.pointer)
        adapter.merge(
          into: weights.pointer, layer: number, projection, rows: matrix.rows,
          columns: matrix.columns)
        let bytes = UnsafeRawBufferPointer(weights.elements)
        hash.update(bufferPointer: bytes)
        changed[projection] = QuantizedMatrix(
          type: .f32, rows: matrix.rows, columns: matrix.columns, bytes: bytes, owner: weights)
      }
      merged.append(layer.replacing(changed))
    }
    return LlamaModel(
      self, layers: merged,
      fingerprint: hash.finalize().hexadecimal)
  }
}
