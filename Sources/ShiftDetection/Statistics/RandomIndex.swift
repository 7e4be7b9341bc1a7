// Whole numbers below a bound, as the calibration draws them.

import RandomNumbers

extension SplitMix64 {
  /// In 0 ..< bound by multiply and shift; the bias, below bound / 2^32, is of no matter here.
  package mutating func index(below bound: Int) -> Int {
    Int(((next() >> 32) &* UInt64(bound)) >> 32)
  }
}
