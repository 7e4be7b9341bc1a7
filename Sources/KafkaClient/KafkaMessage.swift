// The values that go to and come from Kafka.

import CRDKafka
import Foundation

/// One partition of a topic. In order: by topic, then by number.
public struct TopicPartition: Hashable, Sendable, Comparable, CustomStringConvertible {
  public var topic: String
  /// From 0.
  public var partition: Int32

  public init(topic: String, partition: Int32) {
    self.topic = topic
    self.partition = partition
  }

  public static func < (first: TopicPartition, second: TopicPartition) -> Bool {
    (first.topic, first.partition) < (second.topic, second.partition)
  }

  public var description: String { "\(topic)-\(partition)" }
}

/// Offsets with a meaning, for `KafkaConsumer.assign`.
public enum KafkaOffset {
  /// The group's committed offset; where there is none, `auto.offset.reset` decides.
  public static let stored = Int64(RD_KAFKA_OFFSET_STORED)
  /// The first message that the broker still has.
  public static let beginning = Int64(RD_KAFKA_OFFSET_BEGINNING)
  /// The next message to be written.
  public static let end = Int64(RD_KAFKA_OFFSET_END)
}

/// A header of a message.
public struct KafkaHeader: Hashable, Sendable {
  public var key: String
  /// Nil is Kafka's null, which is not an empty value.
  public var value: Data?

  public init(key: String, value: Data?) {
    self.key = key
    self.value = value
  }

  /// The text in UTF-8.
  public init(key: String, value: String) {
    self.init(key: key, value: Data(value.utf8))
  }
}

/// A message as it was read.
public struct KafkaMessage: Hashable, Sendable {
  public var topic: String
  /// From 0.
  public var partition: Int32
  /// From 0, within the partition.
  public var offset: Int64
  /// Nil is Kafka's null, which is not an empty key.
  public var key: Data?
  /// Nil is a tombstone. Of one that nobody could send on (`KafkaProducer.maximumBytes`) only the beginning is here.
  public var value: Data?
  /// Bytes of the whole value.
  public var valueSize: Int
  /// In the order they were written; a key may come more than once.
  public var headers: [KafkaHeader]
  /// To the millisecond.
  public var timestamp: Date?

  /// Bytes of a value that are here where not all of it is.
  static let keptBytes = 65_536

  /// - Parameter valueSize: where `value` is only a beginning; nil: all of it is there.
  public init(
    topic: String, partition: Int32, offset: Int64, key: Data?, value: Data?,
    valueSize: Int? = nil, headers: [KafkaHeader] = [], timestamp: Date? = nil
  ) {
    self.topic = topic
    self.partition = partition
    self.offset = offset
    self.key = key
    self.value = value
    self.valueSize = valueSize ?? value?.count ?? 0
    self.headers = headers
    self.timestamp = timestamp
  }

  public var topicPartition: TopicPartition { TopicPartition(topic: topic, partition: partition) }

  /// The value of the last header with this key.
  public func header(_ key: String) -> Data? { headers.last { $0.key == key }?.value }
}

extension KafkaMessage {
  /// Copies a message out of librdkafka's memory, which stays librdkafka's.
  init(copying message: UnsafePointer<rd_kafka_message_t>, topic: String) {
    let native = message.pointee
    let kept = native.len > KafkaProducer.maximumBytes ? Self.keptBytes : native.len
    self.init(
      topic: topic, partition: native.partition, offset: native.offset,
      key: native.key.map { Data(bytes: $0, count: native.key_len) },
      value: native.payload.map { Data(bytes: $0, count: kept) }, valueSize: native.len,
      headers: Self.headers(of: message))
    var kind = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE
    let milliseconds = rd_kafka_message_timestamp(message, &kind)
    if kind != RD_KAFKA_TIMESTAMP_NOT_AVAILABLE, milliseconds >= 0 {
      timestamp = Date(timeIntervalSince1970: Double(milliseconds) / 1000)
    }
  }

