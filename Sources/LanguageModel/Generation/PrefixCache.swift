// Beginnings of prompts whose keys and values are kept for the next request that begins like them.

import LinearAlgebra
import Synchronization

/// Whose the beginnings of a prompt are.
///
/// Who could find what another user's prompt left in the cache could ask for a text, and tell by the
/// answer's speed whether that user had asked for it. So what holds a user's text serves that user
/// only; what a task says to everybody serves everybody.
public struct PrefixOwner: Sendable, Hashable {
  /// In bytes, for ids are compared so everywhere: "é" in one code point is another user than in two. Nil:
  /// everybody.
  let name: [UInt8]?
  /// The first so many tokens of the prompt are everybody's all the same.
  let sharedTokens: Int

  /// Of prompts that belong to nobody, as in an evaluation.
  public static let everybody = PrefixOwner(name: nil, sharedTokens: 0)

  /// Of a user's prompts: what they leave behind serves that user's next prompts only.
  /// - Parameter sharedTokens: the first so many tokens of the prompt are everybody's all the same.
  public static func user(_ name: String, sharedTokens: Int = 0) -> PrefixOwner {
    PrefixOwner(name: Array(name.utf8), sharedTokens: sharedTokens)
  }
}

/// Keeps the key-value blocks of prompts, bounded by bytes; the least recently used go first. What
/// an adapter computed serves requests with that very adapter only: another version is another one.
/// What belongs to a user serves that user only. Shares blocks with the sequences that use them,
/// copies nothing. For one model; safe for several threads.
public final class PrefixCache: Sendable {
  /// What the cache holds and did.
  public struct Statistics: Sendable, Equatable {
    /// Bytes of the blocks held now.
    public var byteCount = 0
    /// Blocks held now, each of `KVCache.blockLength` positions.
    public var blocks = 0
    /// Positions of prompts that were found here, of those that were looked for.
    public var reusedPositions = 0
    /// Those that were looked for; virtual tokens count in both.
    public var wantedPositions = 0
  }

  /// A block of positions after those of `before`.
  private struct Key: Hashable, Sendable {
    /// The number of the entry that holds the block before, 0 for a sequence's first.
    var before: UInt64
    /// 0 for the base model.
    var adapter: UInt64
    /// Nil: everybody.
    var owner: [UInt8]?
    /// Virtual token i as -1 - i.
    var tokens: [Int32]
  }

  private struct Entry: Sendable {
    let number: UInt64
    let block: FloatBuffer
    var lastUse: UInt64
  }

  private struct State: Sendable {
    var entries: [Key: Entry] = [:]
    var statistics = Statistics()
    var nextNumber: UInt64 = 1
    var clock: UInt64 = 0
  }

  /// What the kept blocks may take in memory; 0 where none is kept.
  public let byteLimit: Int
  private let state = Mutex(State())

  /// - Parameter byteLimit: what the kept blocks may take in memory; 0 keeps none.
  public init(byteLimit: Int) { self.byteLimit = max(byteLimit, 0) }

  /// As they stand now; the positions count since the cache was made.
  public var statistics: Statistics { state.withLock { $0.statistics } }

  /// A cache with the longest known beginning of the prompt, the adapter's virtual tokens included;
  /// at least the prompt's last token is left to be computed. And how many of the prompt's tokens were
  /// found that only its owner could have left: what others asked has no influence on that number.
  func cache(
    for prompt: [Int32], adapter: Adapter?, owner: PrefixOwner = .everybody, of model: LlamaModel
  ) -> (cache: KVCache, reusedTokens: Int) {
    let sequence = Self.sequence(prompt, adapter)
    let virtualTokens = sequence.count - prompt.count
    let shared = Self.sharedBlocks(owner, virtualTokens)
    let blocks = state.withLock { state in
      var blocks: [FloatBuffer] = []
      var path: [Key] = []
      var before: UInt64 = 0
      for start in stride(from: 0, to: sequence.count - 1, by: KVCache.blockLength) {
        guard start + KVCache.blockLength < sequence.count else { break }
        let key = Key(
          before: before, adapter: adapter?.id ?? 0,
          owner: start / KVCache.blockLength < shared ? nil : owner.name,
          tokens: Array(sequence[start..<start + KVCache.blockLength]))
        guard let entry = state.entries[key] else { break }
        blocks.append(entry.block)
        path.append(key)
        before = entry.number
      }
      // A beginning that ends among the virtual tokens is none: a chunk gives all of them or none.
      if blocks.count * KVCache.blockLength <= virtualTokens { blocks = [] }
      Self.touch(path, &state)
      state.statistics.wantedPositions += sequence.count
      state.statistics.reusedPositions += blocks.count * KVCache.blockLength
      return blocks
    }
    let cache = KVCache(for: model, blocks: blocks, virtualTokens: virtualTokens)
    let others = owner.name == nil ? 0 : shared * KVCache.blockLength
    return (cache, max(cache.count - max(others, virtualTokens), 0))
  }

