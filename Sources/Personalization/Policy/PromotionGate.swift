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

/// What the promotion gate compared and decided. Losses are means over held-out examples of the mean
/// negative log-likelihood per output token, in nats.
public struct GateRecord: Sendable, Codable, Equatable {
  /// 0 where nothing was compared; the losses are nil then.
  public var heldOutExamples: Int
  /// Of the active version that it was trained from; of the base model where there is none.
  public var parentLoss: Double?
  /// Of the model without an adapter.
  public var baseLoss: Double?
  /// Nil where it is not a finite number, too.
  public var candidateLoss: Double?
  /// The mean of the paired differences (candidate − parent) and its one-sided upper bound.
  public var difference: Double?
  public var differenceUpperBound: Double?
  /// The same against the model without an adapter.
  public var baseDifference: Double?
  public var baseDifferenceUpperBound: Double?
  /// Of the bounds; and the share by which the loss had to fall.
  public var confidence: Double?
  public var minimumGain: Double?
  /// Whether the candidate may serve.
  public var promoted: Bool
  /// The decision and its reason in a sentence.
  public var verdict: String

  /// What was compared with the model without an adapter is set afterwards.
  public init(
    heldOutExamples: Int, parentLoss: Double?, candidateLoss: Double?, difference: Double?,
    differenceUpperBound: Double?, promoted: Bool, verdict: String
  ) {
    self.heldOutExamples = heldOutExamples
    self.parentLoss = parentLoss
    self.candidateLoss = candidateLoss
    self.difference = difference
    self.differenceUpperBound = differenceUpperBound
    self.promoted = promoted
    self.verdict = verdict
  }

  enum CodingKeys: String, CodingKey {
    case heldOutExamples = "held_out_examples"
    case parentLoss = "parent_loss"
    case baseLoss = "base_loss"
    case candidateLoss = "candidate_loss"
    case difference
    case differenceUpperBound = "difference_upper_bound"
    case baseDifference = "base_difference"
    case baseDifferenceUpperBound = "base_difference_upper_bound"
    case minimumGain = "minimum_gain"
    case confidence, promoted, verdict
  }
}

/// Compares a candidate with what serves now. A pure function of the losses.
public struct PromotionGate: Sendable {
  /// The share by which the held-out loss must fall.
  let minimumGain: Double
  /// Of the one-sided bound, between 0.5 and 1.
  let confidence: Double

  /// - Parameters:
  ///   - minimumGain: the share by which the held-out loss must fall.
  ///   - confidence: of the one-sided bound, between 0.5 and 1.
  public init(minimumGain: Double, confidence: Double = 0.8) {
    self.minimumGain = minimumGain
    self.confidence = confidence
  }

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
  public func judge(parent: [Double], candidate: [Double], base: [Double]? = nil) -> GateRecord {
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
