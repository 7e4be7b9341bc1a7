// A group's offset with the messages by which its log is known again, as they are kept in the offset's metadata.
//
// Kafka keeps a group's offset as a bare number. Where a topic is deleted and made anew the number stays (on some
// brokers), and would pass over what the new topic has.

import KafkaClient
import Storage

extension LogPosition {
  /// - Parameter offset: what a group of infer's has committed; nil: nothing. What another tool has committed counts
  ///   as it is.
  public init(_ partition: TopicPartition, committed offset: GroupOffset?) {
    self.init(topic: partition.topic, partition: partition.partition, next: offset?.next ?? -1)
    let words = (offset?.metadata ?? "").split(separator: " ", omittingEmptySubsequences: false)
    guard words.count == 3, words[0] == Substring(Self.metadataName),
      let anchor = LogMark.read(words[1]), let last = LogMark.read(words[2])
    else { return }
    (self.anchor, self.last) = (anchor, last)
  }

  private static let metadataName = "oppu1"

  /// The position behind `last`, as it is committed.
  var committable: GroupOffset {
    GroupOffset(
      next: next,
      metadata: "\(Self.metadataName) \(LogMark.text(of: anchor)) \(LogMark.text(of: last))")
  }

  /// Where the requests of a log begin to which the position does not fit: none that can be read is passed over, though
  /// some may be answered again.
  func restart(over gap: LogGap, _ view: LogView) -> Int64 {
    switch gap.kind {
    case .expired, .replaced: gap.low
    case .truncated:
      if view.anchor == .same, let anchor { min(anchor.offset + 1, next) } else { gap.low }
    }
  }
}

extension LogMark {
  private static let none = "-"

  fileprivate static func text(of mark: LogMark?) -> String {
    mark.map { "\($0.offset):\(String(UInt64(bitPattern: $0.digest), radix: 16))" } ?? none
  }

  /// - Returns: `.some(nil)` for no mark; nil for what is none of ours.
  fileprivate static func read(_ text: Substring) -> LogMark?? {
    if text == none { return .some(nil) }
    let parts = text.split(separator: ":")
    guard parts.count == 2, let offset = Int64(parts[0]), offset >= 0,
      let digest = UInt64(parts[1], radix: 16)
    else { return nil }
    return LogMark(offset: offset, digest: Int64(bitPattern: digest))
  }
}
