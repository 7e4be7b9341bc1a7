// The transformer's forward and backward pass over one packed batch, layer by layer.
//
// Only an adapter's numbers get gradients. What a layer's backward pass cannot cheaply compute
// again is kept from its forward pass; norms, the gated activation and attention's probabilities
// are computed again. Shapes: T rows, W width, A attention width, F feed-forward width.

import LanguageModel
import LinearAlgebra

/// One batch's way through the layers.
struct TransformerPass {
  let workspace: PassWorkspace
  let batch: PackedBatch
  let adapter: AdapterTensors?
  let keepsLayers: Bool
  private let linear: LinearPass
  private let scratch: PassWorkspace.Scratch
  private let attention: AttentionPass

  private var shape: TransformerShape { workspace.weights.shape }
  private var rows: Int { batch.rows }

  /// - Parameter keepLayers: keep each layer's activations, as a backward pass without recomputation
  ///   needs; it works without too and then runs each layer forward again.
  init(_ workspace: PassWorkspace, _ batch: PackedBatch, adapter: AdapterTensors?, keepLayers: Bool)
  {
    let productWidth = adapter?.layout.productWidth ?? 0
    let scaleWidth = adapter?.layout.scaleWidth ?? 0
    let trains = adapter?.gradients != nil
    workspace.prepare(
      batch, productWidth: productWidth, scaleWidth: scaleWidth,
      inputCount: trains ? workspace.weights.shape.layers + 1 : 2, keepLayers: keepLayers,
      drops: (adapter?.dropout ?? 0) > 0)
    self.workspace = workspace
    self.batch = batch
    self.adapter = adapter
    keepsLayers = keepLayers
    scratch = workspace.scratch(
      rows: batch.rows, productWidth: productWidth, scaleWidth: scaleWidth)
    attention = workspace.attention(batch)
    linear = LinearPass(
      weights: workspace.weights, adapter: adapter,
      weightScratch: workspace.weightScratch.pointer, dropoutScratch: scratch.dropped,
      productScratch: scratch.products, scaleScratch: scratch.scaled,
      sumScratch: scratch.sums)
  }

  /// Room for the gradient of `forward`'s result, [T × W].
  var dResidual: Floats { scratch.dResidual }

  /// Runs all layers; the result is the residual stream [T × W] before the last norm, of which only the
  /// rows with a loss are defined.
  func forward() -> Floats {
    forEachRow(rows) { row in
      let token = Int(batch.tokens[row])
      let x = input(0) + row * shape.width
      if token >= 0 {
        workspace.weights.embedding.expand(rows: token..<token + 1, into: x)
      } else if let embedding = virtualToken(token) {
        x.update(from: embedding, count: shape.width)
      }
    }
    for layer in 0..<shape.layers {
      forward(layer, x: input(layer), stash: stash(layer), out: input(layer + 1))
    }
    return input(shape.layers)
  }

  /// Adds the factors' gradients, given d [T × W], the gradient of `forward`'s result, which is
  /// overwritten.
  func backward(_ d: Floats) {
    for layer in stride(from: shape.layers - 1, through: 0, by: -1) {
      let stash = stash(layer)
      if !keepsLayers { forward(layer, x: input(layer), stash: stash, out: nil) }
      backward(layer, x: input(layer), stash: stash, d: d)
    }
    guard let adapter, let gradients = adapter.gradients, trainsPrompt else { return }
    let first = gradients.pointer + adapter.layout.layerCount * shape.layers
    for (row, token) in batch.tokens.enumerated() where token < 0 {
      let index = -1 - Int(token) - frozenVirtualTokens
      if index < 0 { continue }
      Elementwise.addScaled(
        1, d + row * shape.width, to: first + index * shape.width, count: shape.width)
    }
  }

  private var trainsPrompt: Bool { (adapter?.layout.virtualTokens ?? 0) > 0 }
  private var frozenVirtualTokens: Int { workspace.weights.merged?.virtualTokenCount ?? 0 }

