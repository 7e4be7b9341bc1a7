// Which librdkafka runs here.

import CRDKafka

/// A version of librdkafka.
public struct KafkaLibrary: Sendable, Hashable, Comparable, CustomStringConvertible {
  /// As librdkafka writes it: `0xMMmmrrpp`, the last two digits `ff` for a release.
  let number: Int32

  init(number: Int32) { self.number = number }

  /// A release.
  init(_ major: Int32, _ minor: Int32, _ revision: Int32) {
    number = major << 24 | minor << 16 | revision << 8 | 0xff
  }

  /// The one that this process has loaded.
  public static var current: KafkaLibrary { KafkaLibrary(number: rd_kafka_version()) }

  public static func < (one: Self, other: Self) -> Bool { one.number < other.number }

  public var description: String {
    "\(number >> 24 & 0xff).\(number >> 16 & 0xff).\(number >> 8 & 0xff)"
  }

  /// Whether `partition.assignment.strategy=cooperative-sticky` may be used.
  public var supportsIncrementalRebalances: Bool {
    self >= KafkaLibraryPolicy.standard.incrementalRebalances.needed
  }

  /// Whether `group.protocol=consumer` may be used.
  public var supportsConsumerProtocol: Bool {
    self >= KafkaLibraryPolicy.standard.consumerProtocol.needed
  }
}
