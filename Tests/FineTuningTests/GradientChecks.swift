// How gradients and optimiser steps are compared: with slopes of the loss, and with recorded ones.

import Foundation
import LinearAlgebra
import RandomNumbers
import Testing

@testable import FineTuning
@testable import LanguageModel

/// The loss and gradients of a fixed batch, as a fixture has them.
struct RecordedGradients: Decodable, Sendable {
  struct Tensor: Decodable, Sendable {
    let layer: Int
    /// nil for virtual tokens.
    let projection: Projection?
    let kind: String
    let norm: Double
    let places: [Int]
    let values: [Double]
  }

  let loss: Double
  let gradientNorm: Double
  let tensors: [Tensor]
}

/// Optimiser steps, as a fixture has them.
struct RecordedSteps: Decodable, Sendable {
  let batches: [[Int]]
  let lr: Float
  let weightDecay: Float
  let clip: Float
  let warmupSteps: Int
  let losses: [Double]
  let gradientNorms: [Double]
  let lossAfter: Double
}

extension TrainingRun {
  /// Expects the slope of the loss along a direction within `range` to be what the gradients say,
  /// which are those at the present parameters.
  func expectSlope(
    _ name: String, in range: Range<Int>, gradients: [Float], examples: [TrainingExample],
    using generator: inout SplitMix64, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let start = range.map { parameters.pointer[$0] }
    // Along the gradient and a random direction, so that the slope is not near zero.
    let norm = gradients[range].reduce(0) { $0 + $1 * $1 }.squareRoot()
    let direction = range.map {
      gradients[$0] / norm + 0.3 * generator.nextUniform() / Float(range.count).squareRoot()
    }
    let expected = zip(range, direction).reduce(0.0) {
      $0 + Double(gradients[$1.0]) * Double($1.1)
    }
    let step: Float = 0.01
    func loss(_ sign: Float) -> Double {
      for (offset, index) in range.enumerated() {
        parameters.pointer[index] = start[offset] + sign * step * direction[offset]
      }
      return gradient(of: examples)
    }
    let slope = (loss(1) - loss(-1)) / Double(2 * step)
    for (offset, index) in range.enumerated() { parameters.pointer[index] = start[offset] }
    #expect(
      abs(slope - expected) < 1e-2 * abs(expected) + 1e-4, "\(name): \(slope) against \(expected)",
      sourceLocation: sourceLocation)
  }

  /// Expects a batch's loss and gradients within 1e-3 of the recorded ones.
  func expectGradients(_ recorded: RecordedGradients, of examples: [TrainingExample]) throws {
    let loss = gradient(of: examples)
    #expect(abs(loss - recorded.loss) < 1e-3 * recorded.loss)
    #expect(abs(AdamW.norm(gradients) - recorded.gradientNorm) < 1e-3 * recorded.gradientNorm)
    var worst = 0.0
    for tensor in recorded.tensors {
      let range = try #require(layout.range(layer: tensor.layer, tensor.projection, tensor.kind))
      let ours = Array(gradients.elements[range])
      let norm = ours.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
      #expect(abs(norm - tensor.norm) < 1e-3 * tensor.norm)
      // A sampled element may be near zero by cancellation: the tensor's own scale counts.
      let scale = tensor.norm / Double(ours.count).squareRoot()
      for (place, value) in zip(tensor.places, tensor.values) {
        let error = abs(Double(ours[place]) - value) / max(abs(value), scale)
        worst = max(worst, error)
        #expect(
          error < 1e-3,
          "layer \(tensor.layer) \(tensor.projection?.rawValue ?? "") \(tensor.kind)[\(place)]")
      }
    }
    print("loss \(loss) against \(recorded.loss), largest gradient error \(worst)")
  }

  /// Takes the recorded steps and expects the losses within `tolerance` of the recorded ones.
  func expectSteps(_ recorded: RecordedSteps, of examples: [TrainingExample], tolerance: Double) {
    let schedule = LinearSchedule(
      warmupSteps: recorded.warmupSteps, steps: recorded.batches.count)
    var worst = 0.0
    for (number, batch) in recorded.batches.enumerated() {
      let loss = gradient(of: batch.map { examples[$0] })
      let norm = step(
        rate: recorded.lr * schedule.factor(number), decay: recorded.weightDecay,
        clip: recorded.clip)
      #expect(abs(loss - recorded.losses[number]) < tolerance * max(1, recorded.losses[number]))
      #expect(abs(norm - recorded.gradientNorms[number]) < 1e-2 * recorded.gradientNorms[number])
      worst = max(worst, abs(loss - recorded.losses[number]))
    }
    let after = self.loss(of: examples).mean
    #expect(abs(after - recorded.lossAfter) < tolerance)
    print("largest difference of a loss \(worst); after \(after), \(recorded.lossAfter)")
  }
}
