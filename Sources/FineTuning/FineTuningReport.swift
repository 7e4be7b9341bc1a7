// The figures of one fine-tuning, under the JSON keys of the PyTorch + PEFT peer, so that both can
// be put side by side.

import Foundation
import LinearAlgebra

/// Figures of a finished training.
public struct FineTuningReport: Sendable, Equatable, Codable {
  /// Examples gone through, each epoch counted.
  public var examples: Int
  /// Their tokens.
  public var tokens: Int
  /// Optimiser steps done.
  public var steps: Int
  /// Wall-clock time of all steps and of the losses of the held-out set.
  public var seconds: Double
  /// `examples` / `seconds`.
  public var examplesPerSecond: Double
  /// `tokens` / `seconds`.
  public var tokensPerSecond: Double
  /// The mean of the batches' losses in the first epoch and in the last.
  public var lossFirstEpoch: Double
  /// Of as many steps as an epoch has, counted from the end.
  public var lossLastEpoch: Double
  /// The width of ``ThreadPool/shared``.
  public var threads: Int
  /// OpenBLAS' kernels.
  public var kernels: String
  /// Before training and after each epoch; nil without a held-out set.
  public var heldOutLosses: [Double]?
  /// The epoch, from 1, whose weights the adapter has; nil without a held-out set.
  public var bestEpoch: Int?

  enum CodingKeys: String, CodingKey {
    case examples
    case tokens
    case steps
    case seconds
    case examplesPerSecond = "examples_per_s"
    case tokensPerSecond = "tokens_per_s"
    case lossFirstEpoch = "loss_first_epoch"
    case lossLastEpoch = "loss_last_epoch"
    case threads
    case kernels
    case heldOutLosses = "held_out_losses"
    case bestEpoch = "best_epoch"
  }

  init(
    tokens: Int, losses: [Double], batchSize: Int, examples: Int, stepsPerEpoch: Int,
    seconds: Double, heldOut: [Double], bestEpoch: Int?
  ) {
    let (epochs, rest) = losses.count.quotientAndRemainder(dividingBy: stepsPerEpoch)
    self.examples = epochs * examples + min(rest * batchSize, examples)
    self.tokens = tokens
    steps = losses.count
    self.seconds = seconds
    examplesPerSecond = Double(self.examples) / max(seconds, 1e-9)
    tokensPerSecond = Double(tokens) / max(seconds, 1e-9)
    func mean(_ part: ArraySlice<Double>) -> Double {
      part.reduce(0, +) / Double(max(1, part.count))
    }
    lossFirstEpoch = mean(losses.prefix(stepsPerEpoch))
    lossLastEpoch = mean(losses.suffix(stepsPerEpoch))
    threads = ThreadPool.shared.width
    kernels = BLAS.shared.report.coreName
    heldOutLosses = heldOut.isEmpty ? nil : heldOut
    self.bestEpoch = bestEpoch
  }
}
