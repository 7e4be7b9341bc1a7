// The requests that a consumer has read and not answered yet: how many there may be, and what may be committed.

import KafkaClient
import Storage
import Synchronization

/// Counts the requests under way by partition; shared by the loop that reads and the tasks that answer.
final class OpenRequests: Sendable {
  /// A request's place. `term` tells one assignment of a partition from the next.
  struct Place: Sendable {
    let partition: TopicPartition
    let offset: Int64
    let term: Int
  }

  fileprivate struct Progress {
    let term: Int
    var watermark = CommitWatermark()
    /// The last message up to which the group was told that all is done.
    var committed: LogMark?
    /// Since when the partition may be another consumer's.
    var lostAt: ContinuousClock.Instant?
  }

  /// After that long nobody counts on a partition that was lost.
  private static let memory = Duration.seconds(300)

  fileprivate struct Waiter {
    let isMet: @Sendable (borrowing State) -> Bool
    let continuation: CheckedContinuation<Void, Never>
  }

  fileprivate struct State {
    var partitions: [TopicPartition: Progress] = [:]
    var terms = 0
    /// Of all terms, those that have ended too.
    var count = 0
    var waiters: [Int: Waiter] = [:]
    var nextWaiter = 0
  }

  private let state = Mutex(State())

  var count: Int { state.withLock { $0.count } }

  func begin(_ message: KafkaMessage) -> Place {
    let mark = LogMark(message)
    return state.withLock { state in
      let partition = message.topicPartition
      if state.partitions[partition] == nil {
        state.terms += 1
        state.partitions[partition] = Progress(term: state.terms)
      }
      state.partitions[partition]?.watermark.begin(mark)
      state.count += 1
      return Place(
        partition: partition, offset: message.offset,
        term: state.partitions[partition]?.term ?? 0)
    }
  }

  /// - Parameter isDone: false: it was left undone, and what is behind it in its partition is not committed.
  func finish(_ place: Place, isDone: Bool) {
    let met = state.withLock { state in
      state.count -= 1
      if isDone, state.partitions[place.partition]?.term == place.term {
        state.partitions[place.partition]?.watermark.finish(place.offset)
      }
      let met = state.waiters.filter { $0.value.isMet(state) }
      for id in met.keys { state.waiters[id] = nil }
      return met.values.map(\.continuation)
    }
    for continuation in met { continuation.resume() }
  }

  /// What may be committed and is not yet: of each partition the last message up to which all is done.
  func uncommitted() -> [TopicPartition: LogMark] {
    state.withLock { state in
      state.partitions.compactMapValues {
        $0.lostAt != nil || $0.watermark.last == $0.committed ? nil : $0.watermark.last
      }
    }
  }

  func committed(_ messages: [TopicPartition: LogMark]) {
    state.withLock { state in
      for (partition, message) in messages { state.partitions[partition]?.committed = message }
    }
  }

  /// The newest message that was read of a partition, and the last up to which all is done.
  func marks(of partition: TopicPartition) -> (newest: LogMark?, done: LogMark?) {
    state.withLock { state in
      let watermark = state.partitions[partition]?.watermark
      return (watermark?.newest, watermark?.last)
    }
  }

  /// Partitions that another consumer owns now: what is under way of them goes on, and is not committed.
  func forget(_ partitions: [TopicPartition]) {
    state.withLock { state in
      for partition in partitions { state.partitions[partition] = nil }
    }
  }

  /// Partitions that may have another owner now: what is under way of them goes on, and is not committed unless
  /// they come back. Nil: all of them.
  func lose(_ partitions: [TopicPartition]?, at now: ContinuousClock.Instant = .now) {
    state.withLock { state in
      for partition in partitions ?? Array(state.partitions.keys) {
        guard state.partitions[partition]?.lostAt == nil else { continue }
        state.partitions[partition]?.lostAt = now
      }
    }
  }

  /// Those of the partitions that were lost.
  func lost(among partitions: [TopicPartition]) -> [TopicPartition] {
    state.withLock { state in partitions.filter { state.partitions[$0]?.lostAt != nil } }
  }

  /// Where a lost partition that has come back goes on: behind what was read of it, where the group stands within
  /// that, for then nobody else has been at it. Nil: where the group stands; what is under way of it goes on, and
  /// is not committed.
  /// - Parameter committed: where the group stands.
  func regain(
    _ partition: TopicPartition, committed: Int64?, at now: ContinuousClock.Instant = .now
  ) -> Int64? {
    state.withLock { state in
      guard let progress = state.partitions[partition], let lostAt = progress.lostAt,
        let read = progress.watermark.read, now - lostAt < Self.memory,
        committed.map({ $0 > progress.committed?.offset ?? -1 && $0 <= read })
          ?? (progress.committed == nil)
      else {
        state.partitions[partition] = nil
        return nil
      }
      state.partitions[partition]?.lostAt = nil
      return read
    }
  }

  /// Returns once at most so many are under way, or when the task is cancelled.
  func wait(untilAtMost limit: Int) async { await wait { $0.count <= limit } }

  /// Returns once nothing of these partitions is under way, or when the task is cancelled.
  func wait(untilDone partitions: [TopicPartition]) async {
    await wait { state in
      partitions.allSatisfy { (state.partitions[$0]?.watermark.count ?? 0) == 0 }
    }
  }

  private func wait(until isMet: @escaping @Sendable (borrowing State) -> Bool) async {
    let id = state.withLock { state in
      state.nextWaiter += 1
      return state.nextWaiter
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isOver = state.withLock { state in
          // Read under the lock: a cancellation from here on finds the waiter.
          if Task.isCancelled || isMet(state) { return true }
          state.waiters[id] = Waiter(isMet: isMet, continuation: continuation)
          return false
        }
        if isOver { continuation.resume() }
      }
    } onCancel: {
      state.withLock { $0.waiters.removeValue(forKey: id) }?.continuation.resume()
    }
  }
}
