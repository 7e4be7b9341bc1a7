// One pass of some rows, of one or several users, through all layers of the model.

import Foundation
import LinearAlgebra

/// A run of rows of one sequence within a pass.
struct Segment {
  let tokens: ArraySlice<Int32>
  let cache: KVCache
  let adapter: Adapter?
  /// The first row within the pass.
  let row: Int
  /// The first row's position in the sequence.
  let position: Int
  var count: Int { tokens.count }
}

/// The scratch memory of a pass and the steps over it. Belongs to one call.
struct ForwardPass {
  let model: LlamaModel
  let segments: [Segment]
  let pool: ThreadPool
  let rows: Int
  /// The residual stream [rows × width]; the result.
  let stream: FloatBuffer

  private let weights: InferenceWeights
  private let normalized: FloatBuffer
  private let queries: FloatBuffer
  private let keys: FloatBuffer
  private let values: FloatBuffer
  private let attended: FloatBuffer
  private let gate: FloatBuffer
  private let up: FloatBuffer
  private let cosines: FloatBuffer
  private let sines: FloatBuffer
  private let adapters: AdapterProducts?

  init(model: LlamaModel, segments: [Segment], pool: ThreadPool) {
    let configuration = model.configuration
    self.model = model
    weights = model.inferenceWeights
    self.segments = segments
    self.pool = pool
    rows = segments.reduce(0) { $0 + $1.count }
    stream = FloatBuffer(uninitialized: rows * configuration.width)
    normalized = FloatBuffer(uninitialized: rows * configuration.width)
    queries = FloatBuffer(uninitialized: rows * configuration.queryWidth)
    keys = FloatBuffer(uninitialized: rows * configuration.kvWidth)
    values = FloatBuffer(uninitialized: rows * configuration.kvWidth)
    attended = FloatBuffer(uninitialized: rows * configuration.queryWidth)
    gate = FloatBuffer(uninitialized: rows * configuration.feedForwardWidth)
    up = FloatBuffer(uninitialized: rows * configuration.feedForwardWidth)
    let half = configuration.headWidth / 2
    cosines = FloatBuffer(uninitialized: rows * half)
    sines = FloatBuffer(uninitialized: rows * half)
    adapters = AdapterProducts(
      segments: segments, rows: rows, configuration: configuration, pool: pool)
    let scaling = configuration.ropeScaling
    let frequencies = scaling.frequencies(
      base: configuration.ropeBase, headWidth: configuration.headWidth)
    let magnitude = scaling.magnitude
    for segment in segments {
      for offset in 0..<segment.count {
        let row = (segment.row + offset) * half
        for i in 0..<half {
          let angle = Float(segment.position + offset) * frequencies[i]
          cosines.pointer[row + i] = magnitude * cos(angle)
          sines.pointer[row + i] = magnitude * sin(angle)
        }
      }
    }
  }

  /// Computes the residual stream after the last layer, and the caches' new positions.
  func run() {
    let configuration = model.configuration
    for segment in segments {
      segment.cache.prepare(toAppend: segment.count)
      for (offset, token) in segment.tokens.enumerated() {
        let row = stream.pointer + (segment.row + offset) * configuration.width
        if token < 0, let virtual = segment.adapter?.virtualTokens {
          let place = Chunk.virtualTokenIndex(token) * configuration.width
          row.update(from: virtual.pointer + place, count: configuration.width)
        } else {
          model.tokenEmbedding.expand(rows: Int(token)..<Int(token) + 1, into: row)
        }
      }
    }
    for number in 0..<configuration.layers { run(layer: number) }
    for segment in segments { segment.cache.advance(by: segment.count) }
  }

  private func run(layer number: Int) {
    let configuration = model.configuration
    let layer = model.layers[number]
    normalize(layer.attentionNorm)
    multiply(
      normalized, layer: number,
      [(.query, queries), (.key, keys), (.value, values)])
    for (projection, y) in [(Projection.query, queries), (.key, keys), (.value, values)] {
      if let bias = layer.bias(projection) { add(bias, of: projection, layer: number, to: y) }
    }
    if let weight = layer.queryNorm { normalizeHeads(queries, weight, configuration.heads) }
    if let weight = layer.keyNorm { normalizeHeads(keys, weight, configuration.kvHeads) }
    rotateAndStore(layer: number)
    Attention.compute(
      layer: number, segments: segments, configuration: configuration,
      queries: queries.pointer, into: attended.pointer, pool: pool)
    multiply(attended, layer: number, [(.output, normalized)])
    addToStream(normalized)

    normalize(layer.feedForwardNorm)
    multiply(normalized, layer: number, [(.gate, gate), (.up, up)])
    let width = configuration.feedForwardWidth
    // An exponential for each number.
    forRows(width: 4 * width) { range in
      let start = range.lowerBound * width
      Elementwise.siluMultiply(
        gate: gate.pointer + start, up: up.pointer + start, into: gate.pointer + start,
        count: range.count * width)
    }
    multiply(gate, layer: number, [(.down, normalized)])
    addToStream(normalized)
  }

