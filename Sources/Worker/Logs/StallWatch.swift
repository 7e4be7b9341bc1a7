// Partitions of which nothing comes though there is something: librdkafka may stop fetching one after a broker's
// restart, without an error.

import KafkaClient

/// Whether partitions stand still. A pure value, shown again and again where each of them stands.
struct StallWatch: Sendable {
  static let limit = Duration.seconds(60)
  /// Looks come every few seconds. After one that failed it begins anew: while the broker is away nothing can come.
  static let memory = Duration.seconds(15)
  private var places: [TopicPartition: (next: Int64, since: ContinuousClock.Instant)] = [:]
  private var lookedAt: ContinuousClock.Instant?

  /// - Parameter partitions: the next offset to come of those that are fetched, and where their logs end.
  /// - Returns: those that have been behind in the same place for a minute, each once a minute.
  mutating func look(
    at partitions: [TopicPartition: (next: Int64, end: Int64)], now: ContinuousClock.Instant
  ) -> [TopicPartition] {
    if let lookedAt, now - lookedAt > Self.memory { self.places = [:] }
    lookedAt = now
    var stalled: [TopicPartition] = []
    var places: [TopicPartition: (next: Int64, since: ContinuousClock.Instant)] = [:]
    for (partition, place) in partitions {
      guard let known = self.places[partition], known.next == place.next, place.next < place.end
      else {
        places[partition] = (place.next, now)
        continue
      }
      let isStalled = now - known.since >= Self.limit
      if isStalled { stalled.append(partition) }
      places[partition] = isStalled ? (place.next, now) : known
    }
    self.places = places
    return stalled.sorted()
  }
}
