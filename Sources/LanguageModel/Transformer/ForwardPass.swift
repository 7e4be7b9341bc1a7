// One pass of some rows, of one or several users, through all layers of the model.

import Foundation
import LinearAlgebra

/// The scratch memory of a pass and the steps over it. Belongs to one call.
///
/// A layer alternates products, which all rows share, with steps that each row takes on its own; all
/// of these between two products are one computation of the thread pool.
final class ForwardPass {
  /// The residual stream [rows × width]. At the end its first rows are the wanted ones of all
  /// segments, one after the other.
  let stream: FloatBuffer

  private let model: LlamaModel
  private let configuration: LlamaConfiguration
  private let weights: InferenceWeights
  private let pool: ThreadPool
  private let rows: PassRows
  private let attention: Attention
  private let normalized: FloatBuffer
  private let queries: FloatBuffer
  private let keys: FloatBuffer
  private let values: FloatBuffer
  private let attended: FloatBuffer
  private let gate: FloatBuffer
  private let up: FloatBuffer
  /// What the output and down projections write.
  private let projected: FloatBuffer
  private let cosines: FloatBuffer
  private let sines: FloatBuffer
  /// The inputs of products as 8-bit codes; nil where no product wants them.
  private let normalizedCodes: QuantizedRows?
  private let attendedCodes: QuantizedRows?
  private let gateCodes: QuantizedRows?
  /// The products of all layers where all matrices are packed, else empty.
  private let products: ContiguousArray<PanelProduct>

  /// Makes room for the segments' rows in their caches.
  init(model: LlamaModel, segments: [Segment], pool: ThreadPool) {
    self.model = model
    self.pool = pool
    configuration = model.configuration
    weights = model.inferenceWeights
    for segment in segments { segment.cache.prepare(toAppend: segment.count) }
    rows = PassRows(segments)
    attention = Attention(
      configuration, layout: KVLayout(configuration, precision: model.precision),
      longest: rows.longest, slots: pool.width)
    let count = rows.count
    func buffer(_ width: Int) -> FloatBuffer { FloatBuffer(uninitialized: count * width) }
    stream = buffer(configuration.width)
    normalized = buffer(configuration.width)
    queries = buffer(configuration.queryWidth)
    keys = buffer(configuration.kvWidth)
    values = buffer(configuration.kvWidth)
    attended = buffer(configuration.queryWidth)
    gate = buffer(configuration.feedForwardWidth)
    up = buffer(configuration.feedForwardWidth)
    projected = buffer(configuration.width)
    cosines = buffer(configuration.headWidth / 2)
    sines = buffer(configuration.headWidth / 2)
    let weights = weights
    func codes(_ group: ProjectionGroup, _ width: Int) -> QuantizedRows? {
      weights.usesCodes(group) ? QuantizedRows(room: count, columns: width) : nil
    }
    let attentionCodes = codes(.qkv, configuration.width)
    normalizedCodes = attentionCodes ?? codes(.gateUp, configuration.width)
    attendedCodes = codes(.output, configuration.queryWidth)
    gateCodes = codes(.down, configuration.feedForwardWidth)
    let outputs = [queries, keys, values, projected, gate, up, projected]
    products = weights.products { outputs[$0.index].pointer }
    setAngles()
  }

  /// The rotary embedding's angles of each row.
  private func setAngles() {
    let half = configuration.headWidth / 2
    let scaling = configuration.ropeScaling
    let frequencies = scaling.frequencies(
      base: configuration.ropeBase, headWidth: configuration.headWidth)
    let magnitude = scaling.magnitude
    for chunk in rows.chunks {
      for (offset, row) in chunk.rows.enumerated() {
        for i in 0..<half {
          let angle = Float(chunk.position + offset) * frequencies[i]
          cosines.pointer[row * half + i] = magnitude * cos(angle)
          sines.pointer[row * half + i] = magnitude * sin(angle)
        }
      }
    }
  }

  /// Computes the wanted rows' residual stream after the last layer, and the caches' new positions.
  func run() {
    embed()
    eachChunk(rows, work: configuration.width) {
      self.normalize($0, self.model.layers[0].attentionNorm)
    }
    var rows = rows
    for number in 0..<configuration.layers {
      guard let left = attend(layer: number, rows) else { break }
      rows = left
      feedForward(layer: number, rows)
    }
    for segment in self.rows.segments { segment.cache.advance(by: segment.count) }
  }

