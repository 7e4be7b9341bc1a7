// A group of projections with its LoRA: Y = X Wᵀ + s (X Aᵀ) Bᵀ, forward and backward.

import CKernels
import LanguageModel
import LinearAlgebra

typealias Floats = UnsafeMutablePointer<Float>

/// The adapter while it is trained or evaluated: its numbers and, in training, their gradients.
struct AdapterState {
  let layout: AdapterLayout
  let scaling: Float
  let parameters: FloatBuffer
  let gradients: FloatBuffer?
  /// Probability of dropping an element of an adapter's input; 0 outside training.
  var dropout: Float = 0
  /// Changes with every step, so that each draws other masks.
  var dropoutKey: UInt64 = 0
}

/// The products of one layer's projection groups. W is expanded from its quantised form into
/// `weightScratch` for each use; it has no gradient.
struct LinearPass {
  let weights: FrozenWeights
  let adapter: AdapterState?
  /// Room for the largest group's matrix.
  let weightScratch: Floats
  /// [rows × largest input width], used only with dropout.
  let dropoutScratch: Floats
  /// [rows × productWidth] for the gradients of the A products.
  let productScratch: Floats

  /// y [rows × out] = x [rows × in] Wᵀ + LoRA; with `accumulate`, y += that.
  /// `products` [rows × n·rank] receives X Aᵀ of the group's adapted projections.
  func forward(
    _ group: ProjectionGroup, layer: Int, x: Floats, rows: Int, y: Floats,
    accumulate: Bool = false, products: Floats
  ) {
    let inputWidth = group.inputWidth(weights.shape)
    let outputWidth = group.outputWidth(weights.shape)
    weights.expand(group, layer: layer, into: weightScratch)
    sgemm(
      m: rows, n: outputWidth, k: inputWidth, a: x, lda: inputWidth, b: weightScratch,
      ldb: inputWidth, transposeB: true, beta: accumulate ? 1 : 0, c: y, ldc: outputWidth)
    adapterProducts(group, layer: layer, x: x, rows: rows, products: products)
    guard let adapter else { return }
    let sites = adapter.layout.sites(group)
    let rank = adapter.layout.rank
    let width = sites.count * rank
    let base = adapter.parameters.pointer + layer * adapter.layout.layerCount
    for (index, site) in sites.enumerated() {
      sgemm(
        m: rows, n: site.outputWidth, k: rank, alpha: adapter.scaling, a: products + index * rank,
        lda: width, b: base + site.b, ldb: rank, transposeB: true, beta: 1,
        c: y + site.outputColumn, ldc: outputWidth)
    }
  }

  /// products [rows × n·rank] = X Aᵀ for the group's n adapted projections.
  func adapterProducts(
    _ group: ProjectionGroup, layer: Int, x: Floats, rows: Int, products: Floats
  ) {
    let inputWidth = group.inputWidth(weights.shape)
    guard let adapter else { return }
    let sites = adapter.layout.sites(group)
    guard let first = sites.first else { return }
    let rank = adapter.layout.rank
    let width = sites.count * rank
    let base = adapter.parameters.pointer + layer * adapter.layout.layerCount
    if adapter.dropout == 0 {
      sgemm(
        m: rows, n: width, k: inputWidth, a: x, lda: inputWidth, b: base + first.a,
        ldb: inputWidth, transposeB: true, c: products, ldc: width)
    } else {
      for (index, site) in sites.enumerated() {
        drop(x, count: rows * inputWidth, key: key(site, layer, adapter))
        sgemm(
          m: rows, n: rank, k: inputWidth, a: dropoutScratch, lda: inputWidth, b: base + site.a,
          ldb: inputWidth, transposeB: true, c: products + index * rank, ldc: width)
      }
    }
  }

