// Random numbers that are the same on every machine.

/// SplitMix64 (Steele, Lea and Flood, 2014).
public struct SplitMix64: RandomNumberGenerator, Sendable {
  /// What the next number follows from.
  public private(set) var state: UInt64

  /// Every seed will do, 0 too.
  public init(seed: UInt64) { state = seed }

  /// The next 64 bits.
  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A number in (0, 1), both ends excluded.
  public mutating func unit() -> Double { (Double(next() >> 12) + 0.5) * 0x1p-52 }

  /// A number in [-1, 1).
  public mutating func nextUniform() -> Float {
    Float(Double(next() >> 11) * 0x1p-53 * 2 - 1)
  }
}
