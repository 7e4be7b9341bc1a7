// A group of projections with its adapter: Y = c ⊙ (W (l ⊙ X) + s B A X), forward and backward.
//
// LoRA has A and B; DoRA has c = m / ‖W + s B A‖ too, whose norm the gradient takes as a constant
// (arXiv 2402.09353, section 4.3); (IA)³ has c or l alone.

import CKernels
import LanguageModel
import LinearAlgebra
import RandomNumbers

typealias Floats = UnsafeMutablePointer<Float>

/// The adapter while it is trained or evaluated: its numbers and, in training, their gradients.
struct AdapterTensors {
  let layout: AdapterLayout
  let scaling: Float
  let parameters: FloatBuffer
  let gradients: FloatBuffer?
  /// DoRA's norms for the present parameters, [layers × normCount], set by the forward pass.
  let norms: FloatBuffer
  /// Probability of dropping an element of the input of A; 0 outside training.
  var dropout: Float = 0
  /// Changes with every step, so that each draws other masks.
  var dropoutKey: UInt64 = 0

  init(
    layout: AdapterLayout, scaling: Float, parameters: FloatBuffer, gradients: FloatBuffer?,
    dropout: Float = 0, dropoutKey: UInt64 = 0
  ) {
    self.layout = layout
    self.scaling = scaling
    self.parameters = parameters
    self.gradients = gradients
    self.dropout = dropout
    self.dropoutKey = dropoutKey
    norms = FloatBuffer(uninitialized: layout.normCount * layout.shape.layers)
  }

  /// What the site's output is multiplied with [outputWidth], in memory of its own.
  func outputScale(_ site: AdapterLayout.Site, layer: Int) -> FloatBuffer {
    let scale = FloatBuffer(uninitialized: site.scaleCount)
    let parameter = parameters.pointer + layer * layout.layerCount + site.scale
    for i in 0..<scale.count { scale.pointer[i] = parameter[i] / norm(site, layer: layer, i) }
    return scale
  }

  /// DoRA's norm of a row, else 1.
  func norm(_ site: AdapterLayout.Site, layer: Int, _ row: Int) -> Float {
    layout.isDoRA ? norms.pointer[layer * layout.normCount + site.norm + row] : 1
  }
}

/// The products of one layer's projection groups. W is expanded from its quantised form into
/// `weightScratch` for each use; it has no gradient.
struct LinearPass {
  let weights: FrozenWeights
  let adapter: AdapterTensors?
  /// Room for the largest group's matrix.
  let weightScratch: Floats
  /// [rows × largest input width], used only with dropout.
  let dropoutScratch: Floats
  /// [rows × productWidth] for the gradients of the A products.
  let productScratch: Floats
  /// [rows × scaleWidth] for scaled inputs and outputs.
  let scaleScratch: Floats
  /// [rows × width] for products that are added to others.
  let sumScratch: Floats

  /// y [rows × out] = the group's outputs; with `accumulate`, y += them.
  /// `products` [rows × n·rank] receives X Aᵀ of the group's adapted projections.
  func forward(
    _ group: ProjectionGroup, layer: Int, x: Floats, rows: Int, y: Floats,
    accumulate: Bool = false, products: Floats
  ) {
    let outputWidth = group.outputWidth(weights.shape)
    let scalesOutput = adapter?.layout.scales(.output, group) ?? false
    // A scaled output that is added to y is made beside it first.
    let z = scalesOutput && accumulate ? scaleScratch : y
    baseProducts(
      group, layer: layer, x: scaledInput(group, layer: layer, x: x, rows: rows), rows: rows, y: z,
      accumulate: accumulate && !scalesOutput)
    adapterProducts(group, layer: layer, x: x, rows: rows, products: products)
    guard let adapter else { return }
    for (index, site) in adapter.layout.sites(group).enumerated() {
      addFactors(
        site, index, group, layer: layer, rows: rows, products: products,
        to: z + site.outputColumn, ldc: outputWidth)
      guard site.scaleKind == .output else { continue }
      if adapter.layout.isDoRA { computeNorms(site, layer: layer) }
      let scale = adapter.outputScale(site, layer: layer)
      scaleRows(
        z + site.outputColumn, stride: outputWidth, by: scale.pointer, width: site.outputWidth,
        rows: rows)
    }
    if scalesOutput && accumulate {
      forRows(rows) { range in
        let start = range.lowerBound * outputWidth
        Elementwise.addScaled(1, z + start, to: y + start, count: range.count * outputWidth)
      }
    }
  }

