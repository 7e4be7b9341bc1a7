// Whether a candidate may serve: its losses on held-out events against its parent's, example by example.

import Foundation
import Storage

/// Compares a candidate with what serves now. A pure function of the losses.
struct PromotionGate: Sendable {
  /// The share by which the held-out loss must fall.
  let minimumGain: Double

  /// - Parameters: mean loss per output token of each held-out example, in nats, in one order. `parent` is the
  ///   parent adapter's, or the base model's where there is no parent.
  func judge(parent: [Double], candidate: [Double]) -> GateRecord {
    guard parent.count == candidate.count, !parent.isEmpty else {
      return GateRecord(
        heldOutExamples: parent.count, parentLoss: nil, candidateLoss: nil, difference: nil,
        differenceUpperBound: nil, promoted: false,
        verdict: "nothing held out to compare on; the candidate is not served")
    }
    let n = Double(parent.count)
    let parentLoss = parent.reduce(0, +) / n
    let candidateLoss = candidate.reduce(0, +) / n
    let differences = zip(candidate, parent).map { $0 - $1 }
    let mean = differences.reduce(0, +) / n
    let variance =
      differences.count > 1
      ? differences.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (n - 1) : 0
    // Normal one-sided 95 % bound: reported so that an operator sees how sure the verdict is.
    let bound = mean + 1.645 * (variance / n).squareRoot()
    let needed = parentLoss * (1 - minimumGain)
    let promoted = candidateLoss.isFinite && candidateLoss < needed
    let verdict =
      promoted
      ? "held-out loss fell from \(text(parentLoss)) to \(text(candidateLoss))"
      : "held-out loss \(text(candidateLoss)) is not below \(text(needed)) (parent \(text(parentLoss)) less \(text(minimumGain * 100)) %)"
    return GateRecord(
      heldOutExamples: parent.count, parentLoss: parentLoss, candidateLoss: candidateLoss,
      difference: mean, differenceUpperBound: bound, promoted: promoted, verdict: verdict)
  }

  private func text(_ number: Double) -> String { String(format: "%.3f", number) }
}
