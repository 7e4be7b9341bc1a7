// Ranks as standard normal numbers.

import Foundation

package enum NormalScores {
  /// Scores are kept as integers, in steps of 1 / scale.
  static let scale = 16.0

  /// Φ⁻¹ by Acklam's rational approximation (relative error below 1.2e-9).
  package static func quantile(_ p: Double) -> Double {
    func ratio(_ x: Double, _ above: [Double], _ below: [Double]) -> Double {
      above.reduce(0) { $0 * x + $1 } / (below.reduce(0) { $0 * x + $1 })
    }
    let tailAbove = [
      -7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838, -2.549732539343734,
      4.374664141464968, 2.938163982698783,
    ]
    let tailBelow = [
      7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996, 3.754408661907416, 1,
    ]
    if p < 0.02425 { return ratio((-2 * log(p)).squareRoot(), tailAbove, tailBelow) }
    if p > 1 - 0.02425 { return -ratio((-2 * log(1 - p)).squareRoot(), tailAbove, tailBelow) }
    let central = p - 0.5
    return central
      * ratio(
        central * central,
        [
          -3.969683028665376e+01, 2.209460984245205e+02, -2.759285104469687e+02,
          1.383577518672690e+02, -3.066479806614716e+01, 2.506628277459239,
        ],
        [
          -5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598859e+02,
          6.680131188771972e+01, -1.328068155288572e+01, 1,
        ])
  }

  /// The scores of ranks 0 ..< count among count values, Φ⁻¹((rank + ½) / count).
  static func scores(count: Int) -> [Int32] {
    (0..<count).map {
      Int32((scale * quantile((Double($0) + 0.5) / Double(count))).rounded())
    }
  }
}

/// A number in 16 bits: the order of numbers is kept, to one part in two thousand.
struct CompactNumber: Sendable, Hashable, Comparable {
  let bits: UInt16

  /// Up to 2,048 as a half-precision number; beyond that logarithmically.
  init(_ value: Double) {
    let size = abs(value)
    let folded = size <= 2_048 ? size : 2_048 + 60 * log2(size / 2_048)
    bits = folded == 0 ? 0 : Float16(value < 0 ? -folded : folded).bitPattern
  }

  init(bits: UInt16) { self.bits = bits }

  private var folded: Float16 { Float16(bitPattern: bits) }

  /// An integer in the order of the numbers.
  var order: UInt16 { bits & 0x8000 == 0 ? bits | 0x8000 : ~bits }

  var value: Double {
    let number = Double(folded)
    let size = abs(number)
    guard size > 2_048 else { return number }
    return (number < 0 ? -1 : 1) * 2_048 * exp2((size - 2_048) / 60)
  }

  static func < (left: Self, right: Self) -> Bool { left.order < right.order }
}