  /// y [rows × out] = x Wᵀ, or y += that.
  private func baseProducts(
    _ group: ProjectionGroup, layer: Int, x: Floats, rows: Int, y: Floats, accumulate: Bool
  ) {
    // Some milliseconds of work lie between two of these.
    ComputeGate.shared.pause()
    let inputWidth = group.inputWidth(weights.shape)
    let outputWidth = group.outputWidth(weights.shape)
    if let matrices = weights.packed(group, layer: layer) {
      let input = QuantizedRows(x, count: rows, columns: inputWidth)
      var target = accumulate ? sumScratch : y
      for matrix in matrices {
        matrix.multiply(input, into: target, yStride: outputWidth)
        target += matrix.rows
      }
      if accumulate {
        forRows(rows) { range in
          let start = range.lowerBound * outputWidth
          Elementwise.addScaled(
            1, sumScratch + start, to: y + start, count: range.count * outputWidth)
        }
      }
      for frozen in weights.frozenFactors(group, layer: layer) {
        let inner = FloatBuffer(uninitialized: rows * frozen.rank)
        sgemm(
          m: rows, n: frozen.rank, k: inputWidth, a: x, lda: inputWidth,
          b: frozen.factors.a.pointer, ldb: inputWidth, transposeB: true, c: inner.pointer,
          ldc: frozen.rank)
        sgemm(
          m: rows, n: frozen.outputWidth, k: frozen.rank, alpha: frozen.scaling, a: inner.pointer,
          lda: frozen.rank, b: frozen.factors.b.pointer, ldb: frozen.rank, transposeB: true,
          beta: 1, c: y + frozen.outputColumn, ldc: outputWidth)
      }
      // The norms of DoRA are those of the weights.
      if adapter?.layout.isDoRA ?? false, adapter?.layout.scales(.output, group) ?? false {
        weights.expand(group, layer: layer, into: weightScratch)
      }
      return
    }
    weights.expand(group, layer: layer, into: weightScratch)
    sgemm(
      m: rows, n: outputWidth, k: inputWidth, a: x, lda: inputWidth, b: weightScratch,
      ldb: inputWidth, transposeB: true, beta: accumulate ? 1 : 0, c: y, ldc: outputWidth)
  }

  /// c [rows × outputWidth of the site, rows ldc apart] += s P Bᵀ.
  private func addFactors(
    _ site: AdapterLayout.Site, _ index: Int, _ group: ProjectionGroup, layer: Int, rows: Int,
    products: Floats, to c: Floats, ldc: Int
  ) {
    guard let adapter, adapter.layout.rank > 0 else { return }
    let rank = adapter.layout.rank
    sgemm(
      m: rows, n: site.outputWidth, k: rank, alpha: adapter.scaling, a: products + index * rank,
      lda: adapter.layout.sites(group).count * rank,
      b: adapter.parameters.pointer + layer * adapter.layout.layerCount + site.b, ldb: rank,
      transposeB: true, beta: 1, c: c, ldc: ldc)
  }

  /// The norms of the rows of W + s B A, with W in `weightScratch`.
  private func computeNorms(_ site: AdapterLayout.Site, layer: Int) {
    guard let adapter else { return }
    let layout = adapter.layout
    let base = adapter.parameters.pointer + layer * layout.layerCount
    DoRA.weightNorms(
      weights: weightScratch + site.outputColumn * site.inputWidth, rows: site.outputWidth,
      columns: site.inputWidth, a: base + site.a, b: base + site.b, rank: layout.rank,
      scaling: adapter.scaling,
      into: adapter.norms.pointer + layer * layout.normCount + site.norm)
  }

