// A bounded set of connections, lent first come, first served.

import StructuredLogging
import Synchronization

/// Lends at most `maximumConnections` connections at once.
///
/// A waiter is given either a connection or the right to open one; broken connections are thrown
/// away, and their place goes to the next waiter.
final class ConnectionPool: Sendable {
  private enum Grant: Sendable {
    case connection(PostgresConnection)
    case place
  }

  private typealias Waiter = CheckedContinuation<Grant, any Error>
  private typealias Closer = CheckedContinuation<Void, Never>

  private struct State {
    var idle: [PostgresConnection] = []
    /// Connections that are open, being opened, or promised to a waiter.
    var places = 0
    var waiters: [(id: UInt64, continuation: Waiter)] = []
    var nextID: UInt64 = 0
    var isClosed = false
    var closers: [Closer] = []
  }

  private let configuration: PostgresConfiguration
  private let logger: Logger
  private let state = Mutex(State())

  init(configuration: PostgresConfiguration, logger: Logger) {
    self.configuration = configuration
    self.logger = logger
  }

  /// Lends a live connection. Give it back with `release`.
  func acquire() async throws -> PostgresConnection {
    while true {
      switch try await grant() {
      case .connection(let connection):
        if await connection.isAlive() { return connection }
        logger.debug("a pooled connection had ended; opening another")
        await connection.close()
        return try await open()
      case .place:
        return try await open()
      }
    }
  }

  /// Opens a connection in a place that the caller holds.
  private func open() async throws -> PostgresConnection {
    do { return try await PostgresConnection.open(configuration, logger: logger) } catch {
      givePlace()
      throw error
    }
  }

  private func grant() async throws -> Grant {
    let id = state.withLock { state in
      state.nextID += 1
      return state.nextID
    }
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let answer: Result<Grant, any Error>? = state.withLock { state in
          if state.isClosed { return .failure(Self.closed) }
          // Read under the lock: a cancellation from here on finds the waiter in the list.
          if Task.isCancelled { return .failure(CancellationError()) }
          if let connection = state.idle.popLast() { return .success(.connection(connection)) }
          if state.places < configuration.maximumConnections {
            state.places += 1
            return .success(.place)
          }
          state.waiters.append((id, continuation))
          return nil
        }
        if let answer { continuation.resume(with: answer) }
      }
    } onCancel: {
      let continuation = state.withLock { state in
        state.waiters.firstIndex { $0.id == id }.map { state.waiters.remove(at: $0).continuation }
      }
      continuation?.resume(throwing: CancellationError())
    }
  }

  /// Takes a connection back.
  func release(_ connection: PostgresConnection) async {
    guard await connection.reset() else {
      await connection.close()
      givePlace()
      return
    }
    let (waiter, isClosed) = state.withLock { state -> (Waiter?, Bool) in
      if state.isClosed { return (nil, true) }
      if state.waiters.isEmpty {
        state.idle.append(connection)
        return (nil, false)
      }
      return (state.waiters.removeFirst().continuation, false)
    }
    if isClosed {
      await connection.close()
      givePlace()
    }
    waiter?.resume(returning: .connection(connection))
  }

  /// Gives a place to the next waiter, or frees it.
  private func givePlace() {
    let (waiter, closers) = state.withLock { state -> (Waiter?, [Closer]) in
      if !state.waiters.isEmpty { return (state.waiters.removeFirst().continuation, []) }
      state.places -= 1
      guard state.isClosed, state.places == 0 else { return (nil, []) }
      defer { state.closers = [] }
      return (nil, state.closers)
    }
    waiter?.resume(returning: .place)
    for closer in closers { closer.resume() }
  }

  /// Refuses new work, fails waiters, waits for lent connections and closes all.
  func close() async {
    let (idle, waiters) = state.withLock { state in
      state.isClosed = true
      defer {
        state.idle = []
        state.waiters = []
      }
      return (state.idle, state.waiters.map(\.continuation))
    }
    for waiter in waiters { waiter.resume(throwing: Self.closed) }
    for connection in idle {
      await connection.close()
      givePlace()
    }
    await withCheckedContinuation { continuation in
      let isDone = state.withLock { state in
        if state.places > 0 { state.closers.append(continuation) }
        return state.places == 0
      }
      if isDone { continuation.resume() }
    }
  }

  private static var closed: PostgresError {
    PostgresError(kind: .misuse, message: "the client is closed")
  }
}