  /// The embedding of virtual token i, which a batch has as the token -1 - i: those of the adapter
  /// in the weights first.
  private func virtualToken(_ token: Int) -> Floats? {
    let index = -1 - token
    if let frozen = workspace.weights.merged?.virtualTokens, index < frozenVirtualTokens {
      return frozen.pointer + index * shape.width
    }
    guard let adapter, trainsPrompt else { return nil }
    return adapter.parameters.pointer + adapter.layout.layerCount * shape.layers
      + (index - frozenVirtualTokens) * shape.width
  }

  /// The rows that go on after a layer's attention, nil for all: in the last layer those with a loss.
  /// Of the others only keys and values there are of use.
  private func rowsKept(_ layer: Int) -> [Int]? {
    layer == shape.layers - 1 ? batch.losses.map(\.row) : nil
  }

  /// The kept rows of x one after the other in y, or x itself where all are kept.
  private func gather(_ x: Floats, _ width: Int, _ kept: [Int]?, into y: Floats) -> Floats {
    guard let kept else { return x }
    for (index, row) in kept.enumerated() {
      (y + index * width).update(from: x + row * width, count: width)
    }
    return y
  }

  /// Puts what ``gather`` laid together back in its rows of y.
  private func scatter(_ x: Floats, _ width: Int, _ kept: [Int]?, into y: Floats) {
    for (index, row) in (kept ?? []).enumerated() {
      (y + row * width).update(from: x + index * width, count: width)
    }
  }

  private func input(_ layer: Int) -> Floats {
    let count = workspace.inputs.count
    return workspace.inputs[count > shape.layers ? layer : layer % count].pointer
  }

  private func stash(_ layer: Int) -> PassWorkspace.Stash {
    workspace.stash(keepsLayers ? layer : 0, rows: rows)
  }

  /// out = x + attention(norm(x)), then + feedForward(norm(that)). Without `out` the stash is filled
  /// and the last product left out.
  private func forward(_ layer: Int, x: Floats, stash: PassWorkspace.Stash, out: Floats?) {
    let weights = workspace.weights.layers[layer]
    norm(
      x, weights.attentionNorm, into: scratch.normed, inverseRMS: stash.inverseRMS, rows: self.rows)
    linear.forward(
      .qkv, layer: layer, x: scratch.normed, rows: self.rows, y: stash.qkv,
      products: products(stash, .qkv))
    if let bias = weights.qkvBias { add(bias, to: stash.qkv) }
    normalizeHeads(weights, stash)
    rotate(stash.qkv, inverse: false)
    attention.forward(qkv: stash.qkv, out: stash.attention, logSums: stash.logSums)
    let kept = rowsKept(layer)
    let rows = kept?.count ?? self.rows
    let attended = gather(stash.attention, shape.attentionWidth, kept, into: scratch.keyParts)
    let before = gather(x, shape.width, kept, into: stash.middle)
    if before == x { stash.middle.update(from: x, count: rows * shape.width) }
    linear.forward(
      .output, layer: layer, x: attended, rows: rows, y: stash.middle, accumulate: true,
      products: products(stash, .output))
    norm(
      stash.middle, weights.feedForwardNorm, into: scratch.normed,
      inverseRMS: stash.inverseRMS + self.rows, rows: rows)
    linear.forward(
      .gateUp, layer: layer, x: scratch.normed, rows: rows, y: stash.gateUp,
      products: products(stash, .gateUp))
    activate(stash.gateUp, rows: rows)
    guard let out else {
      linear.adapterProducts(
        .down, layer: layer, x: scratch.activated, rows: rows, products: products(stash, .down))
      return
    }
    let y = kept == nil ? out : scratch.dNormed
    y.update(from: stash.middle, count: rows * shape.width)
    linear.forward(
      .down, layer: layer, x: scratch.activated, rows: rows, y: y, accumulate: true,
      products: products(stash, .down))
    scatter(y, shape.width, kept, into: out)
  }

