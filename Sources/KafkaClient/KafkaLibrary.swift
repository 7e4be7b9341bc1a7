// Which librdkafka runs here, and what must not be asked of it.

import CRDKafka

/// A version of librdkafka.
public struct KafkaLibrary: Sendable, Comparable, CustomStringConvertible {
  /// As librdkafka writes it: `0xMMmmrrpp`, the last two digits `ff` for a release.
  let number: Int32

  /// The one that this process has loaded.
  public static var current: KafkaLibrary { KafkaLibrary(number: rd_kafka_version()) }

  /// The oldest whose assignor of incremental rebalances does not end the process. Before it, a member that
  /// leaves before its first assignment fails an assertion in `rd_kafka_sticky_assignor_state_destroy`
  /// (librdkafka issue 4312).
  static let incrementalRebalances = KafkaLibrary(number: 0x0203_00ff)

  public static func < (one: Self, other: Self) -> Bool { one.number < other.number }

  public var description: String {
    "\(number >> 24 & 0xff).\(number >> 16 & 0xff).\(number >> 8 & 0xff)"
  }

  /// Whether `partition.assignment.strategy=cooperative-sticky` may be used.
  public var supportsIncrementalRebalances: Bool { self >= Self.incrementalRebalances }

  /// What of these properties this version cannot do, as a sentence for an operator; nil where all is well.
  func problem(with properties: [String: String]) -> String? {
    guard let strategy = properties["partition.assignment.strategy"],
      strategy.contains("cooperative-sticky"), !supportsIncrementalRebalances
    else { return nil }
    return """
      partition.assignment.strategy=\(strategy) needs librdkafka \(Self.incrementalRebalances) or newer; this is \
      \(self), in which it may end the process. Leave the property away: rebalances are then eager.
      """
  }
}
