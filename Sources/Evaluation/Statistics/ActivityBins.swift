// Users by how much history they have.

import Foundation

/// Levels of activity: ranges of history lengths, the least active first.
public struct ActivityBins: Codable, Sendable, Hashable {
  /// The longest history of each level but the last, rising.
  public let edges: [Int]

  /// - Parameter edges: the longest history of each level but the last; sorted and made distinct.
  public init(edges: [Int]) { self.edges = Set(edges.filter { $0 >= 0 }).sorted() }

  /// Levels with about as many users each; users with equally long histories are never parted, so
  /// there may be fewer levels.
  public init(lengths: [Int], levels: Int) {
    let sorted = lengths.sorted()
    guard let longest = sorted.last, levels > 1 else {
      self.init(edges: [])
      return
    }
    self.init(
      edges: (1..<levels).map { sorted[max(0, sorted.count * $0 / levels - 1)] }
        .filter { $0 < longest })
  }

  /// The number of levels.
  public var count: Int { edges.count + 1 }

  /// The level of a history's length, from 0.
  public func level(of length: Int) -> Int { edges.firstIndex { length <= $0 } ?? edges.count }

  /// A level's name, such as `21–50` or `51 and more`.
  public func name(of level: Int) -> String {
    let low = level == 0 ? 0 : edges[min(level, edges.count) - 1] + 1
    guard level < edges.count else { return edges.isEmpty ? "all" : "\(low) and more" }
    return low == edges[level] ? "\(low)" : "\(low)–\(edges[level])"
  }
}