  /// Turns d from the gradient of the layer's output into that of its input; in layer 0 nothing
  /// below the first adapted projection is computed, unless virtual tokens are trained. The stash's
  /// gateUp becomes its own gradient.
  private func backward(_ layer: Int, x: Floats, stash: PassWorkspace.Stash, d: Floats) {
    let weights = workspace.weights.layers[layer]
    // Whether anything before a group still wants a gradient.
    func ends(at group: ProjectionGroup) -> Bool {
      layer == 0 && !trainsPrompt
        && ProjectionGroup.allCases.allSatisfy {
          $0.rawValue >= group.rawValue || (adapter?.layout.sites($0).isEmpty ?? true)
        }
    }
    let kept = rowsKept(layer)
    let rows = kept?.count ?? self.rows
    // dQKV is not in use before attention's own backward pass.
    let dKept = gather(d, shape.width, kept, into: scratch.dQKV)
    activate(stash.gateUp, rows: rows)
    linear.backward(
      .down, layer: layer, dy: dKept, x: scratch.activated, rows: rows,
      products: products(stash, .down),
      dx: ends(at: .down) && !scalesInput(.down) ? nil : scratch.dActivated)
    if ends(at: .down) { return }
    activateBackward(stash.gateUp, rows: rows)
    norm(
      stash.middle, weights.feedForwardNorm, into: scratch.normed, inverseRMS: nil, rows: rows)
    linear.backward(
      .gateUp, layer: layer, dy: stash.gateUp, x: scratch.normed, rows: rows,
      products: products(stash, .gateUp), dx: ends(at: .gateUp) ? nil : scratch.dNormed)
    if ends(at: .gateUp) { return }
    normBackward(
      stash.middle, weights.feedForwardNorm, inverseRMS: stash.inverseRMS + self.rows,
      addingTo: dKept, rows: rows)
    let dAttended = kept == nil ? scratch.dAttention : scratch.valueParts
    linear.backward(
      .output, layer: layer, dy: dKept,
      x: gather(stash.attention, shape.attentionWidth, kept, into: scratch.keyParts), rows: rows,
      products: products(stash, .output),
      dx: ends(at: .output) && !scalesInput(.output) ? nil : dAttended)
    if ends(at: .output) { return }
    // The other rows of d are zero from the loss on.
    scatter(dKept, shape.width, kept, into: d)
    if kept != nil {
      forEachRow(self.rows) { row in
        (scratch.dAttention + row * shape.attentionWidth)
          .update(repeating: 0, count: shape.attentionWidth)
      }
    }
    scatter(dAttended, shape.attentionWidth, kept, into: scratch.dAttention)
    attention.backward(
      qkv: stash.qkv, out: stash.attention, logSums: stash.logSums, dOut: scratch.dAttention,
      dQKV: scratch.dQKV, keyParts: scratch.keyParts, valueParts: scratch.valueParts)
    rotate(scratch.dQKV, inverse: true)
    normalizeHeadsBackward(weights, stash)
    norm(x, weights.attentionNorm, into: scratch.normed, inverseRMS: nil, rows: self.rows)
    linear.backward(
      .qkv, layer: layer, dy: scratch.dQKV, x: scratch.normed, rows: self.rows,
      products: products(stash, .qkv), dx: ends(at: .qkv) ? nil : scratch.dNormed)
    if ends(at: .qkv) { return }
    normBackward(
      x, weights.attentionNorm, inverseRMS: stash.inverseRMS, addingTo: d, rows: self.rows)
  }

  private func scalesInput(_ group: ProjectionGroup) -> Bool {
    adapter?.layout.scales(.input, group) ?? false
  }

  private func products(_ stash: PassWorkspace.Stash, _ group: ProjectionGroup) -> Floats {
    guard let layout = adapter?.layout else { return stash.products }
    let before = layout.sites[..<group.rawValue].reduce(0) { $0 + $1.count }
    return stash.products + rows * before * layout.rank
  }

  private func norm(
    _ x: Floats, _ weight: [Float], into y: Floats, inverseRMS: Floats?, rows: Int
  ) {
    let width = shape.width
    forEachRow(rows) { row in
      let inverse = Elementwise.rmsNorm(
        x + row * width, weight: weight, into: y + row * width, count: width,
        epsilon: shape.rmsEpsilon)
      if let inverseRMS { inverseRMS[row] = inverse }
    }
  }

