// How far a partition of requests may be committed while its replies come back in any order.

import Storage

/// The requests of one partition that are under way, by offset. A pure value.
struct CommitWatermark: Sendable {
  /// Messages in the order they were read, from `head` on; the offsets in `done` wait for one before them.
  private var open: [LogMark] = []
  private var head = 0
  private var done: Set<Int64> = []
  /// The last message up to which everything is done; nil as long as nothing is.
  private(set) var last: LogMark?
  /// The newest message that was read.
  private(set) var newest: LogMark?

  /// The next offset to read once everything before it is done.
  var next: Int64? { last.map { $0.offset + 1 } }
  /// The next offset to read.
  var read: Int64? { newest.map { $0.offset + 1 } }
  /// How many messages are not done, or wait for one that is not.
  var count: Int { open.count - head }

  /// A message was read. Offsets only grow; they may leave gaps.
  mutating func begin(_ message: LogMark) {
    open.append(message)
    newest = message
  }

  /// All that a message asked for has been done.
  mutating func finish(_ offset: Int64) {
    done.insert(offset)
    while head < open.count, done.remove(open[head].offset) != nil {
      last = open[head]
      head += 1
    }
    if head > 64, head * 2 > open.count {
      open.removeFirst(head)
      head = 0
    }
  }
}
