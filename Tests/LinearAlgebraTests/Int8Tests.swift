import CKernels
import RandomNumbers
import Testing

@testable import LinearAlgebra

/// Products with 8-bit activations.
@Suite("Products with 8-bit activations")
struct Int8Tests {
  static let types = WeightType.allCases.filter { $0.blockLength > 1 }
  let seed: UInt64 = 53

  /// Levels that this processor has, apart from the scalar twin.
  private var levels: [Int8Level] {
    switch Int8Level.best {
    case .scalar: []
    case .avx2: [.avx2]
    case .vnni: [.avx2, .vnni]
    case .armDot: [.armDot]
    }
  }

  private func matrix(
    _ type: WeightType, rows: Int, columns: Int, using generator: inout SplitMix64
  ) -> QuantizedMatrix {
    let owner = Bytes(randomBlocks(type, count: rows * columns, using: &generator))
    return QuantizedMatrix(
      type: type, rows: rows, columns: columns, bytes: UnsafeRawBufferPointer(owner.storage),
      owner: owner)
  }

  private func product(
    _ packed: PackedMatrix, _ x: [Float], count: Int, level: Int8Level
  ) -> [Float] {
    var y = [Float](repeating: -7, count: count * packed.rows)
    packed.multiply(
      QuantizedRows(x, count: count, columns: packed.columns, level: level), into: &y,
      yStride: packed.rows, panels: 0..<packed.panels, level: level)
    return y
  }

  @Test(
    "Every level computes the bits that the scalar twin computes, of ordinary and extreme numbers",
    arguments: types)
  func twins(type: WeightType) throws {
    var generator = SplitMix64(seed: seed)
    for (rows, columns, count) in [(16, 256, 1), (7, 512, 13), (33, 768, 6), (48, 256, 9)] {
      let packed = try #require(
        PackedMatrix(matrix(type, rows: rows, columns: columns, using: &generator)))
      let ordinary = (0..<count * columns).map { _ in generator.nextUniform() }
      var inputs = [
        ordinary, ordinary.map { $0 * 1e30 }, ordinary.map { $0 * 1e-38 },
        ordinary.map { $0 > 0 ? 1 : -1 }, [Float](repeating: 0, count: count * columns),
      ]
      var broken = ordinary
      broken[3] = .nan
      broken[count * columns - 1] = -.infinity
      inputs.append(broken)
      for (number, input) in inputs.enumerated() {
        let expected = product(packed, input, count: count, level: .scalar).map(\.bitPattern)
        for level in levels {
          let found = product(packed, input, count: count, level: level).map(\.bitPattern)
          let wrong = zip(found, expected).enumerated().first { pair in
            let (a, b) = (Float(bitPattern: pair.element.0), Float(bitPattern: pair.element.1))
            return a.bitPattern != b.bitPattern && !(a.isNaN && b.isNaN)
          }
          #expect(
            wrong == nil, "\(type) at \(level), \(rows)x\(columns), input \(number), seed \(seed)")
        }
        if number == 5 {
          #expect(Float(bitPattern: expected[0]).isNaN, "what is no number stays none")
        }
      }
    }
  }

  @Test(
    "A product differs from the exact one by no more than half a step of each activation",
    arguments: types)
  func bound(type: WeightType) throws {
    var generator = SplitMix64(seed: seed)
    let (rows, columns, count) = (20, 768, 3)
    let weights = matrix(type, rows: rows, columns: columns, using: &generator)
    let packed = try #require(PackedMatrix(weights))
    var x = (0..<count * columns).map { _ in generator.nextUniform() }
    for index in stride(from: 5, to: x.count, by: 97) { x[index] *= 40 }
    let found = product(packed, x, count: count, level: .best)
    let expanded = FloatBuffer(uninitialized: rows * columns)
    weights.expand(into: expanded.pointer)
    for c in 0..<count {
      for r in 0..<rows {
        var exact = 0.0
        var allowed = 0.0
        for start in stride(from: 0, to: columns, by: 32) {
          let block = start..<start + 32
          let step = Double(block.map { abs(x[c * columns + $0]) }.max() ?? 0) / 127
          for i in block {
            let weight = Double(expanded.pointer[r * columns + i])
            exact += weight * Double(x[c * columns + i])
            // And f32's own rounding, of terms as large as the largest code (q - zero) allows.
            allowed += abs(weight) * step * 0.5001 + 1e-6 * step * 127
          }
        }
        #expect(
          abs(Double(found[c * rows + r]) - exact) <= allowed,
          "\(type) row \(r), activation \(c), seed \(seed)")
      }
    }
  }

  @Test("A row's product does not depend on the rows computed with it")
  func independence() throws {
    var generator = SplitMix64(seed: seed)
    let packed = try #require(
      PackedMatrix(matrix(.q4_1, rows: 40, columns: 1536, using: &generator)))
    let count = 200
    let x = (0..<count * 1536).map { _ in generator.nextUniform() }
    let together = product(packed, x, count: count, level: .best)
    for c in [0, 1, 7, 8, 99, 150, 199] {
      let alone = product(
        packed, Array(x[c * 1536..<(c + 1) * 1536]), count: 1, level: .best)
      #expect(alone == Array(together[c * 40..<(c + 1) * 40]))
    }
  }
}
