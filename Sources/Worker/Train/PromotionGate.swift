// Whether a candidate may serve: its losses on held-out events against those of the active version and of no
// adapter at all, example by example.
//
// Held-out events are few, often three. One mean says little of them, so two things are asked, against both:
// - the mean loss is lower by a share that is worth a change (`minimumGain`);
// - the upper bound of the mean difference is below zero (one-sided, Student's t, paired), so that one lucky
//   event among unlucky ones does not promote. Of a single held-out event there is no bound: it has to gain
//   `singleGain` times as much instead.
// A wrong verdict is not the end: live losses judge the version again and roll it back.

import Foundation
import Storage

/// Compares a candidate with what serves now. A pure function of the losses.
struct PromotionGate: Sendable {
  /// The share by which the held-out loss must fall.
  let minimumGain: Double
  /// Of the one-sided bound, between 0.5 and 1.
  var confidence = 0.8

  /// What a single held-out event has to gain, in `minimumGain`.
  static let singleGain = 10.0

  /// One comparison.
  private struct Comparison {
    var name: String
    var loss: Double
    var difference: Double
    var bound: Double?
    var neededLoss: Double
    var passes: Bool
  }

  /// - Parameters: mean loss per output token of each held-out example, in nats, in one order. `parent` is the
  ///   active version's, or the base model's where there is none; `base` is the base model's, nil where that is
  ///   the parent.
  func judge(parent: [Double], candidate: [Double], base: [Double]? = nil) -> GateRecord {
    guard parent.count == candidate.count, base.map({ $0.count == candidate.count }) ?? true,
      !parent.isEmpty
    else {
      return GateRecord(
        heldOutExamples: parent.count, parentLoss: nil, candidateLoss: nil, difference: nil,
        differenceUpperBound: nil, promoted: false,
        verdict: "nothing held out to compare on; the candidate is not served")
    }
    let candidateLoss = candidate.reduce(0, +) / Double(candidate.count)
    let active = compare(candidate, with: parent, name: base == nil ? "the base model" : "parent")
    let none = base.map { compare(candidate, with: $0, name: "the base model") }
    let failed = [active, none].compactMap { $0 }.first { !$0.passes }
    let promoted = candidateLoss.isFinite && failed == nil
    var record = GateRecord(
      heldOutExamples: parent.count, parentLoss: finite(active.loss),
      candidateLoss: finite(candidateLoss), difference: finite(active.difference),
      differenceUpperBound: active.bound.flatMap(finite), promoted: promoted,
      verdict: verdict(candidateLoss, active: active, failed: failed))
    let base = none ?? active
    record.baseLoss = finite(base.loss)
    record.baseDifference = finite(base.difference)
    record.baseDifferenceUpperBound = base.bound.flatMap(finite)
    record.confidence = confidence
    record.minimumGain = minimumGain
    return record
  }

  private func compare(_ candidate: [Double], with other: [Double], name: String) -> Comparison {
    let n = Double(other.count)
    let loss = other.reduce(0, +) / n
    let differences = PairedDifferences(zip(candidate, other).map { $0 - $1 })
    let share = other.count == 1 ? min(minimumGain * Self.singleGain, 0.5) : minimumGain
    let needed = loss * (1 - share)
    let bound = differences.upperBound(confidence: confidence)
    // With no two events there is no bound; with equal gains it is the gain itself.
    let isSure = bound.map { $0 < 0 } ?? true
    return Comparison(
      name: name, loss: loss, difference: differences.mean, bound: bound, neededLoss: needed,
      passes: loss + differences.mean < needed && isSure)
  }

  private func verdict(_ loss: Double, active: Comparison, failed: Comparison?) -> String {
    guard let failed, loss.isFinite else {
      return loss.isFinite
        ? "held-out loss fell from \(text(active.loss)) to \(text(loss))"
        : "the candidate's held-out loss is not a number"
    }
    if !(failed.loss + failed.difference < failed.neededLoss) {
      return "held-out loss \(text(loss)) is not below \(text(failed.neededLoss)), "
        + "which is asked for against \(failed.name) (\(text(failed.loss)))"
    }
    return
      "held-out loss \(text(loss)) is below that of \(failed.name) (\(text(failed.loss))), but "
      + "by chance, perhaps: the \(text(confidence * 100)) % bound of the difference is "
      + "\(failed.bound.map { text($0) } ?? "unknown")"
  }

  /// What JSON can hold; the verdict tells the rest.
  private func finite(_ number: Double) -> Double? { number.isFinite ? number : nil }

  private func text(_ number: Double) -> String { String(format: "%.3f", number) }
}

/// Mean and bounds of paired differences.
struct PairedDifferences: Sendable {
  let count: Int
  let mean: Double
  /// Of the mean; nil for fewer than two.
  let standardError: Double?

  init(_ differences: [Double]) {
    count = differences.count
    let n = Double(count)
    let mean = count > 0 ? differences.reduce(0, +) / n : 0
    self.mean = mean
    let squares = differences.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    standardError = count > 1 ? (squares / (n - 1) / n).squareRoot() : nil
  }

  /// From sums, as they are kept between looks.
  init(count: Int, sum: Double, sumOfSquares: Double) {
    self.count = count
    let n = Double(count)
    mean = count > 0 ? sum / n : 0
    let squares = max(0, sumOfSquares - n * mean * mean)
    standardError = count > 1 ? (squares / (n - 1) / n).squareRoot() : nil
  }

  /// The mean is below this with the given confidence (Student's t); nil for fewer than two.
  func upperBound(confidence: Double) -> Double? {
    standardError.map { mean + StudentT.quantile(confidence, degrees: count - 1) * $0 }
  }

  func lowerBound(confidence: Double) -> Double? {
    standardError.map { mean - StudentT.quantile(confidence, degrees: count - 1) * $0 }
  }
}
