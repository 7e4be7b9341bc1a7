// The vector kernels against their scalar twins, on random input of awkward lengths.

import CKernels
import Foundation
import LinearAlgebra
import RandomNumbers
import Testing

/// Random bytes of `count` weights whose scales are small numbers.
func randomBlocks(
  _ type: WeightType, count: Int, using generator: inout SplitMix64
) -> [UInt8] {
  var bytes: [UInt8] = []
  func append(half value: Float) {
    let bits = Float16(value).bitPattern
    bytes += [UInt8(bits & 255), UInt8(bits >> 8)]
  }
  func appendRandom(_ count: Int) {
    for _ in 0..<count { bytes.append(UInt8.random(in: 0...255, using: &generator)) }
  }
  for _ in 0..<count / type.blockLength {
    let scale = generator.nextUniform() * 0.05
    switch type {
    case .f32: withUnsafeBytes(of: scale) { bytes += $0 }
    case .f16: append(half: scale)
    case .bf16:
      let bits = UInt16(scale.bitPattern >> 16)
      bytes += [UInt8(bits & 255), UInt8(bits >> 8)]
    case .q4_0:
      append(half: scale)
      appendRandom(16)
    case .q4_1:
      append(half: scale)
      append(half: -scale * 7)
      appendRandom(16)
    case .q5_0:
      append(half: scale)
      appendRandom(20)
    case .q5_1:
      append(half: scale)
      append(half: -scale * 15)
      appendRandom(20)
    case .q8_0:
      append(half: scale * 0.1)
      appendRandom(32)
    case .q4_K:
      append(half: scale * 0.1)
      append(half: scale * 0.2)
      appendRandom(140)
    case .q5_K:
      append(half: scale * 0.05)
      append(half: scale * 0.2)
      appendRandom(172)
    case .q6_K:
      appendRandom(208)
      append(half: scale * 0.01)
    }
  }
  return bytes
}

final class Bytes {
  let storage: UnsafeMutableRawBufferPointer
  init(_ bytes: [UInt8]) {
    storage = .allocate(byteCount: bytes.count, alignment: 1)
    storage.copyBytes(from: bytes)
  }
  deinit { storage.deallocate() }
}

private func isClose(_ a: Float, _ b: Float, _ tolerance: Float) -> Bool {
  abs(a - b) <= tolerance * max(1, abs(a), abs(b))
}

@Suite("Kernels")
struct KernelTests {
  let seed: UInt64 = 41

  @Test(
    "Every type expands to the same weights with the vector kernel as with its scalar twin",
    arguments: WeightType.allCases)
  func expansion(type: WeightType) {
    var generator = SplitMix64(seed: seed)
    for count in [256, 1024, 768 * 5] {
      let bytes = randomBlocks(type, count: count, using: &generator)
      var vector = [Float](repeating: .nan, count: count)
      var scalar = vector
      ck_expand(Elementwise.level.rawValue, type.rawValue, bytes, &vector, count)
      ck_expand(0, type.rawValue, bytes, &scalar, count)
      for i in 0..<count {
        #expect(isClose(vector[i], scalar[i], 1e-6), "\(type) \(i), seed \(seed)")
      }
    }
  }

