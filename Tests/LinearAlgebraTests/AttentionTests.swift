import CKernels
import Foundation
import Testing

@testable import LinearAlgebra

@Suite("Attention kernel")
struct AttentionTests {
  let seed: UInt64 = 61

  /// One head's cache of `length` positions, in the kernel's layout, unused places not numbers.
  private struct Cache {
    var keys: [FloatBuffer] = []
    var values: [FloatBuffer] = []

    init(keys from: [[Float]], values other: [[Float]], width: Int) {
      let block = Int(CK_KV_BLOCK)
      let strip = Int(CK_KV_STRIP)
      for start in stride(from: 0, to: from.count, by: block) {
        let (k, v) = (
          FloatBuffer(uninitialized: block * width), FloatBuffer(uninitialized: block * width)
        )
        k.fill(.nan)
        v.fill(.nan)
        for position in start..<min(start + block, from.count) {
          let inside = position - start
          for d in 0..<width {
            k.pointer[(inside / strip * width + d) * strip + inside % strip] = from[position][d]
            v.pointer[inside * width + d] = other[position][d]
          }
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
        level.rawValue, queries.count, buffers.map { UnsafePointer($0.pointer) },
        outs.map(\.pointer), visible, cache.keys.map { UnsafePointer($0.pointer) },
        cache.values.map { UnsafePointer($0.pointer) }, width, 0.125, scores.pointer)
    }
    return outs.map(\.array)
  }

  @Test("Outputs equal softmax of scores times values at every level", arguments: [64, 80, 20])
  func truth(width: Int) {
    var generator = SplitMix64(seed: seed)
    func vectors(_ count: Int, _ scale: Float) -> [[Float]] {
      (0..<count).map { _ in (0..<width).map { _ in generator.nextUniform() * scale } }
    }
    for (length, rows) in [(1, 1), (5, 3), (16, 2), (130, 7), (300, 24)] {
      let (keys, values, queries) = (
        vectors(length, 2), vectors(length, 1), vectors(rows, 4)
      )
      let cache = Cache(keys: keys, values: values, width: width)
      let visible = (0..<rows).map { max(1, length - (rows - 1 - $0) * 2) }
      for level in Elementwise.Level.available {
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
              "row \(row) of \(rows), \(length) positions, \(level), seed \(seed)")
          }
        }
      }
    }
  }

  @Test("A row's output does not depend on the rows computed with it")
  func independence() {
    var generator = SplitMix64(seed: seed)
    let vectors = { (count: Int) in
      (0..<count).map { _ in (0..<64).map { _ in generator.nextUniform() } }
    }
    let cache = Cache(keys: vectors(200), values: vectors(200), width: 64)
    let queries = vectors(9)
    let visible = (0..<9).map { 120 + 9 * $0 }
    for level in Elementwise.Level.available {
      let together = attend(queries, visible: visible, cache: cache, width: 64, level: level)
      for row in queries.indices {
        let alone = attend(
          [queries[row]], visible: [visible[row]], cache: cache, width: 64, level: level)
        #expect(alone[0] == together[row])
      }
    }
  }
}
