// From the bytes of a token to its id.

/// A hash table with the keys' bytes side by side. Looks up slices of a text without copying them,
/// and, unlike Swift's strings, holds texts that differ only in their Unicode composition apart.
struct TokenTable: Sendable {
  private var slots: [Int32]
  private var entries: [(start: Int, count: Int, id: Int32)] = []
  private var arena: [UInt8] = []
  private let mask: Int

  init(capacity: Int) {
    var size = 16
    while size < capacity * 2 { size *= 2 }
    slots = [Int32](repeating: -1, count: size)
    mask = size - 1
    entries.reserveCapacity(capacity)
  }

  private static func hash(_ bytes: UnsafeBufferPointer<UInt8>) -> Int {
    // FNV-1a, its low bits improved by the high ones.
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    return Int(truncatingIfNeeded: hash ^ (hash >> 32))
  }

  private func slot(_ bytes: UnsafeBufferPointer<UInt8>) -> Int {
    var slot = Self.hash(bytes) & mask
    while slots[slot] >= 0 {
      let entry = entries[Int(slots[slot])]
      if entry.count == bytes.count,
        arena[entry.start..<entry.start + entry.count].elementsEqual(bytes)
      {
        break
      }
      slot = (slot + 1) & mask
    }
    return slot
  }

  /// False, and nothing done, where the bytes have an id already. At most as many as `capacity`.
  @discardableResult
  mutating func insert(_ text: some Sequence<UInt8>, _ id: Int32) -> Bool {
    let bytes = Array(text)
    let slot = bytes.withUnsafeBufferPointer(slot)
    if slots[slot] >= 0 { return false }
    slots[slot] = Int32(entries.count)
    entries.append((arena.count, bytes.count, id))
    arena += bytes
    return true
  }

  func find(_ bytes: UnsafeBufferPointer<UInt8>) -> Int32? {
    let slot = slot(bytes)
    return slots[slot] < 0 ? nil : entries[Int(slots[slot])].id
  }

  func find(_ bytes: Slice<UnsafeBufferPointer<UInt8>>) -> Int32? {
    find(UnsafeBufferPointer(rebasing: bytes))
  }

  func find(_ bytes: [UInt8]) -> Int32? { bytes.withUnsafeBufferPointer(find) }

  func find(_ text: some StringProtocol) -> Int32? { find(Array(text.utf8)) }
}
