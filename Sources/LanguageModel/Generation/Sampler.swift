// Choosing the next token from logits.

import Foundation
import LinearAlgebra
import RandomNumbers

/// How a token is chosen.
public struct SamplingOptions: Sendable, Equatable, Codable {
  /// What logits are divided by; 0 takes the likeliest token.
  public var temperature: Float
  /// Only the so many likeliest tokens; 0 for all.
  public var topK: Int
  /// Only the likeliest tokens that together reach this probability (nucleus sampling, arXiv
  /// 1904.09751), among the top k; 1 for all.
  public var topP: Float
  /// The same seed, options and logits choose the same tokens.
  public var seed: UInt64

  /// The defaults are ``greedy``. Values out of range are refused by the request that has them.
  public init(temperature: Float = 0, topK: Int = 0, topP: Float = 1, seed: UInt64 = 0) {
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.seed = seed
  }

  /// The likeliest token every time.
  public static let greedy = SamplingOptions()

  func check() throws(InferenceError) {
    guard temperature.isFinite, temperature >= 0 else {
      throw .invalidSampling("The temperature has to be 0 or more, not \(temperature).")
    }
    guard topK >= 0 else {
      throw .invalidSampling("top-k has to be 0 (all tokens) or more, not \(topK).")
    }
    guard topP > 0, topP <= 1 else {
      throw .invalidSampling("top-p has to be above 0 and at most 1, not \(topP).")
    }
  }
}

/// One sequence's choices.
struct Sampler {
  let options: SamplingOptions
  private var generator: SplitMix64

  init(_ options: SamplingOptions) {
    self.options = options
    generator = SplitMix64(seed: options.seed)
  }

  /// Throws ``InferenceError/notFinite`` where no logit is a number.
  mutating func choose(_ logits: Logits, row: Int) throws(InferenceError) -> Int32 {
    guard options.temperature == 0 || options.topK == 1 else { return try choose(logits[row]) }
    let best = logits.withRow(row) { row in
      Elementwise.indexOfMaximum(row).flatMap { row[$0].isFinite ? $0 : nil }
    }
    guard let best else { throw .notFinite }
    return Int32(best)
  }

  /// One of the given tokens. Throws ``InferenceError/notFinite`` where no logit of them is a number.
  mutating func choose(
    _ logits: Logits, row: Int, among tokens: [Int32]
  ) throws(InferenceError) -> Int32 {
    let part = logits.withRow(row) { row in tokens.map { row[Int($0)] } }
    return tokens[Int(try choose(part))]
  }

  /// Throws ``InferenceError/notFinite`` where no logit is a number.
  mutating func choose(_ logits: [Float]) throws(InferenceError) -> Int32 {
    var best = -Float.infinity
    var bestIndex = -1
    for index in logits.indices where logits[index] > best {
      best = logits[index]
      bestIndex = index
    }
    guard bestIndex >= 0, best.isFinite else { throw .notFinite }
    if options.temperature == 0 || options.topK == 1 { return Int32(bestIndex) }

    var weights = logits.map { logit in
      let value = (logit - best) / options.temperature
      return value.isNaN ? -.infinity : value
    }
    weights.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return }
      Elementwise.exp(base, into: base, count: buffer.count)
    }
    let total = weights.reduce(0.0) { $0 + Double($1) }
    let draw = Double(generator.next() >> 11) * 0x1p-53
    let shares = weights
    if options.topK == 0 && options.topP == 1 {
      return pick(logits.indices, draw * total) { shares[$0] } ?? Int32(bestIndex)
    }

    // The likeliest tokens: those above a threshold that falls until they are enough.
    var kept: [Int] = []
    var threshold = Float(0.01)
    while true {
      kept = logits.indices.filter { weights[$0] >= threshold }
      let mass = kept.reduce(0.0) { $0 + Double(weights[$1]) }
      let enough =
        options.topK > 0 ? kept.count >= options.topK : mass >= Double(options.topP) * total
      if enough || threshold == 0 { break }
      threshold = threshold > 1e-30 ? threshold * 0.01 : 0
    }
    kept.sort {
      (weights[$0], $1) > (weights[$1], $0)
    }
    if options.topK > 0 { kept = Array(kept.prefix(options.topK)) }
    let whole =
      options.topK > 0 ? kept.reduce(0.0) { $0 + Double(weights[$1]) } : total
    var mass = 0.0
    var nucleus = 0
    while nucleus < kept.count && (nucleus == 0 || mass < Double(options.topP) * whole) {
      mass += Double(weights[kept[nucleus]])
      nucleus += 1
    }
    return pick(kept.prefix(nucleus), draw * mass) { shares[$0] } ?? Int32(bestIndex)
  }

  /// The first index at which the running sum passes `goal`; the last one that weighs anything if
  /// rounding leaves it short.
  private func pick(
    _ indices: some Sequence<Int>, _ goal: Double, _ weight: (Int) -> Float
  ) -> Int32? {
    var sum = 0.0
    var last: Int32?
    for index in indices where weight(index) > 0 {
      sum += Double(weight(index))
      last = Int32(index)
      if sum > goal { return last }
    }
    return last
  }
}
