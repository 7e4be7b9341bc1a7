// The steps of a transformer that work on one row at a time, over the kernels of CKernels.

import CKernels

/// Row-wise kernels. Pointers need `count` valid elements; nothing is checked here. Each call runs
/// on the calling thread at ``level``.
public enum Elementwise {
  /// The kernels in use: the best that the processor has.
  public enum Level: Int32, Sendable, CaseIterable {
    /// One number at a time.
    case scalar = 0
    /// Eight at a time: AVX2 with FMA and F16C, or NEON.
    case vector = 1
    /// With AVX-512 where a kernel has a version for it.
    case wide = 2

    /// The levels that this processor can run.
    public static let available = allCases.filter { $0.rawValue <= ck_best_level() }
  }

  /// The best level of this processor.
  public static let level = Level(rawValue: ck_best_level()) ?? .scalar

  /// The dot product of `a` and `b`.
  @inline(__always)
  public static func dot(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, count: Int, level: Level = level
  ) -> Float { ck_dot(level.rawValue, a, b, count) }

  /// y += alpha · x
  @inline(__always)
  public static func addScaled(
    _ alpha: Float, _ x: UnsafePointer<Float>, to y: UnsafeMutablePointer<Float>, count: Int,
    level: Level = level
  ) { ck_axpy(level.rawValue, alpha, x, y, count) }

  /// The first index of the largest number; nil where that is not finite.
  public static func indexOfMaximum(
    _ x: UnsafeBufferPointer<Float>, level: Level = level
  ) -> Int? {
    guard let base = x.baseAddress else { return nil }
    let index = ck_argmax(level.rawValue, base, x.count)
    return index < x.count ? index : nil
  }

  /// y = e^x, element by element; `y` may be `x`.
  public static func exp(
    _ x: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>, count: Int,
    level: Level = level
  ) { ck_exp(level.rawValue, x, y, count) }

  /// Softmax of a row in place. Returns the row's log-sum-exp from before.
  @discardableResult
  public static func softmax(
    _ x: UnsafeMutablePointer<Float>, count: Int, level: Level = level
  ) -> Float { ck_softmax(level.rawValue, x, count) }

  /// The logarithm of the sum of exponentials of a row.
  public static func logSumExp(
    _ x: UnsafePointer<Float>, count: Int, level: Level = level
  ) -> Float { ck_log_sum_exp(level.rawValue, x, count) }

  /// RMSNorm of a row (Zhang and Sennrich, 2019): y = x · weight / sqrt(mean(x²) + epsilon).
  /// Returns the factor 1 / sqrt(mean(x²) + epsilon), which the backward pass wants.
  @discardableResult
  public static func rmsNorm(
    _ x: UnsafePointer<Float>, weight: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>,
    count: Int, epsilon: Float, level: Level = level
  ) -> Float { ck_rms_norm(level.rawValue, x, weight, y, count, epsilon) }

  /// Adds to `dx` the gradient of RMSNorm with respect to its input `x`.
  public static func rmsNormBackward(
    _ x: UnsafePointer<Float>, weight: UnsafePointer<Float>, dy: UnsafePointer<Float>,
    inverseRMS: Float, addingTo dx: UnsafeMutablePointer<Float>, count: Int, level: Level = level
  ) { ck_rms_norm_backward(level.rawValue, x, weight, dy, inverseRMS, dx, count) }

  /// out = silu(gate) · up, where silu(x) = x / (1 + e^-x); `out` may be `gate` or `up`.
  public static func siluMultiply(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, into out: UnsafeMutablePointer<Float>,
    count: Int, level: Level = level
  ) { ck_silu_mul(level.rawValue, gate, up, out, count) }

  /// The gradients of silu(gate) · up; `dGate` and `dUp` may be the memory of `gate` and `up`.
  public static func siluMultiplyBackward(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, dOut: UnsafePointer<Float>,
    dGate: UnsafeMutablePointer<Float>, dUp: UnsafeMutablePointer<Float>, count: Int,
    level: Level = level
  ) { ck_silu_mul_backward(level.rawValue, gate, up, dOut, dGate, dUp, count) }

  /// Rotary position embedding in the half-split layout (pairs i and i + headWidth / 2), in place
  /// on `heads` neighbouring heads. `cosines` and `sines` hold headWidth / 2 numbers.
  public static func rotate(
    _ x: UnsafeMutablePointer<Float>, cosines: UnsafePointer<Float>, sines: UnsafePointer<Float>,
    heads: Int, headWidth: Int, inverse: Bool = false, level: Level = level
  ) { ck_rope(level.rawValue, x, cosines, sines, heads, headWidth, inverse ? -1 : 1) }
}
