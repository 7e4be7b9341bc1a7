// One thing at a time for each user, in the order it was asked for.

import Synchronization

final class UserTurns: Sendable {
  /// Who waits behind whoever has the turn, by user.
  private let waiting = Mutex<[String: [CheckedContinuation<Void, Never>]]>([:])

  /// Runs the work when the user's earlier works are over.
  func run<T>(_ user: String, _ work: () async throws -> T) async rethrows -> T {
    await withCheckedContinuation { continuation in
      let isFree = waiting.withLock { waiting in
        guard waiting[user] != nil else {
          waiting[user] = []
          return true
        }
        waiting[user]?.append(continuation)
        return false
      }
      if isFree { continuation.resume() }
    }
    defer {
      let next = waiting.withLock { waiting -> CheckedContinuation<Void, Never>? in
        guard waiting[user]?.isEmpty == false else {
          waiting[user] = nil
          return nil
        }
        return waiting[user]?.removeFirst()
      }
      next?.resume()
    }
    return try await work()
  }
}
