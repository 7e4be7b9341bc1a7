// Rotary position embedding (RoFormer, arXiv 2104.09864) and how models stretch it to longer contexts.

import Foundation

/// How the rotary frequencies differ from base^(-2i / headWidth).
public enum RopeScaling: Sendable, Equatable, Codable {
  case none
  /// Every frequency divided by `factor` (position interpolation, arXiv 2306.15595).
  case linear(factor: Double)
  /// Llama 3.1: frequencies with wavelengths above originalContext / lowFrequencyFactor divided by
  /// `factor`, those below originalContext / highFrequencyFactor kept, a blend between.
  case llama3(
    factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalContext: Int)
  /// YaRN (arXiv 2309.00071, section 3): a ramp between kept and divided frequencies, and cosines and
  /// sines multiplied by `attentionFactor`.
  case yarn(
    factor: Double, originalContext: Int, attentionFactor: Double, betaFast: Double,
    betaSlow: Double)
  /// Each frequency divided by its own number, as GGUF's `rope_freqs.weight` gives them
  /// (headWidth / 2).
  case divisors([Float])

  /// The angle that a pair turns by from one position to the next, headWidth / 2 of them.
  /// In f32 from the unscaled frequencies on, as the models were trained.
  public func frequencies(base: Double, headWidth: Int) -> [Float] {
    let plain = (0..<headWidth / 2).map {
      Float(1) / Float(pow(base, Double(2 * $0) / Double(headWidth)))
    }
    switch self {
    case .none: return plain
    case .linear(let factor): return plain.map { $0 / Float(factor) }
    case .divisors(let divisors): return zip(plain, divisors).map { $0 / $1 }
    case .llama3(let factor, let low, let high, let original):
      return plain.map { frequency in
        let wavelength = 2 * Double.pi / Double(frequency)
        if wavelength < Double(original) / high { return frequency }
        if wavelength > Double(original) / low { return frequency / Float(factor) }
        let smooth = Float((Double(original) / wavelength - low) / (high - low))
        return (1 - smooth) * frequency / Float(factor) + smooth * frequency
      }
    case .yarn(let factor, let original, _, let betaFast, let betaSlow):
      // The pair that turns `rotations` times within the original context.
      func pair(_ rotations: Double) -> Double {
        Double(headWidth) * log(Double(original) / (rotations * 2 * Double.pi)) / (2 * log(base))
      }
      let low = max(pair(betaFast).rounded(.down), 0)
      var high = min(pair(betaSlow).rounded(.up), Double(headWidth - 1))
      if low == high { high += 0.001 }
      return plain.enumerated().map { index, frequency in
        let ramp = Float(min(max((Double(index) - low) / (high - low), 0), 1))
        return frequency / Float(factor) * ramp + frequency * (1 - ramp)
      }
    }
  }

  /// What cosines and sines are multiplied with.
  public var magnitude: Float {
    if case .yarn(_, _, let attentionFactor, _, _) = self { Float(attentionFactor) } else { 1 }
  }

  /// YaRN's attention factor where a model names none (arXiv 2309.00071, equation 22).
  static func yarnAttentionFactor(_ factor: Double) -> Double {
    factor <= 1 ? 1 : 0.1 * log(factor) + 1
  }
}
