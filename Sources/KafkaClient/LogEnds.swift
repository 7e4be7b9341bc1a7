// Where logs begin and end, asked of the partitions' leaders.

import CRDKafka

/// One request to each leader for all of its partitions; blocks, and no longer than `timeout`.
/// (`rd_kafka_query_watermark_offsets` of librdkafka before 2.3.0 waits for ever where a broker is gone.)
///
/// - Returns: the first offset that the broker has and the next one to be written, of those partitions that
///   answer; and why others do not, where they say.
/// - Throws: `KafkaError` where no leader answers.
func logEnds(
  _ client: OpaquePointer, of partitions: [TopicPartition], _ timeout: Duration
) throws -> (
  ends: [TopicPartition: (low: Int64, high: Int64)], errors: [TopicPartition: KafkaError]
) {
  let deadline = ContinuousClock.now + timeout
  let low = try logOffsets(client, of: partitions, at: KafkaOffset.beginning, timeout)
  let high = try logOffsets(
    client, of: Array(low.offsets.keys), at: KafkaOffset.end,
    max(deadline - ContinuousClock.now, .milliseconds(1)))
  var ends: [TopicPartition: (low: Int64, high: Int64)] = [:]
  for (partition, high) in high.offsets {
    ends[partition] = low.offsets[partition].map { ($0, high) }
  }
  return (ends, low.errors.merging(high.errors) { $1 })
}

/// Asks a partition's leader; blocks.
func watermarks(
  _ client: OpaquePointer, _ partition: TopicPartition, _ timeout: Duration
) throws -> (low: Int64, high: Int64) {
  let (ends, errors) = try logEnds(client, of: [partition], timeout)
  guard let found = ends[partition] else {
    throw errors[partition]
      ?? KafkaError(RD_KAFKA_RESP_ERR__TIMED_OUT, topic: partition.description)
  }
  return found
}

/// The offset at one end of each log, one of `KafkaOffset`; blocks.
func logOffsets(
  _ client: OpaquePointer, of partitions: [TopicPartition], at place: Int64, _ timeout: Duration
) throws -> (offsets: [TopicPartition: Int64], errors: [TopicPartition: KafkaError]) {
  if partitions.isEmpty { return ([:], [:]) }
  // The protocol's words for the two ends stand where a time would.
  let list = PartitionList(
    Dictionary(partitions.map { ($0, place) }, uniquingKeysWith: { $1 }))
  try check(
    list.withPointer { rd_kafka_offsets_for_times(client, $0, timeout.milliseconds) },
    topic: partitions.first?.topic)
  return list.withPointer { list in
    var offsets: [TopicPartition: Int64] = [:]
    var errors: [TopicPartition: KafkaError] = [:]
    for element in PartitionList.elements(of: list) {
      let partition = TopicPartition(
        topic: String(cString: element.topic), partition: element.partition)
      if element.err != RD_KAFKA_RESP_ERR_NO_ERROR {
        errors[partition] = KafkaError(element.err, topic: partition.description)
      } else if element.offset >= 0 {
        offsets[partition] = element.offset
      }
    }
    return (offsets, errors)
  }
}
