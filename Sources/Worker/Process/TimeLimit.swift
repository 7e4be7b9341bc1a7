// Waiting for something no longer than it is worth, also where it does not listen to being cancelled.

import Synchronization

/// The time for something was over before it was done.
struct TimeIsOver: Error, Sendable, CustomStringConvertible {
  let limit: Duration
  var description: String { "not done within \(limit / .seconds(1)) s" }
}

/// Runs work and returns what it returns or throws; where that takes longer than `limit`, cancels it and leaves
/// it behind. A call into a server that hangs does not come back when it is cancelled: whoever waits for it must.
/// - Throws: ``TimeIsOver``; what the work throws; `CancellationError`.
func within<T: Sendable>(
  _ limit: Duration, _ work: @escaping @Sendable () async throws -> T
) async throws -> T {
  let outcome = FirstOutcome<T>()
  let task = Task {
    do { outcome.give(.success(try await work())) } catch { outcome.give(.failure(error)) }
  }
  let timer = Task {
    try await Task.sleep(for: limit)
    outcome.give(.failure(TimeIsOver(limit: limit)))
    task.cancel()
  }
  defer { timer.cancel() }
  return try await withTaskCancellationHandler {
    try await outcome.value()
  } onCancel: {
    outcome.give(.failure(CancellationError()))
    task.cancel()
  }
}

/// The first of several results; later ones go nowhere.
private final class FirstOutcome<T: Sendable>: Sendable {
  private enum State {
    case open(CheckedContinuation<T, any Error>?)
    case given(Result<T, any Error>)
  }
  private let state = Mutex(State.open(nil))

  func give(_ result: Result<T, any Error>) {
    let waiter = state.withLock { state -> CheckedContinuation<T, any Error>? in
      guard case .open(let waiter) = state else { return nil }
      state = .given(result)
      return waiter
    }
    waiter?.resume(with: result)
  }

  /// To be asked for once.
  func value() async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      let result = state.withLock { state -> Result<T, any Error>? in
        if case .given(let result) = state { return result }
        state = .open(continuation)
        return nil
      }
      if let result { continuation.resume(with: result) }
    }
  }
}

/// How long requests wait for the database. One that hangs, neither answering nor refusing, costs the first who
/// meet it their time; until it answers again the others are told soon, but for one a second who tries.
final class DatabasePatience: Sendable {
  private static let whileHanging = Duration.milliseconds(250)
  private static let betweenTrials = Duration.seconds(1)
  /// When the next may wait in full; nil: the database answers.
  private let nextTrial = Mutex<ContinuousClock.Instant?>(nil)

  /// - Throws: ``TimeIsOver``; what the work throws.
  func within<T: Sendable>(
    _ limit: Duration, _ work: @escaping @Sendable () async throws -> T
  ) async throws -> T {
    let isShort = nextTrial.withLock { next in
      guard let time = next else { return false }
      if ContinuousClock.now < time { return true }
      next = .now + Self.betweenTrials
      return false
    }
    do {
      let result = try await Worker.within(isShort ? min(limit, Self.whileHanging) : limit, work)
      nextTrial.withLock { $0 = nil }
      return result
    } catch let error as TimeIsOver {
      nextTrial.withLock { $0 = $0 ?? .now + Self.betweenTrials }
      throw error
    }
  }
}