  /// Given dy [rows × out] and the x and `products` of the forward pass: dx [rows × in] = dy W +
  /// LoRA, unless dx is nil, and the factors' gradients, which are added to.
  func backward(
    _ group: ProjectionGroup, layer: Int, dy: Floats, x: Floats, rows: Int, products: Floats,
    dx: Floats?
  ) {
    let inputWidth = group.inputWidth(weights.shape)
    let outputWidth = group.outputWidth(weights.shape)
    if let dx {
      weights.expand(group, layer: layer, into: weightScratch)
      sgemm(
        m: rows, n: inputWidth, k: outputWidth, a: dy, lda: outputWidth, b: weightScratch,
        ldb: inputWidth, c: dx, ldc: inputWidth)
    }
    guard let adapter, let gradients = adapter.gradients else { return }
    let sites = adapter.layout.sites(group)
    guard let first = sites.first else { return }
    let rank = adapter.layout.rank
    let width = sites.count * rank
    let base = layer * adapter.layout.layerCount
    let parameters = adapter.parameters.pointer + base
    let gradient = gradients.pointer + base
    for (index, site) in sites.enumerated() {
      // d(X Aᵀ) = s dY B; dB += s dYᵀ (X Aᵀ).
      sgemm(
        m: rows, n: rank, k: site.outputWidth, alpha: adapter.scaling, a: dy + site.outputColumn,
        lda: outputWidth, b: parameters + site.b, ldb: rank, c: productScratch + index * rank,
        ldc: width)
      sgemm(
        m: site.outputWidth, n: rank, k: rows, alpha: adapter.scaling, a: dy + site.outputColumn,
        lda: outputWidth, transposeA: true, b: products + index * rank, ldb: width, beta: 1,
        c: gradient + site.b, ldc: rank)
    }
    if adapter.dropout == 0 {
      // dA += d(X Aᵀ)ᵀ X; dX += d(X Aᵀ) A.
      sgemm(
        m: width, n: inputWidth, k: rows, a: productScratch, lda: width, transposeA: true, b: x,
        ldb: inputWidth, beta: 1, c: gradient + first.a, ldc: inputWidth)
      guard let dx else { return }
      sgemm(
        m: rows, n: inputWidth, k: width, a: productScratch, lda: width, b: parameters + first.a,
        ldb: inputWidth, beta: 1, c: dx, ldc: inputWidth)
      return
    }
    for (index, site) in sites.enumerated() {
      let key = key(site, layer, adapter)
      drop(x, count: rows * inputWidth, key: key)
      sgemm(
        m: rank, n: inputWidth, k: rows, a: productScratch + index * rank, lda: width,
        transposeA: true, b: dropoutScratch, ldb: inputWidth, beta: 1, c: gradient + site.a,
        ldc: inputWidth)
      guard let dx else { continue }
      sgemm(
        m: rows, n: inputWidth, k: rank, a: productScratch + index * rank, lda: width,
        b: parameters + site.a, ldb: inputWidth, c: dropoutScratch, ldc: inputWidth)
      ThreadPool.shared.parallelRanges(rows * inputWidth) { range in
        training_dropout_add(
          dx + range.lowerBound, dropoutScratch + range.lowerBound, range.lowerBound, range.count,
          adapter.dropout, key)
      }
    }
  }

  private func drop(_ x: Floats, count: Int, key: UInt64) {
    guard let adapter else { return }
    ThreadPool.shared.parallelRanges(count) { range in
      training_dropout(
        dropoutScratch + range.lowerBound, x + range.lowerBound, range.lowerBound, range.count,
        adapter.dropout, key)
    }
  }

  /// A key for the mask of one projection in one step.
  private func key(_ site: AdapterLayout.Site, _ layer: Int, _ adapter: AdapterState) -> UInt64 {
    let place = UInt64(layer * Projection.allCases.count + site.projection.index)
    var generator = SplitMix64(seed: adapter.dropoutKey &+ place &* 0x9E37_79B9)
    return generator.next()
  }
}
