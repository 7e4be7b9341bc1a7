// AdamW over one flat array of parameters, the learning rate's schedule and gradient clipping.

import CKernels
import Foundation
import LinearAlgebra
import Synchronization

/// The factor on the learning rate: a linear rise from 0 over `warmupSteps`, then a linear fall to
/// 0 at `steps`.
struct LinearSchedule: Sendable {
  var warmupSteps: Int
  var steps: Int

  /// `step` counts from 0; the first step of a warm-up has factor 0.
  func factor(_ step: Int) -> Float {
    if step < warmupSteps { return Float(step) / Float(max(1, warmupSteps)) }
    return max(0, Float(steps - step) / Float(max(1, steps - warmupSteps)))
  }
}

/// AdamW (Loshchilov and Hutter 2019, algorithm 2): weight decay apart from the gradient.
final class AdamW {
  static let beta1: Float = 0.9
  static let beta2: Float = 0.999
  static let epsilon: Float = 1e-8

  private let mean: FloatBuffer
  private let variance: FloatBuffer
  private var steps = 0

  init(count: Int) {
    mean = FloatBuffer(zeros: count)
    variance = FloatBuffer(zeros: count)
  }

  /// One step with the gradient scaled to a norm of at most `clip`.
  /// - Returns: the gradient's norm before clipping.
  func step(
    _ parameters: FloatBuffer, gradients: FloatBuffer, rate: Float, decay: Float, clip: Float
  ) -> Double {
    steps += 1
    let norm = Self.norm(gradients)
    // The small number is that of PyTorch's clip_grad_norm_.
    let factor = Float(min(1, Double(clip) / (norm + 1e-6)))
    let correction1 = Float(1 - pow(Double(Self.beta1), Double(steps)))
    let correction2 = Float(1 - pow(Double(Self.beta2), Double(steps)))
    ThreadPool.shared.parallelRanges(parameters.count, multiple: 16) { range in
      let start = range.lowerBound
      training_adamw(
        parameters.pointer + start, mean.pointer + start, variance.pointer + start,
        gradients.pointer + start, range.count, factor, rate, Self.beta1, Self.beta2, Self.epsilon,
        decay, correction1, correction2)
    }
    return norm
  }

  /// The Euclidean norm. Its parts are summed in order, so that it does not depend on timing.
  static func norm(_ gradients: FloatBuffer) -> Double {
    let part = 1 << 16
    let parts = (gradients.count + part - 1) / part
    var sums = [Double](repeating: 0, count: parts)
    sums.withUnsafeMutableBufferPointer { buffer in
      // Disjoint elements, one writer each.
      nonisolated(unsafe) let buffer = buffer
      ThreadPool.shared.parallel(parts) { index in
        let start = index * part
        buffer[index] = training_sum_of_squares(
          gradients.pointer + start, min(part, gradients.count - start))
      }
    }
    return sums.reduce(0, +).squareRoot()
  }
}
