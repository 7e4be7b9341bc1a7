// Log-probabilities of given tokens, without keeping whole rows of logits.

import Foundation
import LinearAlgebra

extension LlamaModel {
  /// The loss (negative natural log-probability) of each token after the first, given those before
  /// it: tokens.count - 1 numbers. Throws ``InferenceError``.
  public func losses(
    of tokens: [Int32], adapter: Adapter? = nil, pool: ThreadPool = .shared
  ) throws(InferenceError) -> [Float] {
    guard tokens.count > 1 else {
      guard tokens.count == 1 else { throw .noTokens }
      return []
    }
    let chunk = Chunk(
      tokens: Array(tokens.dropLast()), cache: KVCache(for: self), adapter: adapter,
      logits: .all)
    if let token = tokens.last, token < 0 || token >= configuration.vocabulary {
      throw .tokenOutsideVocabulary(token: token, vocabulary: configuration.vocabulary)
    }
    let (hidden, _) = try hiddenRows([chunk], pool: pool)
    return try logProbabilities(hidden, of: Array(tokens.dropFirst()), pool: pool).map { -$0 }
  }

  /// The summed natural log-probability of each candidate after the prompt, which is computed once,
  /// and how many of the prompt's tokens its owner had left in `prefixes`. An empty candidate scores 0.
  /// Throws ``InferenceError``.
  public func score(
    prompt: [Int32], candidates: [[Int32]], adapter: Adapter? = nil, prefixes: PrefixCache? = nil,
    owner: PrefixOwner = .everybody, pool: ThreadPool = .shared
  ) throws(InferenceError) -> (logProbabilities: [Double], reusedTokens: Int) {
    for token in candidates.joined() where token < 0 || token >= configuration.vocabulary {
      throw .tokenOutsideVocabulary(token: token, vocabulary: configuration.vocabulary)
    }
    let (cache, reused) =
      prefixes?.cache(for: prompt, adapter: adapter, owner: owner, of: self)
      ?? (KVCache(for: self), 0)
    let known = max(cache.count - (adapter?.virtualTokenCount ?? 0), 0)
    let chunk = Chunk(tokens: Array(prompt[known...]), cache: cache, adapter: adapter)
    let (promptHidden, _) = try hiddenRows([chunk], pool: pool)
    prefixes?.keep(cache, prompt: prompt, adapter: adapter, owner: owner, of: self)
    let width = configuration.width
    // The prompt's last state predicts every candidate's first token; the rest follows in groups
    // that keep the memory of their caches and states bounded.
    var scores = [Double](repeating: 0, count: candidates.count)
    var start = 0
    while start < candidates.count {
      var end = start
      var tokens = 0
      while end < candidates.count, end == start || tokens + candidates[end].count <= 512 {
        tokens += candidates[end].count
        end += 1
      }
      let group = (start..<end).filter { !candidates[$0].isEmpty }
      start = end
      guard !group.isEmpty else { continue }
      let longer = group.filter { candidates[$0].count > 1 }
      let (rest, counts) = try hiddenRows(
        longer.map {
          Chunk(
            tokens: Array(candidates[$0].dropLast()), cache: cache.fork(), adapter: adapter,
            logits: .all)
        }, pool: pool)
      let states = FloatBuffer(uninitialized: (group.count + counts.reduce(0, +)) * width)
      for row in group.indices {
        (states.pointer + row * width).update(from: promptHidden.pointer, count: width)
      }
      (states.pointer + group.count * width).update(from: rest.pointer, count: rest.count)
      let targets = group.map { candidates[$0][0] } + longer.flatMap { candidates[$0].dropFirst() }
      let owners = group + longer.flatMap { [Int](repeating: $0, count: candidates[$0].count - 1) }
      let found = try logProbabilities(states, of: targets, pool: pool)
      for (owner, value) in zip(owners, found) { scores[owner] += Double(value) }
    }
    return (scores, reused)
  }