  @Test(
    "Products straight from blocks equal those of expanded weights", arguments: WeightType.allCases)
  func products(type: WeightType) {
    var generator = SplitMix64(seed: seed)
    for (rows, columns, count) in [
      (1, 256, 1), (7, 512, 1), (13, 768, 2), (9, 1536, 5), (4, 256, 3),
    ] {
      let owner = Bytes(randomBlocks(type, count: rows * columns, using: &generator))
      let matrix = QuantizedMatrix(
        type: type, rows: rows, columns: columns, bytes: UnsafeRawBufferPointer(owner.storage),
        owner: owner)
      let weights = FloatBuffer(uninitialized: rows * columns)
      matrix.expand(into: weights.pointer)
      let x = (0..<count * columns).map { _ in generator.nextUniform() }
      for level in Elementwise.Level.available {
        var y = [Float](repeating: .nan, count: count * rows)
        matrix.multiply(
          x, xStride: columns, count: count, into: &y, yStride: rows, rows: 0..<rows, level: level)
        for c in 0..<count {
          for r in 0..<rows {
            var sum = 0.0
            var size = 0.0
            for i in 0..<columns {
              let term = Double(weights.pointer[r * columns + i]) * Double(x[c * columns + i])
              sum += term
              size += abs(term)
            }
            #expect(
              abs(Double(y[c * rows + r]) - sum) <= 1e-5 * size + 1e-6,
              "\(type) \(level) row \(r) of \(rows)x\(columns), seed \(seed)")
          }
        }
      }
    }
  }

  @Test("Elementwise kernels equal their scalar twins", arguments: [1, 5, 8, 31, 64, 577])
  func elementwise(count: Int) {
    guard Elementwise.level != .scalar else { return }
    var generator = SplitMix64(seed: seed)
    func numbers(_ scale: Float = 3) -> [Float] {
      (0..<count).map { _ in generator.nextUniform() * scale }
    }
    let (x, w, dy) = (numbers(), numbers(), numbers())
    func expectClose(_ a: [Float], _ b: [Float], _ what: String, _ tolerance: Float = 2e-6) {
      for i in a.indices {
        #expect(isClose(a[i], b[i], tolerance), "\(what) \(i) of \(count), seed \(seed)")
      }
    }
    func both(_ what: String, _ tolerance: Float = 2e-6, _ body: (Elementwise.Level) -> [Float]) {
      expectClose(body(Elementwise.level), body(.scalar), what, tolerance)
    }
    both("dot", 1e-5) { [Elementwise.dot(x, w, count: count, level: $0)] }
    both("addScaled") {
      var y = w
      Elementwise.addScaled(0.7, x, to: &y, count: count, level: $0)
      return y
    }
    both("softmax") {
      var y = x
      let sum = Elementwise.softmax(&y, count: count, level: $0)
      return y + [sum, Elementwise.logSumExp(x, count: count, level: $0)]
    }
    var inverse: Float = 0
    both("rmsNorm") {
      var y = x
      inverse = Elementwise.rmsNorm(
        x, weight: w, into: &y, count: count, epsilon: 1e-5, level: $0)
      return y + [inverse]
    }
    both("rmsNormBackward", 1e-5) {
      var dx = w
      Elementwise.rmsNormBackward(
        x, weight: w, dy: dy, inverseRMS: inverse, addingTo: &dx, count: count, level: $0)
      return dx
    }
    both("siluMultiply") {
      var y = x
      Elementwise.siluMultiply(gate: x, up: w, into: &y, count: count, level: $0)
      return y
    }
    both("siluMultiplyBackward") {
      var (a, b) = (x, x)
      Elementwise.siluMultiplyBackward(
        gate: x, up: w, dOut: dy, dGate: &a, dUp: &b, count: count, level: $0)
      return a + b
    }
  }

  @Test("exp is exact to a few parts in ten million over its whole range")
  func exponential() {
    for level in Elementwise.Level.available {
      let x = stride(from: Float(-87), to: 88, by: 0.037).map { $0 }
      var y = x
      Elementwise.exp(x, into: &y, count: x.count, level: level)
      for i in x.indices {
        let truth = exp(Double(x[i]))
        #expect(abs(Double(y[i]) - truth) <= 4e-7 * truth, "exp(\(x[i])) = \(y[i]) at \(level)")
      }
      var limits = [Float](repeating: -.infinity, count: 8)
      Elementwise.exp(limits, into: &limits, count: 8, level: level)
      #expect(limits == [Float](repeating: 0, count: 8))
    }
  }

  @Test("Rotating forward and back gives the vector again, and lengths stay", arguments: [64, 20])
  func rotation(width: Int) {
    var generator = SplitMix64(seed: seed)
    let x = (0..<3 * width).map { _ in generator.nextUniform() }
    let angles = (0..<width / 2).map { Float($0) * 0.3 }
    for level in Elementwise.Level.available {
      var y = x
      Elementwise.rotate(
        &y, cosines: angles.map { cos($0) }, sines: angles.map { sin($0) }, heads: 3,
        headWidth: width, level: level)
      let a = x[1] * cos(angles[1]) - x[1 + width / 2] * sin(angles[1])
      #expect(isClose(y[1], a, 1e-6))
      Elementwise.rotate(
        &y, cosines: angles.map { cos($0) }, sines: angles.map { sin($0) }, heads: 3,
        headWidth: width, inverse: true, level: level)
      for i in x.indices { #expect(isClose(x[i], y[i], 1e-5)) }
    }
  }

  @Test("The gradients of RMSNorm and SiLU equal finite differences")
  func gradients() {
    var generator = SplitMix64(seed: seed)
    let count = 24
    let x = (0..<count).map { _ in generator.nextUniform() }
    let w = (0..<count).map { _ in generator.nextUniform() }
    let dy = (0..<count).map { _ in generator.nextUniform() }
    func normLoss(_ x: [Float]) -> Double {
      let mean = x.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(count)
      return (0..<count).reduce(0.0) {
        $0 + Double(dy[$1]) * Double(x[$1]) * Double(w[$1]) / (mean + 1e-5).squareRoot()
      }
    }
    var y = x
    let inverse = Elementwise.rmsNorm(x, weight: w, into: &y, count: count, epsilon: 1e-5)
    var dx = [Float](repeating: 0, count: count)
    Elementwise.rmsNormBackward(
      x, weight: w, dy: dy, inverseRMS: inverse, addingTo: &dx, count: count)
    var (dGate, dUp) = (x, x)
    Elementwise.siluMultiplyBackward(
      gate: x, up: w, dOut: dy, dGate: &dGate, dUp: &dUp, count: count)
    func silu(_ gate: Float, _ up: Float) -> Double {
      Double(gate) / (1 + exp(-Double(gate))) * Double(up)
    }
    let step: Float = 1.0 / 1024
    for i in 0..<count {
      var (plus, minus) = (x, x)
      plus[i] += step
      minus[i] -= step
      let norm = (normLoss(plus) - normLoss(minus)) / Double(plus[i] - minus[i])
      #expect(abs(norm - Double(dx[i])) < 1e-4, "RMSNorm \(i), seed \(seed)")
      let gate = (silu(plus[i], w[i]) - silu(minus[i], w[i])) / Double(plus[i] - minus[i])
      #expect(abs(gate * Double(dy[i]) - Double(dGate[i])) < 1e-4, "gate \(i), seed \(seed)")
      #expect(abs(silu(x[i], 1) * Double(dy[i]) - Double(dUp[i])) < 1e-5, "up \(i), seed \(seed)")
    }
  }
}
