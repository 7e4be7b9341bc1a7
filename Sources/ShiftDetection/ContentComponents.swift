// What texts are about, as a few numbers per text: the principal components of their words.

import Foundation

/// The leading principal components of a set of texts, by their likeness in words.
///
/// Each text is a unit vector over words (weights ln(n / n_w) for a word in n_w of n texts, words of a
/// single text left out); the components are the leading eigenvectors of the centred matrix of inner
/// products, found by subspace iteration. They do not depend on the order of the texts, so that the
/// permutation test stays exact for what is made of them.
struct ContentComponents {
  static let count = 3
  private static let iterations = 24

  /// [component][text]; zero where the texts have nothing in common to tell them apart by.
  let columns: [[Double]]

  /// - Parameter texts: the hashed content words of each text, distinct within a text.
  init(_ texts: [[UInt32]]) {
    var numbers: [UInt32: Int] = [:]
    var holders: [Double] = []
    for word in texts.joined() {
      if let number = numbers[word] {
        holders[number] += 1
      } else {
        numbers[word] = holders.count
        holders.append(1)
      }
    }
    let total = Double(texts.count)
    let rows: [[(word: Int, weight: Double)]] = texts.map { words in
      let row: [(word: Int, weight: Double)] = words.compactMap { word in
        guard let number = numbers[word], holders[number] > 1 else { return nil }
        return (number, log(total / holders[number]))
      }
      let length = row.reduce(0.0) { $0 + $1.weight * $1.weight }.squareRoot()
      return length > 1e-12 ? row.map { ($0.word, $0.weight / length) } : []
    }
    // A start that depends on what a text says and not on where it stands.
    var columns = (0..<Self.count).map { component in
      texts.map { words in
        words.reduce(0.0) {
          var generator = SplitMix64(seed: UInt64($1) &* 8 &+ UInt64(component))
          return $0 + Double(generator.next() >> 11) * 0x1p-53 - 0.5
        }
      }
    }
    for _ in 0..<Self.iterations {
      for component in columns.indices {
        var column = Self.product(rows, columns[component], words: holders.count)
        for earlier in columns[..<component] {
          let overlap = zip(column, earlier).reduce(0) { $0 + $1.0 * $1.1 }
          for index in column.indices { column[index] -= overlap * earlier[index] }
        }
        let length = column.reduce(0) { $0 + $1 * $1 }.squareRoot()
        columns[component] = column.map { length > 1e-9 ? $0 / length : 0 }
      }
    }
    // Rounding differs between texts that say the same: make equal ones equal again.
    self.columns = columns.map { $0.map { ($0 * 1e6).rounded() / 1e6 } }
  }

  /// H X Xᵀ H v with H the centring.
  private static func product(
    _ rows: [[(word: Int, weight: Double)]], _ vector: [Double], words: Int
  ) -> [Double] {
    let mean = vector.reduce(0, +) / Double(max(1, vector.count))
    var sums = [Double](repeating: 0, count: words)
    for (row, value) in zip(rows, vector) {
      for (word, weight) in row { sums[word] += weight * (value - mean) }
    }
    let result = rows.map { row in row.reduce(0.0) { $0 + $1.weight * sums[$1.word] } }
    let shift = result.reduce(0, +) / Double(max(1, result.count))
    return result.map { $0 - shift }
  }
}
