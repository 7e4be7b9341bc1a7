// How many batches a process writes at a time: more only make each other wait.

/// A counting semaphore, first come, first served.
actor WriterSlots {
  private var free: Int
  private var waiters: [CheckedContinuation<Void, Never>] = []

  init(_ count: Int) { free = max(1, count) }

  /// Runs the work once a slot is free.
  func withSlot<T: Sendable>(_ work: @Sendable () async throws -> T) async rethrows -> T {
    if free > 0 {
      free -= 1
    } else {
      await withCheckedContinuation { waiters.append($0) }
    }
    defer {
      if waiters.isEmpty { free += 1 } else { waiters.removeFirst().resume() }
    }
    return try await work()
  }
}
