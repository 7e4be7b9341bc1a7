// Byte-pair merging: the table of merges and the algorithm that applies it.

/// From a pair of tokens to the rank of their merge and the token they become. Open addressing, for
/// one look-up in about the time of a memory access.
struct PairTable: Sendable {
  private var keys: [UInt64]
  private var values: [(rank: Int32, merged: Int32)]
  private let mask: Int

  init(capacity: Int) {
    var size = 16
    while size < capacity * 2 { size *= 2 }
    keys = [UInt64](repeating: .max, count: size)
    values = [(rank: Int32, merged: Int32)](repeating: (0, 0), count: size)
    mask = size - 1
  }

  private func slot(_ key: UInt64) -> Int {
    var slot = Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
    while keys[slot] != key && keys[slot] != .max { slot = (slot + 1) & mask }
    return slot
  }

  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  /// The first rank of a pair counts, should a file hold it twice.
  mutating func insert(_ left: Int32, _ right: Int32, rank: Int32, merged: Int32) {
    let key = Self.key(left, right)
    let slot = slot(key)
    if keys[slot] == key { return }
    keys[slot] = key
    values[slot] = (rank, merged)
  }

  func find(_ left: Int32, _ right: Int32) -> (rank: Int32, merged: Int32)? {
    let key = Self.key(left, right)
    let slot = slot(key)
    return keys[slot] == key ? values[slot] : nil
  }
}

/// Joins the tokens of one piece. Short pieces by looking for the lowest rank again and again, long
/// ones with a heap, so that a word of 100,000 letters costs n log n. Keeps its memory for the next.
struct Merger {
  private var ids: [Int32] = []
  private var previous: [Int32] = []
  private var next: [Int32] = []
  private var heap: [Candidate] = []

  private struct Candidate {
    let rank: Int32
    let position: Int32
    func isBefore(_ other: Candidate) -> Bool {
      (rank, position) < (other.rank, other.position)
    }
  }

  /// Takes the piece's tokens, one per byte; negative ones (bytes without a token) are left out.
  mutating func start(_ tokens: some Sequence<Int32>) {
    ids.removeAll(keepingCapacity: true)
    for token in tokens where token >= 0 { ids.append(token) }
  }

  mutating func merge(_ table: PairTable, into output: inout [Int32]) {
    if ids.count > 24 { mergeLong(table) } else { mergeShort(table) }
    output += ids
  }

  private mutating func mergeShort(_ table: PairTable) {
    while ids.count > 1 {
      var best: (rank: Int32, merged: Int32) = (.max, 0)
      var place = -1
      for i in 0..<ids.count - 1 {
        if let found = table.find(ids[i], ids[i + 1]), found.rank < best.rank {
          best = found
          place = i
        }
      }
      if place < 0 { return }
      ids[place] = best.merged
      ids.remove(at: place + 1)
    }
  }

  private mutating func mergeLong(_ table: PairTable) {
    let count = ids.count
    previous = (0..<count).map { Int32($0) - 1 }
    next = (0..<count).map { $0 + 1 < count ? Int32($0) + 1 : -1 }
    heap.removeAll(keepingCapacity: true)
    for i in 0..<count - 1 { offer(table, Int32(i)) }
    while let top = pop() {
      let left = Int(top.position)
      // An entry is out of date if either token has changed since.
      guard ids[left] >= 0, next[left] >= 0 else { continue }
      let right = Int(next[left])
      guard let found = table.find(ids[left], ids[right]), found.rank == top.rank else { continue }
      ids[left] = found.merged
      ids[right] = -1
      next[left] = next[right]
      if next[right] >= 0 { previous[Int(next[right])] = top.position }
      if previous[left] >= 0 { offer(table, previous[left]) }
      if next[left] >= 0 { offer(table, top.position) }
    }
    ids.removeAll { $0 < 0 }
  }

  private mutating func offer(_ table: PairTable, _ position: Int32) {
    let left = Int(position)
    guard let found = table.find(ids[left], ids[Int(next[left])]) else { return }
    heap.append(Candidate(rank: found.rank, position: position))
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      if !heap[child].isBefore(heap[parent]) { break }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  private mutating func pop() -> Candidate? {
    guard let top = heap.first else { return nil }
    let last = heap.removeLast()
    if heap.isEmpty { return top }
    heap[0] = last
    var parent = 0
    while true {
      var child = 2 * parent + 1
      if child >= heap.count { return top }
      if child + 1 < heap.count && heap[child + 1].isBefore(heap[child]) { child += 1 }
      if !heap[child].isBefore(heap[parent]) { return top }
      heap.swapAt(child, parent)
      parent = child
    }
  }
}
