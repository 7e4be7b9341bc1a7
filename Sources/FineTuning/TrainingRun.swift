// One adapter in training: gradients of a batch, optimiser steps and losses.

import Foundation
import LinearAlgebra
import RandomNumbers

/// Owns parameters, gradients and the memory of passes. Not to be used by two threads at once.
final class TrainingRun {
  let weights: FrozenWeights
  let layout: AdapterLayout
  let scaling: Float
  let dropout: Float
  let plan: MemoryPlan
  var parameters: FloatBuffer
  let gradients: FloatBuffer
  private let workspace: PassWorkspace
  private let optimizer: AdamW
  private var steps = 0
  private let seed: UInt64

  /// - Parameters:
  ///   - longest: tokens of the longest example that will be seen.
  ///   - batchRows: tokens of the largest batch.
  init(
    weights: FrozenWeights, layout: AdapterLayout, scaling: Float, parameters: FloatBuffer,
    dropout: Float, seed: UInt64, longest: Int, batchRows: Int, memoryLimit: Int
  ) throws {
    let virtualTokens = (weights.merged?.virtualTokenCount ?? 0) + layout.virtualTokens
    let longest = longest + virtualTokens
    plan = try MemoryPlan(
      weights: weights, layout: layout, drops: dropout > 0, longest: longest,
      batchRows: batchRows + virtualTokens, limit: memoryLimit)
    self.weights = weights
    self.layout = layout
    self.scaling = scaling
    self.dropout = dropout
    self.seed = seed
    self.parameters = parameters
    gradients = FloatBuffer(zeros: layout.count)
    workspace = PassWorkspace(weights: weights, longest: longest)
    optimizer = AdamW(count: layout.count)
  }

  /// Sets `gradients` to those of the examples' mean token loss and returns that loss.
  ///
  /// The common prefix of a pass is computed once, but not with dropout: each example is to draw
  /// masks of its own.
  func gradient(of examples: [TrainingExample]) -> Double {
    ComputeGate.shared.background { computeGradient(of: examples) }
  }

  private func computeGradient(of examples: [TrainingExample]) -> Double {
    gradients.fill(0)
    let count = examples.reduce(0) { $0 + $1.lossCount }
    var sum = 0.0
    var generator = SplitMix64(seed: seed ^ (UInt64(steps) &* 0x2545_F491_4F6C_DD1D))
    for pack in packs(examples, sharePrefix: dropout == 0) {
      let adapter = AdapterTensors(
        layout: layout, scaling: scaling, parameters: parameters, gradients: gradients,
        dropout: dropout, dropoutKey: generator.next())
      let pass = TransformerPass(
        workspace, pack.batch, adapter: adapter, keepLayers: plan.keepsLayers)
      let x = pass.forward()
      let losses = LossPass(workspace: workspace, batch: pack.batch)
        .run(x, d: pass.dResidual, factor: 1 / Float(count))
      sum += losses.reduce(0, +)
      pass.backward(pass.dResidual)
    }
    return sum / Double(count)
  }

  /// Virtual tokens before every example: those of the adapter in the weights, then the trained ones.
  private var virtualTokens: Int {
    (weights.merged?.virtualTokenCount ?? 0) + layout.virtualTokens
  }

  /// One optimiser step on the gradients.
  /// - Returns: the gradient's norm before clipping.
  func step(rate: Float, decay: Float, clip: Float) -> Double {
    steps += 1
    return optimizer.step(
      parameters, gradients: gradients, rate: rate, decay: decay, clip: clip)
  }

  /// Losses of the examples with the present parameters, without dropout.
  func loss(of examples: [TrainingExample]) -> HeldOutLoss {
    Self.loss(
      of: examples, packs: packs(examples, sharePrefix: true), workspace: workspace,
      adapter: AdapterTensors(
        layout: layout, scaling: scaling, parameters: parameters, gradients: nil))
  }

  private func packs(
    _ examples: [TrainingExample], sharePrefix: Bool
  ) -> [(first: Int, batch: PackedBatch)] {
    PackedBatch.split(
      examples, rowLimit: plan.rowsPerPass, sharePrefix: sharePrefix, virtualTokens: virtualTokens)
  }

  static func loss(
    of examples: [TrainingExample], packs: [(first: Int, batch: PackedBatch)],
    workspace: PassWorkspace, adapter: AdapterTensors?
  ) -> HeldOutLoss {
    var sums = [Double](repeating: 0, count: examples.count)
    for pack in packs {
      let pass = TransformerPass(workspace, pack.batch, adapter: adapter, keepLayers: false)
      let losses = ComputeGate.shared.background {
        LossPass(workspace: workspace, batch: pack.batch).run(pass.forward())
      }
      for (loss, value) in zip(pack.batch.losses, losses) {
        sums[pack.first + loss.example] += value
      }
    }
    let count = examples.reduce(0) { $0 + $1.lossCount }
    return HeldOutLoss(
      examples: zip(sums, examples).map { $0 / Double(max(1, $1.lossCount)) },
      mean: sums.reduce(0, +) / Double(max(1, count)))
  }
}

/// Losses of examples that were not trained on, in nats per token of the completion.
public struct HeldOutLoss: Sendable, Equatable, Codable {
  /// Each example's mean token loss.
  public let examples: [Double]
  /// The mean over all tokens.
  public let mean: Double
}
