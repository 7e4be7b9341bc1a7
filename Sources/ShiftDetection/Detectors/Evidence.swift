// What a detector for short streams says after one value.

import Foundation

/// How strongly the values since the last reset speak for a change.
public struct Evidence: Sendable, Hashable {
  /// Shiryaev-Roberts statistic of the likelihood ratios, as its logarithm (nats).
  public let statistic: Double
  /// Values after the likeliest change.
  public let after: Int
  /// Values held.
  public let count: Int
  /// What quiet streams reach.
  let level: ThresholdTable.Level

  /// The mean number of values in which a quiet stream comes to such a statistic once.
  public var rarity: Double { level.rarity(of: statistic) }

  /// The statistic at which a detector with this ARL0 alarms.
  public func threshold(arl0: Double) -> Double { level.threshold(arl0: arl0) }
}