  /// l ⊙ x in scratch where the group's input is scaled, else x itself.
  private func scaledInput(
    _ group: ProjectionGroup, layer: Int, x: Floats, rows: Int
  ) -> Floats {
    guard let adapter,
      let site = adapter.layout.sites(group).first(where: { $0.scaleKind == .input })
    else { return x }
    let width = site.inputWidth
    let scale = adapter.parameters.pointer + layer * adapter.layout.layerCount + site.scale
    forRows(rows) { range in
      let start = range.lowerBound * width
      (scaleScratch + start).update(from: x + start, count: range.count * width)
    }
    scaleRows(scaleScratch, stride: width, by: scale, width: width, rows: rows)
    return scaleScratch
  }

  /// products [rows × n·rank] = X Aᵀ for the group's n adapted projections.
  func adapterProducts(
    _ group: ProjectionGroup, layer: Int, x: Floats, rows: Int, products: Floats
  ) {
    let inputWidth = group.inputWidth(weights.shape)
    guard let adapter, adapter.layout.rank > 0 else { return }
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

  /// Given dy [rows × out] and the x and `products` of the forward pass: dx [rows × in], unless it is
  /// nil, and the adapter's gradients, which are added to. A group whose input is scaled needs dx.
  func backward(
    _ group: ProjectionGroup, layer: Int, dy: Floats, x: Floats, rows: Int, products: Floats,
    dx: Floats?
  ) {
    let inputWidth = group.inputWidth(weights.shape)
    let outputWidth = group.outputWidth(weights.shape)
    let trained = adapter?.gradients == nil ? nil : adapter
    let scalesOutput = trained?.layout.scales(.output, group) ?? false
    ComputeGate.shared.pause()
    let transposed = weights.transposed(group, layer: layer)
    if (dx != nil && transposed == nil) || scalesOutput {
      weights.expand(group, layer: layer, into: weightScratch)
    }
    var dy = dy
    if scalesOutput {
      scaleGradients(group, layer: layer, dy: dy, x: x, rows: rows, products: products)
      dy = scaledGradient(group, layer: layer, dy: dy, rows: rows)
    }
    if let dx, let transposed {
      transposed.multiply(
        QuantizedRows(dy, count: rows, columns: outputWidth), into: dx, yStride: inputWidth)
      for frozen in weights.frozenFactors(group, layer: layer) {
        let inner = FloatBuffer(uninitialized: rows * frozen.rank)
        sgemm(
          m: rows, n: frozen.rank, k: frozen.outputWidth, alpha: frozen.scaling,
          a: dy + frozen.outputColumn, lda: outputWidth, b: frozen.factors.b.pointer,
          ldb: frozen.rank, c: inner.pointer, ldc: frozen.rank)
        sgemm(
          m: rows, n: inputWidth, k: frozen.rank, a: inner.pointer, lda: frozen.rank,
          b: frozen.factors.a.pointer, ldb: inputWidth, beta: 1, c: dx, ldc: inputWidth)
      }
    } else if let dx {
      sgemm(
        m: rows, n: inputWidth, k: outputWidth, a: dy, lda: outputWidth, b: weightScratch,
        ldb: inputWidth, c: dx, ldc: inputWidth)
    }
    guard let trained else { return }
    if trained.layout.rank > 0 {
      factorGradients(trained, group, layer: layer, dy: dy, x: x, rows: rows, products, dx: dx)
    }
    if let dx, let gradients = trained.gradients,
      let site = trained.layout.sites(group).first(where: { $0.scaleKind == .input })
    {
      // dl = Σ over rows of d(l ⊙ x) ⊙ x; dx = l ⊙ d(l ⊙ x).
      let place = layer * trained.layout.layerCount + site.scale
      addColumnProducts(
        dx, stride: inputWidth, x, stride: inputWidth, width: inputWidth, rows: rows,
        to: gradients.pointer + place
      ) { _ in 1 }
      scaleRows(
        dx, stride: inputWidth, by: trained.parameters.pointer + place, width: inputWidth,
        rows: rows)
    }
  }

  /// The gradients of the group's output scales: Σ over rows of dy ⊙ z / norm, where z is the output
  /// before its scale, computed again.
  private func scaleGradients(
    _ group: ProjectionGroup, layer: Int, dy: Floats, x: Floats, rows: Int, products: Floats
  ) {
    guard let adapter, let gradients = adapter.gradients else { return }
    let outputWidth = group.outputWidth(weights.shape)
    for (index, site) in adapter.layout.sites(group).enumerated() where site.scaleKind == .output {
      sgemm(
        m: rows, n: site.outputWidth, k: site.inputWidth, a: x, lda: site.inputWidth,
        b: weightScratch + site.outputColumn * site.inputWidth, ldb: site.inputWidth,
        transposeB: true, c: scaleScratch, ldc: site.outputWidth)
      addFactors(
        site, index, group, layer: layer, rows: rows, products: products, to: scaleScratch,
        ldc: site.outputWidth)
      addColumnProducts(
        dy + site.outputColumn, stride: outputWidth, scaleScratch, stride: site.outputWidth,
        width: site.outputWidth, rows: rows,
        to: gradients.pointer + layer * adapter.layout.layerCount + site.scale
      ) { 1 / adapter.norm(site, layer: layer, $0) }
    }
  }

  /// c ⊙ dy in scratch: the gradient of the outputs before their scales.
  private func scaledGradient(
    _ group: ProjectionGroup, layer: Int, dy: Floats, rows: Int
  ) -> Floats {
    guard let adapter else { return dy }
    let outputWidth = group.outputWidth(weights.shape)
    forRows(rows) { range in
      let start = range.lowerBound * outputWidth
      (scaleScratch + start).update(from: dy + start, count: range.count * outputWidth)
    }
    for site in adapter.layout.sites(group) where site.scaleKind == .output {
      let scale = adapter.outputScale(site, layer: layer)
      scaleRows(
        scaleScratch + site.outputColumn, stride: outputWidth, by: scale.pointer,
        width: site.outputWidth, rows: rows)
    }
    return scaleScratch
  }

  private func factorGradients(
    _ adapter: AdapterTensors, _ group: ProjectionGroup, layer: Int, dy: Floats, x: Floats,
    rows: Int, _ products: Floats, dx: Floats?
  ) {
    let inputWidth = group.inputWidth(weights.shape)
    let outputWidth = group.outputWidth(weights.shape)
    let sites = adapter.layout.sites(group)
    guard let first = sites.first, let gradients = adapter.gradients else { return }
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
  private func key(_ site: AdapterLayout.Site, _ layer: Int, _ adapter: AdapterTensors) -> UInt64 {
    let place = UInt64(layer * Projection.allCases.count + site.projection.index)
    var generator = SplitMix64(seed: adapter.dropoutKey &+ place &* 0x9E37_79B9)
    return generator.next()
  }

  /// Rows of y [rows × width, stride apart] ⊙= scale [width].
  private func scaleRows(
    _ y: Floats, stride: Int, by scale: UnsafePointer<Float>, width: Int, rows: Int
  ) {
    forRows(rows) { range in
      for row in range {
        let line = y + row * stride
        for column in 0..<width { line[column] *= scale[column] }
      }
    }
  }

  /// out[i] += factor(i) · Σ over rows of p[i] q[i].
  private func addColumnProducts(
    _ p: Floats, stride pStride: Int, _ q: Floats, stride qStride: Int, width: Int, rows: Int,
    to out: Floats, factor: (Int) -> Float
  ) {
    let sums = FloatBuffer(zeros: width)
    ThreadPool.shared.parallelRanges(width, multiple: 16) { range in
      for row in 0..<rows {
        let (left, right) = (p + row * pStride, q + row * qStride)
        for column in range { sums.pointer[column] += left[column] * right[column] }
      }
    }
    for column in 0..<width { out[column] += factor(column) * sums.pointer[column] }
  }

  private func forRows(_ rows: Int, _ body: (Range<Int>) -> Void) {
    ThreadPool.shared.parallelRanges(rows, body)
  }
}
