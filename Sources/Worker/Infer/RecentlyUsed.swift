// Values in the order of their last use, so that the one that was not used for longest can go first.

/// A dictionary that knows which of its keys was used least recently.
///
/// A value type; `use`, `insert` and `removeLeastRecent` take constant time on average. Every use stamps the
/// key with a number that only grows; old stamps stay in the queue and are passed over when they come up.
struct RecentlyUsed<Key: Hashable, Value> {
  private var entries: [Key: (value: Value, stamp: UInt64)] = [:]
  /// Keys by the time of a use, oldest first from `start`; true only where the key still has that stamp.
  private var uses: [(key: Key, stamp: UInt64)] = []
  private var start = 0
  private var clock: UInt64 = 0

  var count: Int { entries.count }
  /// In no particular order.
  var keys: some Collection<Key> { entries.keys }

  /// The value of a key, which becomes the most recently used.
  mutating func use(_ key: Key) -> Value? {
    guard let entry = entries[key] else { return nil }
    insert(entry.value, for: key)
    return entry.value
  }

  /// Puts a value under a key, over what was there; it becomes the most recently used.
  mutating func insert(_ value: Value, for key: Key) {
    clock += 1
    entries[key] = (value, clock)
    uses.append((key, clock))
    if uses.count > 2 * entries.count + 64 { dropStale() }
  }

  @discardableResult
  mutating func remove(_ key: Key) -> Value? { entries.removeValue(forKey: key)?.value }

  /// Takes out what was not used for longest; nil where there is nothing.
  @discardableResult
  mutating func removeLeastRecent() -> (key: Key, value: Value)? {
    while start < uses.count {
      let use = uses[start]
      start += 1
      if let entry = entries[use.key], entry.stamp == use.stamp {
        entries[use.key] = nil
        return (use.key, entry.value)
      }
    }
    return nil
  }

  private mutating func dropStale() {
    uses = uses[start...].filter { entries[$0.key]?.stamp == $0.stamp }
    start = 0
  }
}