  private func embed() {
    for segment in rows.segments {
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
  }

  // MARK: Attention

  /// Adds a layer's attention to the stream and normalises that for the feed-forward part. Returns
  /// the rows to go on with: in the last layer the wanted ones alone, nil where there are none.
  private func attend(layer number: Int, _ rows: PassRows) -> PassRows? {
    let layer = model.layers[number]
    multiply(.qkv, layer: number, normalized, normalizedCodes, rows)
    var rows = rows
    let kvHeads = configuration.kvHeads
    let narrows = number == configuration.layers - 1 && rows.wantedCount < rows.count
    if rows.areIndependent && rows.chunks.count >= pool.width && !narrows {
      let chunks = rows.chunks
      pool.parallelSlots(chunks.count) { slot, index in
        self.prepare(chunks[index], layer, number)
        for head in 0..<kvHeads { self.attend(chunks[index], head, layer: number, slot: slot) }
        self.attendedCodes?.round(self.attended.pointer, rows: chunks[index].rows)
      }
    } else {
      eachChunk(rows, work: 2 * configuration.queryWidth) { self.prepare($0, layer, number) }
      if narrows {
        guard rows.wantedCount > 0 else { return nil }
        rows.moveWanted(queries, width: configuration.queryWidth)
        rows.moveWanted(stream, width: configuration.width)
        rows = rows.wanted()
      }
      let chunks = rows.chunks
      let tasks = chunks.count * kvHeads
      // A row that sees few positions is done before another thread has joined in.
      if rows.attentionWork < 64 {
        for task in 0..<tasks {
          attend(chunks[task / kvHeads], task % kvHeads, layer: number, slot: 0)
        }
      } else {
        // Later rows see more positions: begin with the longest tasks.
        pool.parallelSlots(tasks) { slot, index in
          let task = tasks - 1 - index
          self.attend(chunks[task / kvHeads], task % kvHeads, layer: number, slot: slot)
        }
      }
      if let attendedCodes {
        eachChunk(rows, work: configuration.queryWidth) { chunk in
          attendedCodes.round(self.attended.pointer, rows: chunk.rows)
        }
      }
    }
    multiply(.output, layer: number, attended, attendedCodes, rows)
    eachChunk(rows, work: 2 * configuration.width) { chunk in
      chunk.applyAdapter(
        layer: number, .output, self.attended, to: self.projected, self.configuration)
      self.addProjected(chunk)
      self.normalize(chunk, layer.feedForwardNorm)
    }
    return rows
  }

  /// Everything between the products and attention: adapters, biases, normalised heads, rotation;
  /// and the keys and values into the cache.
  private func prepare(_ chunk: RowChunk, _ layer: LlamaLayer, _ number: Int) {
    for (projection, y) in [(Projection.query, queries), (.key, keys), (.value, values)] {
      chunk.applyAdapter(layer: number, projection, normalized, to: y, configuration)
      if let bias = layer.bias(projection) { chunk.add(bias, layer: number, projection, to: y) }
    }
    if let weight = layer.queryNorm { normalizeHeads(chunk, queries, weight, configuration.heads) }
    if let weight = layer.keyNorm { normalizeHeads(chunk, keys, weight, configuration.kvHeads) }
    let half = configuration.headWidth / 2
    for row in chunk.rows {
      let (cosine, sine) = (cosines.pointer + row * half, sines.pointer + row * half)
      Elementwise.rotate(
        queries.pointer + row * configuration.queryWidth, cosines: cosine, sines: sine,
        heads: configuration.heads, headWidth: configuration.headWidth)
      Elementwise.rotate(
        keys.pointer + row * configuration.kvWidth, cosines: cosine, sines: sine,
        heads: configuration.kvHeads, headWidth: configuration.headWidth)
    }
    attention.store(chunk, layer: number, keys: keys, values: values)
  }

  private func attend(_ chunk: RowChunk, _ kvHead: Int, layer: Int, slot: Int) {
    attention.compute(
      chunk, kvHead: kvHead, layer: layer, queries: queries, into: attended, slot: slot)
  }

  /// RMSNorm of each head of queries or keys, in place.
  private func normalizeHeads(
    _ chunk: RowChunk, _ x: FloatBuffer, _ weight: [Float], _ heads: Int
  ) {
    for head in chunk.rows.lowerBound * heads..<chunk.rows.upperBound * heads {
      let place = x.pointer + head * weight.count
      Elementwise.rmsNorm(
        place, weight: weight, into: place, count: weight.count,
        epsilon: configuration.rmsEpsilon)
    }
  }

  // MARK: Feed-forward

  /// Adds a layer's feed-forward part to the stream and normalises that for the next layer.
  private func feedForward(layer number: Int, _ rows: PassRows) {
    multiply(.gateUp, layer: number, normalized, normalizedCodes, rows)
    let width = configuration.feedForwardWidth
    // An exponential for each number.
    eachChunk(rows, work: 4 * width) { chunk in
      for (projection, y) in [(Projection.gate, self.gate), (.up, self.up)] {
        chunk.applyAdapter(
          layer: number, projection, self.normalized, to: y, self.configuration)
      }
      let start = chunk.rows.lowerBound * width
      Elementwise.siluMultiply(
        gate: self.gate.pointer + start, up: self.up.pointer + start,
        into: self.gate.pointer + start, count: chunk.rows.count * width)
      self.gateCodes?.round(self.gate.pointer, rows: chunk.rows)
    }
    multiply(.down, layer: number, gate, gateCodes, rows)
    let isLast = number == configuration.layers - 1
    let norm = isLast ? nil : model.layers[number + 1].attentionNorm
    eachChunk(rows, work: 2 * configuration.width) { chunk in
      chunk.applyAdapter(
        layer: number, .down, self.gate, to: self.projected, self.configuration)
      self.addProjected(chunk)
      if let norm { self.normalize(chunk, norm) }
    }
  }

  // MARK: Steps

  /// Calls `body` for every chunk; on several threads where that pays: another thread takes as long
  /// to join in as some thousand numbers take. `work` is the numbers of a row.
  private func eachChunk(_ rows: PassRows, work: Int, _ body: (RowChunk) -> Void) {
    let chunks = rows.chunks
    if rows.count * work < 8192 {
      for chunk in chunks { body(chunk) }
    } else {
      pool.parallelRanges(chunks.count) { range in
        for index in range { body(chunks[index]) }
      }
    }
  }

  private func addProjected(_ chunk: RowChunk) {
    let width = configuration.width
    let start = chunk.rows.lowerBound * width
    Elementwise.addScaled(
      1, projected.pointer + start, to: stream.pointer + start, count: chunk.rows.count * width)
  }

  private func normalize(_ chunk: RowChunk, _ weight: [Float]) {
    let width = configuration.width
    weight.withUnsafeBufferPointer { weight in
      guard let weight = weight.baseAddress else { return }
      for row in chunk.rows {
        Elementwise.rmsNorm(
          stream.pointer + row * width, weight: weight, into: normalized.pointer + row * width,
          count: width, epsilon: configuration.rmsEpsilon)
      }
    }
    normalizedCodes?.round(normalized.pointer, rows: chunk.rows)
  }

  /// The base model's products of a group for all rows at once. What adapters add comes after, row
  /// by row; what they scale the input of is computed from a copy.
  private func multiply(
    _ group: ProjectionGroup, layer: Int, _ x: FloatBuffer, _ codes: QuantizedRows?,
    _ rows: PassRows
  ) {
    if let codes, !products.isEmpty, rows.scaledInputs.isEmpty {
      let first = layer * Projection.allCases.count + group.indices.lowerBound
      products.withUnsafeBufferPointer { products in
        PanelProduct.compute(
          UnsafeBufferPointer(rebasing: products[first..<first + group.indices.count]), codes,
          count: rows.count, pool: pool)
      }
      return
    }
    let outputs = [queries, keys, values, projected, gate, up, projected]
    func compute(_ x: FloatBuffer, _ codes: QuantizedRows?, _ projections: [Projection]) {
      guard let first = projections.first else { return }
      Product.compute(
        x.pointer, rounded: codes, count: rows.count,
        columns: first.inputWidth(in: configuration),
        projections.map { (weights[layer, $0], outputs[$0.index].pointer) }, pool: pool)
    }
    compute(x, codes, group.members.filter { !rows.scaledInputs.contains($0) })
    for projection in group.members where rows.scaledInputs.contains(projection) {
      compute(rows.scaledInput(x, layer: layer, projection, configuration), nil, [projection])
    }
  }
}