  /// Splits the rows over the threads where that pays: another thread takes a microsecond or two to
  /// join in, as long as some rows of `width` numbers take.
  private func forRows(width: Int, _ body: (Range<Int>) -> Void) {
    if rows * width < 16_384 { body(0..<rows) } else { pool.parallelRanges(rows, body) }
  }

  private func normalize(_ weight: [Float]) {
    let configuration = model.configuration
    let width = configuration.width
    weight.withUnsafeBufferPointer { weight in
      guard let weight = weight.baseAddress else { return }
      forRows(width: width) { range in
        for row in range {
          Elementwise.rmsNorm(
            stream.pointer + row * width, weight: weight, into: normalized.pointer + row * width,
            count: width, epsilon: configuration.rmsEpsilon)
        }
      }
    }
  }

  private func addToStream(_ x: FloatBuffer) {
    let width = model.configuration.width
    forRows(width: width) { range in
      let start = range.lowerBound * width
      Elementwise.addScaled(
        1, x.pointer + start, to: stream.pointer + start, count: range.count * width)
    }
  }

  /// Adds a projection's bias to every row. (IA)³ scales a projection's whole output, the bias too.
  private func add(
    _ bias: [Float], of projection: Projection, layer: Int, to y: FloatBuffer
  ) {
    for segment in segments {
      var bias = bias
      for scale in segment.adapter?.biasScales(layer: layer, projection) ?? [] {
        for index in bias.indices { bias[index] *= scale.pointer[index] }
      }
      for row in segment.row..<segment.row + segment.count {
        Elementwise.addScaled(1, bias, to: y.pointer + row * bias.count, count: bias.count)
      }
    }
  }

  /// RMSNorm of each head of queries or keys, in place.
  private func normalizeHeads(_ x: FloatBuffer, _ weight: [Float], _ heads: Int) {
    forRows(width: heads * weight.count) { range in
      for head in range.lowerBound * heads..<range.upperBound * heads {
        let place = x.pointer + head * weight.count
        Elementwise.rmsNorm(
          place, weight: weight, into: place, count: weight.count,
          epsilon: model.configuration.rmsEpsilon)
      }
    }
  }

  private func rotateAndStore(layer: Int) {
    let configuration = model.configuration
    let half = configuration.headWidth / 2
    let kvWidth = configuration.kvWidth
    for segment in segments {
      let store = { (range: Range<Int>) in
        for offset in range {
          let row = segment.row + offset
          let (cosine, sine) = (cosines.pointer + row * half, sines.pointer + row * half)
          Elementwise.rotate(
            queries.pointer + row * configuration.queryWidth, cosines: cosine, sines: sine,
            heads: configuration.heads, headWidth: configuration.headWidth)
          Elementwise.rotate(
            keys.pointer + row * kvWidth, cosines: cosine, sines: sine,
            heads: configuration.kvHeads, headWidth: configuration.headWidth)
          segment.cache.store(
            keys: keys.pointer + row * kvWidth, values: values.pointer + row * kvWidth,
            layer: layer, position: segment.position + offset)
        }
      }
      if segment.count < 16 {
        store(0..<segment.count)
      } else {
        pool.parallelRanges(segment.count, store)
      }
    }
  }

  /// The base model's products for all rows at once, then each sequence's own adapter.
  private func multiply(
    _ x: FloatBuffer, layer: Int, _ outputs: [(projection: Projection, y: FloatBuffer)]
  ) {
    let columns = outputs[0].projection.inputWidth(in: model.configuration)
    let base = { (x: FloatBuffer, outputs: [AdapterProducts.Output]) in
      Product.compute(
        x.pointer, count: rows, columns: columns,
        outputs.map { (weights[layer, $0.projection], $0.y.pointer) }, pool: pool)
    }
    if let adapters {
      adapters.multiply(x, layer: layer, outputs, base: base)
    } else {
      base(x, outputs)
    }
  }
}
