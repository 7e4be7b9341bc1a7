// Where a partition stands in PostgreSQL, by what its log is known again, and what is said where the two do not fit.
//
// librdkafka 2.0 tells neither a topic's id nor the leader epoch of a message. So messages that were read stand for
// their log: the oldest that it still has, and the newest. Another log has others in their places.

import Foundation

/// A message that was read, by its place and its contents.
public struct LogMark: Sendable, Hashable {
  public var offset: Int64
  /// Of timestamp, key and value.
  public var digest: Int64

  public init(offset: Int64, digest: Int64) {
    self.offset = offset
    self.digest = digest
  }
}

/// Where a partition continues.
public struct LogPosition: Sendable, Hashable {
  public var topic: String
  public var partition: Int32
  /// -1 where nothing was read yet.
  public var next: Int64
  /// How many logs came under this name, one in the other's place, before this one.
  public var logNumber: Int64
  /// The oldest message read that the log still has, as far as is known.
  public var anchor: LogMark?
  /// The newest message read.
  public var last: LogMark?

  /// - Parameter next: the next offset to read; -1 where nothing was read yet.
  public init(
    topic: String, partition: Int32, next: Int64 = -1, logNumber: Int64 = 0,
    anchor: LogMark? = nil, last: LogMark? = nil
  ) {
    self.topic = topic
    self.partition = partition
    self.next = next
    self.logNumber = logNumber
    self.anchor = anchor
    self.last = last
  }
}

/// A stored offset that does not fit the log.
public struct LogGap: Sendable, Codable, Hashable {
  /// What has become of the messages that should come next.
  public enum Kind: String, Sendable, Codable {
    /// Messages expired, or were deleted, before they were read.
    case expired
    /// The log lost messages that had been read, and has or gets others in their places.
    case truncated
    /// The topic was deleted and made anew.
    case replaced
  }
  public var kind: Kind
  /// The stored offset.
  public var next: Int64
  /// The first offset that the broker has, and the next one to be written.
  public var low: Int64
  public var high: Int64

  public init(kind: Kind, next: Int64, low: Int64, high: Int64) {
    self.kind = kind
    self.next = next
    self.low = low
    self.high = high
  }

  /// Messages that are known to be lost.
  public var missing: Int64 { kind == .expired ? max(0, low - next) : 0 }
  /// Messages in the log that were not read, or may not have been.
  public var waiting: Int64 { high - low }
  /// Whether offsets below `next` now stand for other messages than those that were read.
  public var isOtherLog: Bool { kind != .expired }

  /// What was found, without the partition's name.
  public var description: String {
    switch kind {
    case .expired:
      "\(missing) messages expired on the broker before they were read (offsets \(next) to \(low - 1))"
    case .truncated:
      "the broker lost messages that had been read: the stored offset is \(next), the broker has \(low) to \(high), and other messages in their places"
    case .replaced:
      "the topic was deleted and made anew: the stored offset is \(next) of the old one, the new one has \(low) to \(high)"
    }
  }

  /// The one command after which ingest goes on.
  public func command(partition: Int32) -> String {
    "oppu-worker admin offsets reset --partition \(partition) --to beginning --execute"
  }
}
