import CKernels
import Foundation
import RandomNumbers
import Testing

@testable import LinearAlgebra

@Suite("Attention kernel")
struct AttentionTests {
  let seed: UInt64 = 61

  /// One head's cache of `length` positions, written by the level's kernel, unused places not numbers.
  private struct Cache {
    var keys: [FloatBuffer] = []
    var values: [FloatBuffer] = []
    let format: WeightType

    init(
      keys from: [[Float]], values other: [[Float]], width: Int, format: WeightType,
      level: Elementwise.Level
    ) {
      self.format = format
      let block = Int(CK_KV_BLOCK)
      for start in stride(from: 0, to: from.count, by: block) {
        let (k, v) = (
          FloatBuffer(uninitialized: block * width), FloatBuffer(uninitialized: block * width)
        )
        k.fill(.nan)
        v.fill(.nan)
        for position in start..<min(start + block, from.count) {
          ck_put_position(
            level.rawValue, format.rawValue, from[position], other[position], width,
            position - start, k.pointer, v.pointer)
        }
        keys.append(k)
        values.append(v)
      }
    }
  }

  private func attend(
    _ queries: [[Float]], visible: [Int], cache: Cache, width: Int, level: Elementwise.Level
  ) -> [[Float]] {
    let buffers = queries.map { FloatBuffer($0) }
    let outs = queries.map { _ in FloatBuffer(zeros: width) }
    let longest = ((visible.max() ?? 0) + 15) / 16 * 16
    let scores = FloatBuffer(zeros: queries.count * longest)
    withExtendedLifetime((buffers, cache)) {
      ck_attend(
        level.rawValue, cache.format.rawValue, queries.count,
        buffers.map { UnsafePointer($0.pointer) }, outs.map(\.pointer), visible,
        cache.keys.map { UnsafeRawPointer($0.pointer) },
        cache.values.map { UnsafeRawPointer($0.pointer) }, width, 0.125, scores.pointer)
    }
    return outs.map(\.array)
  }

  @Test(
    "Outputs equal softmax of scores times values at every level", arguments: [64, 80, 20],
    [WeightType.f32, .f16])
  func truth(width: Int, format: WeightType) {
    var generator = SplitMix64(seed: seed)
    // Keys and values that a half holds too.
    func vectors(_ count: Int, _ scale: Float) -> [[Float]] {
      (0..<count).map { _ in
        (0..<width).map { _ in (generator.nextUniform() * 512).rounded() / 512 * scale }
      }
    }
    for (length, rows) in [(1, 1), (5, 3), (16, 2), (130, 7), (300, 24)] {
      let (keys, values, queries) = (
        vectors(length, 2), vectors(length, 1), vectors(rows, 4)
      )
      let visible = (0..<rows).map { max(1, length - (rows - 1 - $0) * 2) }
      for level in Elementwise.Level.available {
        let cache = Cache(
          keys: keys, values: values, width: width, format: format, level: level)
        let found = attend(queries, visible: visible, cache: cache, width: width, level: level)
        for row in 0..<rows {
          let scores = (0..<visible[row]).map { j in
            zip(queries[row], keys[j]).reduce(0.0) { $0 + Double($1.0) * Double($1.1) } * 0.125
          }
          let top = scores.max() ?? 0
          let weights = scores.map { exp($0 - top) }
          let sum = weights.reduce(0, +)
          for d in 0..<width {
            let expected =
              weights.indices.reduce(0.0) { $0 + weights[$1] * Double(values[$1][d]) } / sum
            #expect(
              abs(Double(found[row][d]) - expected) < 2e-5,
              "row \(row) of \(rows), \(length) positions, \(format), \(level), seed \(seed)")
          }
        }
      }
    }
  }

  @Test("Keys and values become the nearest halves, finite ones finite, at every level")
  func halves() {
    var generator = SplitMix64(seed: seed)
    let special: [Float] = [
      0, -0.0, 1, -65504, 65519, 65520, 1e9, -.greatestFiniteMagnitude, .infinity, -.infinity, .nan,
      0x1p-24, 0x1p-25, 0x1.8p-25, 6.1e-5, 0x1.ffep-15, 1.00048828125, 1.00146484375,
    ]
    let key = special + (0..<46).map { _ in generator.nextUniform() * 300 }
    let value = (0..<64).map { _ in generator.nextUniform() * 1e-5 }
    func put(_ level: Elementwise.Level) -> [UInt16] {
      let both = FloatBuffer(zeros: 2048)
      ck_put_position(
        level.rawValue, WeightType.f16.rawValue, key, value, 64, 19, both.pointer,
        both.pointer + 1024)
      return both.pointer.withMemoryRebound(to: UInt16.self, capacity: 4096) { halves in
        (0..<64).map { halves[(64 + $0) * 16 + 3] } + (0..<64).map { halves[2048 + 19 * 64 + $0] }
      }
    }
    let expected = (key + value).map { number in
      let half = Float16(number)
      return half.isInfinite && number.isFinite
        ? Float16(signOf: Float16(number), magnitudeOf: .greatestFiniteMagnitude) : half
    }
    for level in Elementwise.Level.available {
      for (found, half) in zip(put(level), expected) {
        let found = Float16(bitPattern: found)
        #expect(
          found.isNaN && half.isNaN || found.bitPattern == half.bitPattern,
          "\(found) for \(half), \(level), seed \(seed)")
      }
    }
  }

  @Test(
    "A row's output does not depend on the rows computed with it",
    arguments: [WeightType.f32, .f16])
  func independence(format: WeightType) {
    var generator = SplitMix64(seed: seed)
    let vectors = { (count: Int) in
      (0..<count).map { _ in (0..<64).map { _ in generator.nextUniform() } }
    }
    let (keys, values, queries) = (vectors(200), vectors(200), vectors(9))
    let visible = (0..<9).map { 120 + 9 * $0 }
    for level in Elementwise.Level.available {
      let cache = Cache(keys: keys, values: values, width: 64, format: format, level: level)
      let together = attend(queries, visible: visible, cache: cache, width: 64, level: level)
      for row in queries.indices {
        let alone = attend(
          [queries[row]], visible: [visible[row]], cache: cache, width: 64, level: level)
        #expect(alone[0] == together[row])
      }
    }
  }
}
