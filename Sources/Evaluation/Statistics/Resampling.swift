// Resampling of an evaluation's answers: what its figures would have been on other users and
// queries.

import Foundation
import RandomNumbers

/// A seeded bootstrap over queries that are clustered by user: users are drawn with replacement,
/// and within each drawn user queries are drawn with replacement (Davison and Hinkley, "Bootstrap
/// Methods and their Application", 1997, section 3.8). With one user only queries are drawn.
///
/// Intervals are percentiles. With a handful of users they say little about other users: they are
/// then rather too narrow.
public struct ClusterBootstrap: Sendable {
  /// The positions of each user's queries.
  private let clusters: [[Int]]
  private let count: Int
  /// How often users and queries are drawn.
  public let resamples: Int
  /// The same seed draws the same.
  public let seed: UInt64

  /// - Parameter users: each query's user.
  public init(users: [String], resamples: Int = 2_000, seed: UInt64 = 1) {
    var positions: [String: Int] = [:]
    var clusters: [[Int]] = []
    for (query, user) in users.enumerated() {
      if let position = positions[user] {
        clusters[position].append(query)
      } else {
        positions[user] = clusters.count
        clusters.append([query])
      }
    }
    self.clusters = clusters
    count = users.count
    self.resamples = max(1, resamples)
    self.seed = seed
  }

  /// The number of users.
  public var users: Int { clusters.count }

  /// The middle `level` of a statistic's values over the resamples.
  ///
  /// - Parameter statistic: of how often each query was drawn; values that are not finite are left
  ///   out. Nil where there is no query or no finite value.
  public func interval(
    level: Double = 0.95, of statistic: (_ drawn: [Int]) -> Double
  ) -> (low: Double, high: Double)? {
    guard count > 0 else { return nil }
    var generator = SplitMix64(seed: seed)
    var values: [Double] = []
    values.reserveCapacity(resamples)
    var drawn = [Int](repeating: 0, count: count)
    for _ in 0..<resamples {
      for query in drawn.indices { drawn[query] = 0 }
      for _ in clusters {
        let cluster = clusters[generator.below(clusters.count)]
        for _ in cluster { drawn[cluster[generator.below(cluster.count)]] += 1 }
      }
      let value = statistic(drawn)
      if value.isFinite { values.append(value) }
    }
    guard !values.isEmpty else { return nil }
    values.sort()
    return (
      Self.quantile((1 - level) / 2, of: values), Self.quantile((1 + level) / 2, of: values)
    )
  }

  /// The quantile of sorted values, linear between neighbours (type 7 of Hyndman and Fan, 1996).
  static func quantile(_ fraction: Double, of sorted: [Double]) -> Double {
    let position = fraction * Double(sorted.count - 1)
    let lower = min(max(0, Int(position)), sorted.count - 1)
    let upper = min(lower + 1, sorted.count - 1)
    return sorted[lower] + (sorted[upper] - sorted[lower]) * (position - Double(lower))
  }
}

extension SplitMix64 {
  /// A number in 0..<bound, by multiplication (Lemire, 2019) without its rejection step: the error
  /// is below bound / 2^64.
  mutating func below(_ bound: Int) -> Int {
    Int(next().multipliedFullWidth(by: UInt64(bound)).high)
  }
}
