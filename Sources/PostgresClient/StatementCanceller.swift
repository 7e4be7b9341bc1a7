// Cancels the statement that runs, and never the one after it.

import CLibPQ
import Dispatch
import Synchronization

/// Sends cancel requests for one connection, from any thread.
///
/// A cancel request names the connection, not the statement, so a late one could hit the next
/// statement. Statements are therefore numbered, and `end` waits while a request is on its way:
/// once `PQcancel` has returned, the server has delivered the request.
final class StatementCanceller: Sendable {
  /// Owns a PGcancel.
  ///
  /// `@unchecked Sendable`: libpq documents `PQcancel` as safe to call from any thread, a PGcancel
  /// never changes after it was made, and it is freed once, when nobody can reach it any more.
  final class Target: @unchecked Sendable {
    let pointer: OpaquePointer
    init?(of connection: OpaquePointer) {
      guard let pointer = PQgetCancel(connection) else { return nil }
      self.pointer = pointer
    }
    deinit { PQfreeCancel(pointer) }
  }

  private struct State {
    var target: Target?
    var running: UInt64?
    var next: UInt64 = 0
  }

  private let state = Mutex(State())
  private static let queue = DispatchQueue(
    label: "oppu.postgres.cancel", attributes: .concurrent)

  /// Chooses the connection whose statements are cancelled; nil for none.
  func setTarget(_ target: Target?) { state.withLock { $0.target = target } }

  /// A number for a statement that is to come: cancelling it before it begins does nothing.
  func reserve() -> UInt64 {
    state.withLock { state in
      state.next += 1
      return state.next
    }
  }

  func begin(_ statement: UInt64) { state.withLock { $0.running = statement } }

  func end(_ statement: UInt64) {
    state.withLock { state in
      if state.running == statement { state.running = nil }
    }
  }

  /// Asks the server to cancel a statement if it still runs. Returns at once.
  func cancel(_ statement: UInt64) {
    Self.queue.async {
      self.state.withLock { state in
        guard state.running == statement, let target = state.target else { return }
        var message = [CChar](repeating: 0, count: 256)
        // A failed request leaves the statement running; the waiting task gets its result.
        _ = PQcancel(target.pointer, &message, Int32(message.count))
      }
    }
  }
}
