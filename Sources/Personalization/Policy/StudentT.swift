// Student's t distribution, for bounds of means of few numbers.

import Foundation

enum StudentT {
  /// The value that a t-distributed variable stays below with probability `p`.
  ///
  /// - Parameters:
  ///   - p: between 0 and 1.
  ///   - degrees: of freedom, at least 1.
  static func quantile(_ p: Double, degrees: Int) -> Double {
    guard p > 0.5 else { return p == 0.5 ? 0 : -quantile(1 - p, degrees: degrees) }
    var low = 0.0
    var high = 1.0
    while cumulative(high, degrees: degrees) < p, high < 1e12 { high *= 2 }
    for _ in 0..<200 where high - low > 1e-12 * high {
      let middle = (low + high) / 2
      if cumulative(middle, degrees: degrees) < p { low = middle } else { high = middle }
    }
    return (low + high) / 2
  }

  /// The probability of a value below `t`, which is at least 0. In closed form for whole degrees of freedom:
  /// Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
  static func cumulative(_ t: Double, degrees: Int) -> Double {
    let angle = atan(t / Double(degrees).squareRoot())
    let cosine = cos(angle)
    var term = degrees.isMultiple(of: 2) ? 1.0 : cosine
    var sum = degrees == 1 ? 0 : term
    // Each factor is (k - 1) / k cos² for the next k of the same parity as the degrees.
    var k = degrees.isMultiple(of: 2) ? 2 : 3
    while k <= degrees - 2 {
      term *= Double(k - 1) / Double(k) * cosine * cosine
      sum += term
      k += 2
    }
    let within =
      degrees.isMultiple(of: 2)
      ? sin(angle) * sum : 2 / Double.pi * (angle + sin(angle) * sum)
    return 0.5 + within / 2
  }
}
