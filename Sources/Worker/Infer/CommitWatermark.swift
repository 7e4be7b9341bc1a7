// How far a partition of requests may be committed while its replies come back in any order.

/// The requests of one partition that are under way, by offset. A pure value.
struct CommitWatermark: Sendable {
  /// Offsets in the order they were read, from `head` on; those in `done` wait for one before them.
  private var open: [Int64] = []
  private var head = 0
  private var done: Set<Int64> = []
  /// The next offset to read once everything before it is done; nil as long as nothing is.
  private(set) var next: Int64?
  /// The next offset to read.
  private(set) var read: Int64?

  /// How many offsets are not done, or wait for one that is not.
  var count: Int { open.count - head }

  /// A message was read. Offsets only grow; they may leave gaps.
  mutating func begin(_ offset: Int64) {
    open.append(offset)
    read = offset + 1
  }

  /// All that a message asked for has been done.
  mutating func finish(_ offset: Int64) {
    done.insert(offset)
    while head < open.count, done.remove(open[head]) != nil {
      next = open[head] + 1
      head += 1
    }
    if head > 64, head * 2 > open.count {
      open.removeFirst(head)
      head = 0
    }
  }
}