  /// log softmax(output · hidden row)[target], for targets.count rows, by tiles of the vocabulary:
  /// each task keeps every row's running maximum and sum of exponentials (Milakov and Gimelshein,
  /// arXiv 1805.02867).
  func logProbabilities(
    _ hidden: FloatBuffer, of targets: [Int32], pool: ThreadPool
  ) throws(InferenceError) -> [Float] {
    let vocabulary = configuration.vocabulary
    let width = configuration.width
    var result: [Float] = []
    for start in stride(from: 0, to: targets.count, by: Self.rowsPerPass) {
      let rows = min(Self.rowsPerPass, targets.count - start)
      let x = hidden.pointer + start * width
      let height = min(TileProduct.height, vocabulary)
      let tiles = (vocabulary + height - 1) / height
      let slots = min(pool.width, tiles)
      let product = TileProduct(inferenceWeights.output, x, count: rows, slots: slots, pool: pool)
      let logits = FloatBuffer(uninitialized: slots * rows * height)
      let sums = FloatBuffer(uninitialized: tiles * rows)
      let chosen = FloatBuffer(zeros: rows)
      ComputeGate.shared.foreground {
        pool.parallelSlots(tiles) { slot, tile in
          let range = tile * height..<min((tile + 1) * height, vocabulary)
          let tileLogits = logits.pointer + slot * rows * height
          product.compute(range, slot: slot, into: tileLogits, stride: height)
          for row in 0..<rows {
            let line = tileLogits + row * height
            let target = Int(targets[start + row])
            if range.contains(target) { chosen.pointer[row] = line[target - range.lowerBound] }
            sums.pointer[row * tiles + tile] = Elementwise.logSumExp(line, count: range.count)
          }
        }
      }
      for row in 0..<rows {
        let total = Elementwise.logSumExp(sums.pointer + row * tiles, count: tiles)
        let value = chosen.pointer[row] - total
        guard value.isFinite else { throw .notFinite }
        result.append(value)
      }
    }
    return result
  }
}

/// Products of some rows with a tile of a large matrix' rows at a time.
private struct TileProduct {
  /// Rows of the matrix in a tile, a multiple of a panel's.
  static let height = 512

  private let matrix: ProductMatrix
  private let x: UnsafePointer<Float>
  private let count: Int
  private let quantized: QuantizedRows?
  private let scratch: FloatBuffer

  init(
    _ matrix: ProductMatrix, _ x: UnsafePointer<Float>, count: Int, slots: Int, pool: ThreadPool
  ) {
    self.matrix = matrix
    self.x = x
    self.count = count
    switch matrix {
    case .packed:
      quantized = QuantizedRows(x, count: count, columns: matrix.columns, pool: pool)
      scratch = FloatBuffer(uninitialized: 0)
    case .blocks:
      quantized = nil
      scratch = FloatBuffer(uninitialized: slots * Self.height * matrix.columns)
    }
  }

  /// y [count × stride] receives the products with the matrix' rows in `range`, which begins at a
  /// multiple of the height; `slot` is the calling thread's own.
  func compute(_ range: Range<Int>, slot: Int, into y: UnsafeMutablePointer<Float>, stride: Int) {
    switch matrix {
    case .packed(let matrix):
      guard let quantized else { return }
      let panel = PackedMatrix.panelRows
      matrix.multiply(
        quantized, into: y - range.lowerBound, yStride: stride,
        panels: range.lowerBound / panel..<(range.upperBound + panel - 1) / panel)
    case .blocks(let matrix):
      let weights = scratch.pointer + slot * Self.height * matrix.columns
      matrix.expand(rows: range, into: weights)
      BLAS.shared.productOnThisThread(
        m: count, n: range.count, k: matrix.columns, a: x, lda: matrix.columns, b: weights,
        ldb: matrix.columns, transposeB: true, c: y, ldc: stride)
    }
  }
}