  /// Keeps the whole blocks of a prompt whose positions the cache holds.
  func keep(
    _ cache: KVCache, prompt: [Int32], adapter: Adapter?, owner: PrefixOwner = .everybody,
    of model: LlamaModel
  ) {
    let sequence = Self.sequence(prompt, adapter)
    let shared = Self.sharedBlocks(owner, sequence.count - prompt.count)
    let blocks = cache.wholeBlocks(of: min(sequence.count, cache.count))
    state.withLock { state in
      var path: [Key] = []
      var before: UInt64 = 0
      for (index, block) in blocks.enumerated() {
        let start = index * KVCache.blockLength
        let key = Key(
          before: before, adapter: adapter?.id ?? 0, owner: index < shared ? nil : owner.name,
          tokens: Array(sequence[start..<start + KVCache.blockLength]))
        if state.entries[key] == nil {
          state.entries[key] = Entry(number: state.nextNumber, block: block, lastUse: 0)
          state.nextNumber += 1
          state.statistics.byteCount += block.count * 4
          state.statistics.blocks += 1
        }
        path.append(key)
        before = state.entries[key]?.number ?? 0
      }
      Self.touch(path, &state)
      evict(&state)
    }
  }

  /// Forgets what belongs to a user.
  public func remove(owner name: String) {
    let name = Array(name.utf8)
    remove { $0.owner == name }
  }

  /// Forgets everything.
  public func removeAll() { remove { _ in true } }

  private func remove(where isGone: (Key) -> Bool) {
    state.withLock { state in
      for (key, entry) in state.entries where isGone(key) { Self.drop(key, entry, &state) }
    }
  }

  private static func drop(_ key: Key, _ entry: Entry, _ state: inout State) {
    state.entries[key] = nil
    state.statistics.byteCount -= entry.block.count * 4
    state.statistics.blocks -= 1
  }

  /// How many of a sequence's first blocks hold nothing but what is everybody's.
  private static func sharedBlocks(_ owner: PrefixOwner, _ virtualTokens: Int) -> Int {
    guard owner.name != nil else { return .max / KVCache.blockLength }
    guard owner.sharedTokens > 0 else { return 0 }
    return (virtualTokens + owner.sharedTokens) / KVCache.blockLength
  }

  private static func sequence(_ prompt: [Int32], _ adapter: Adapter?) -> [Int32] {
    (0..<(adapter?.virtualTokenCount ?? 0)).map { -1 - Int32($0) } + prompt
  }

  /// A block counts as used before the one it stands on, so that the ends of paths go first.
  private static func touch(_ path: [Key], _ state: inout State) {
    for key in path.reversed() {
      state.clock += 1
      state.entries[key]?.lastUse = state.clock
    }
  }

  /// Down to nine tenths of the limit at once, so that not every request sorts the entries.
  private func evict(_ state: inout State) {
    guard state.statistics.byteCount > byteLimit else { return }
    for (key, entry) in state.entries.sorted(by: { $0.value.lastUse < $1.value.lastUse }) {
      guard state.statistics.byteCount > byteLimit / 10 * 9 else { return }
      Self.drop(key, entry, &state)
    }
  }
}