  private static func headers(of message: UnsafePointer<rd_kafka_message_t>) -> [KafkaHeader] {
    var list: OpaquePointer?  // belongs to the message
    guard rd_kafka_message_headers(message, &list) == RD_KAFKA_RESP_ERR_NO_ERROR, let list else {
      return []
    }
    return (0..<rd_kafka_header_cnt(list)).compactMap { index in
      var name: UnsafePointer<CChar>?
      var value: UnsafeRawPointer?
      var size = 0
      guard
        rd_kafka_header_get_all(list, index, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR,
        let name
      else { return nil }
      return KafkaHeader(
        key: String(cString: name), value: value.map { Data(bytes: $0, count: size) })
    }
  }
}

/// Where a group stands in a partition.
public struct GroupOffset: Sendable, Hashable {
  /// The next offset to read.
  public var next: Int64
  /// What the group's consumers keep with it, in words of their own; a broker takes up to 4,096 bytes
  /// (`offset.metadata.max.bytes`).
  public var metadata: String

  /// - Parameter next: the next offset to read.
  public init(next: Int64, metadata: String = "") {
    self.next = next
    self.metadata = metadata
  }
}

/// librdkafka's list of partitions, owned.
final class PartitionList {
  private let pointer: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>

  /// Lends the list to a call. (Read from a temporary, the bare pointer would outlive the list.)
  func withPointer<T>(
    _ body: (UnsafeMutablePointer<rd_kafka_topic_partition_list_t>) throws -> T
  ) rethrows -> T {
    try withExtendedLifetime(self) { try body(pointer) }
  }

  init(_ offsets: [TopicPartition: Int64]) {
    pointer = rd_kafka_topic_partition_list_new(Int32(clamping: offsets.count))
    for (partition, offset) in offsets.sorted(by: { $0.key < $1.key }) {
      rd_kafka_topic_partition_list_add(pointer, partition.topic, partition.partition).pointee
        .offset = offset
    }
  }

  convenience init(_ partitions: some Sequence<TopicPartition>) {
    self.init(
      Dictionary(
        partitions.map { ($0, Int64(RD_KAFKA_OFFSET_INVALID)) }, uniquingKeysWith: { $1 }))
  }

  convenience init(_ offsets: [TopicPartition: GroupOffset]) {
    self.init(offsets.mapValues(\.next))
    for index in 0..<Int(pointer.pointee.cnt) {
      let element = pointer.pointee.elems + index
      let partition = TopicPartition(
        topic: String(cString: element.pointee.topic), partition: element.pointee.partition)
      guard let metadata = offsets[partition]?.metadata, !metadata.isEmpty else { continue }
      // The list frees it.
      element.pointee.metadata = UnsafeMutableRawPointer(strdup(metadata))
      element.pointee.metadata_size = metadata.utf8.count
    }
  }

  deinit { rd_kafka_topic_partition_list_destroy(pointer) }

  /// Throws the first error among the list's partitions.
  func checkErrors() throws {
    try withPointer { try Self.checkErrors(in: $0) }
  }

  static func checkErrors(
    in list: UnsafePointer<rd_kafka_topic_partition_list_t>
  ) throws {
    for element in elements(of: list) where element.err != RD_KAFKA_RESP_ERR_NO_ERROR {
      throw KafkaError(element.err, topic: String(cString: element.topic))
    }
  }

  var offsets: [TopicPartition: Int64] { withPointer { Self.offsets(of: $0) } }

  static func offsets(
    of list: UnsafePointer<rd_kafka_topic_partition_list_t>
  ) -> [TopicPartition: Int64] {
    Dictionary(
      elements(of: list).map {
        (TopicPartition(topic: String(cString: $0.topic), partition: $0.partition), $0.offset)
      }, uniquingKeysWith: { $1 })
  }

  /// Where a group stands, of partitions where it stands anywhere.
  static func groupOffsets(
    of list: UnsafePointer<rd_kafka_topic_partition_list_t>
  ) -> [TopicPartition: GroupOffset] {
    Dictionary(
      elements(of: list).filter { $0.offset >= 0 }.map { element in
        let metadata = element.metadata.map {
          String(
            decoding: UnsafeRawBufferPointer(start: $0, count: element.metadata_size), as: UTF8.self
          )
        }
        return (
          TopicPartition(topic: String(cString: element.topic), partition: element.partition),
          GroupOffset(next: element.offset, metadata: metadata ?? "")
        )
      }, uniquingKeysWith: { $1 })
  }

  static func elements(
    of list: UnsafePointer<rd_kafka_topic_partition_list_t>
  ) -> UnsafeBufferPointer<rd_kafka_topic_partition_t> {
    UnsafeBufferPointer(start: list.pointee.elems, count: Int(list.pointee.cnt))
  }
}