  private func normBackward(
    _ x: Floats, _ weight: [Float], inverseRMS: Floats, addingTo d: Floats, rows: Int
  ) {
    let width = shape.width
    forEachRow(rows) { row in
      Elementwise.rmsNormBackward(
        x + row * width, weight: weight, dy: scratch.dNormed + row * width,
        inverseRMS: inverseRMS[row], addingTo: d + row * width, count: width)
    }
  }

  private func add(_ bias: [Float], to qkv: Floats) {
    forEachRow(self.rows) { row in
      Elementwise.addScaled(1, bias, to: qkv + row * bias.count, count: bias.count)
    }
  }

  /// RMSNorm of each query and key head, where the architecture has it; keeps what was before.
  private func normalizeHeads(_ weights: FrozenWeights.Layer, _ stash: PassWorkspace.Stash) {
    guard let queryNorm = weights.queryNorm, let keyNorm = weights.keyNorm else { return }
    let width = shape.headWidth
    let rawWidth = PassWorkspace.rawWidth(shape)
    forEachRow(self.rows) { row in
      let qkv = stash.qkv + row * shape.qkvWidth
      let raw = stash.raw + row * rawWidth
      raw.update(from: qkv, count: rawWidth)
      for head in 0..<shape.heads + shape.kvHeads {
        Elementwise.rmsNorm(
          raw + head * width, weight: head < shape.heads ? queryNorm : keyNorm,
          into: qkv + head * width, count: width, epsilon: shape.rmsEpsilon)
      }
    }
  }

  /// Turns the gradient of the normalised heads in dQKV into that of the heads before.
  private func normalizeHeadsBackward(
    _ weights: FrozenWeights.Layer, _ stash: PassWorkspace.Stash
  ) {
    guard let queryNorm = weights.queryNorm, let keyNorm = weights.keyNorm else { return }
    let width = shape.headWidth
    let rawWidth = PassWorkspace.rawWidth(shape)
    forEachRow(self.rows) { row in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: width) { dy in
        guard let dy = dy.baseAddress else { return }
        for head in 0..<shape.heads + shape.kvHeads {
          let raw = stash.raw + row * rawWidth + head * width
          let d = scratch.dQKV + row * shape.qkvWidth + head * width
          let squares = Elementwise.dot(raw, raw, count: width)
          dy.update(from: d, count: width)
          d.update(repeating: 0, count: width)
          Elementwise.rmsNormBackward(
            raw, weight: head < shape.heads ? queryNorm : keyNorm, dy: dy,
            inverseRMS: 1 / (squares / Float(width) + shape.rmsEpsilon).squareRoot(),
            addingTo: d, count: width)
        }
      }
    }
  }

  /// Rotates queries and keys, which lie side by side.
  private func rotate(_ qkv: Floats, inverse: Bool) {
    let half = shape.headWidth / 2
    workspace.angles.cosines.withUnsafeBufferPointer { cosines in
      workspace.angles.sines.withUnsafeBufferPointer { sines in
        guard let cosines = cosines.baseAddress, let sines = sines.baseAddress else { return }
        forEachRow(rows) { row in
          let place = batch.positions[row] * half
          Elementwise.rotate(
            qkv + row * shape.qkvWidth, cosines: cosines + place, sines: sines + place,
            heads: shape.heads + shape.kvHeads, headWidth: shape.headWidth, inverse: inverse)
        }
      }
    }
  }

  private func activate(_ gateUp: Floats, rows: Int) {
    let width = shape.feedForwardWidth
    forEachRow(rows) { row in
      let gate = gateUp + row * 2 * width
      Elementwise.siluMultiply(
        gate: gate, up: gate + width, into: scratch.activated + row * width, count: width)
    }
  }

  private func activateBackward(_ gateUp: Floats, rows: Int) {
    let width = shape.feedForwardWidth
    forEachRow(rows) { row in
      let gate = gateUp + row * 2 * width
      Elementwise.siluMultiplyBackward(
        gate: gate, up: gate + width, dOut: scratch.dActivated + row * width, dGate: gate,
        dUp: gate + width, count: width)
    }
  }

  private func forEachRow(_ rows: Int, _ body: (Int) -> Void) {
    ThreadPool.shared.parallelRanges(rows) { range in
      for row in range { body(row) }
    }
  }
}
