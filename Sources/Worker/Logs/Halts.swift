// How long partitions rest of which the next message cannot be had.

import KafkaClient

/// Where partitions have halted. A pure value.
struct Halts: Sendable {
  private var places: [TopicPartition: (next: Int64, times: Int)] = [:]

  /// How long nothing is taken of a partition that halts before the offset `next`: a second, and up to a minute
  /// where it halts in the same place again.
  mutating func pause(of partition: TopicPartition, at next: Int64) -> Duration {
    let known = places[partition]
    let times = known?.next == next ? (known?.times ?? 0) + 1 : 0
    places[partition] = (next, times)
    return .seconds(min(1 << min(times, 6), 60))
  }
}
