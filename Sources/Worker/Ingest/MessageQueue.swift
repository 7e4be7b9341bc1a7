// A partition's messages between the fetch and the batch that takes them.

import KafkaClient
import Synchronization

/// A bounded queue with one writer, the consumer's loop, and one reader, the partition's lane.
final class MessageQueue: Sendable {
  /// What a batch holds at most; one message is always taken.
  struct Limits: Sendable {
    var messages: Int
    var bytes: Int
  }

  private struct State {
    /// Fetches as they came; the first one may be half taken.
    var chunks: [ArraySlice<KafkaMessage>] = []
    var messages = 0
    var bytes = 0
    var isClosed = false
    var reader: CheckedContinuation<Void, Never>?
  }

  private let state = Mutex(State())

  /// Adds messages behind those that wait.
  func append(_ messages: ArraySlice<KafkaMessage>) {
    let bytes = messages.reduce(0) { $0 + $1.byteCount }
    let reader = state.withLock { state in
      guard !state.isClosed else { return nil as CheckedContinuation<Void, Never>? }
      state.chunks.append(messages)
      state.messages += messages.count
      state.bytes += bytes
      defer { state.reader = nil }
      return state.reader
    }
    reader?.resume()
  }

  /// Whether as much waits as `count` batches take.
  func holds(_ count: Int, of limits: Limits) -> Bool {
    state.withLock { $0.messages >= limits.messages * count || $0.bytes >= limits.bytes * count }
  }

  /// Drops what waits and takes nothing more.
  func close() {
    let reader = state.withLock { state in
      state.isClosed = true
      state.chunks = []
      state.messages = 0
      state.bytes = 0
      defer { state.reader = nil }
      return state.reader
    }
    reader?.resume()
  }

  /// Waits until something is there; false once the queue is closed.
  func waitForMessages() async -> Bool {
    await withCheckedContinuation { continuation in
      let isReady = state.withLock { state in
        if state.isClosed || state.messages > 0 { return true }
        state.reader = continuation
        return false
      }
      if isReady { continuation.resume() }
    }
    return state.withLock { !$0.isClosed }
  }

  /// The oldest messages, up to the limits.
  func take(_ limits: Limits) -> [KafkaMessage] {
    state.withLock { state in
      var taken: [KafkaMessage] = []
      var bytes = 0
      while let chunk = state.chunks.first {
        var end = chunk.startIndex
        while end < chunk.endIndex {
          let size = chunk[end].byteCount
          let isFirst = taken.isEmpty && end == chunk.startIndex
          let count = taken.count + (end - chunk.startIndex)
          if !isFirst, count >= limits.messages || bytes + size > limits.bytes { break }
          bytes += size
          end += 1
        }
        taken += chunk[..<end]
        if end < chunk.endIndex {
          state.chunks[0] = chunk[end...]
          break
        }
        state.chunks.removeFirst()
      }
      state.messages -= taken.count
      state.bytes -= bytes
      return taken
    }
  }
}

extension KafkaMessage {
  /// What the message takes, roughly.
  var byteCount: Int { (value?.count ?? 0) + (key?.count ?? 0) + 64 }
}
