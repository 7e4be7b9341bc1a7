import Services
import Synchronization

/// What happened, in order.
final class Journal: Sendable {
  private let kept = Mutex<[String]>([])
  private let changes = AsyncStream.makeStream(of: Void.self)

  var lines: [String] { kept.withLock(\.self) }

  func note(_ line: String) {
    kept.withLock { $0.append(line) }
    changes.continuation.yield()
  }

  /// Waits until a line is there. One waiter at a time.
  func wait(for line: String) async {
    var next = changes.stream.makeAsyncIterator()
    while !lines.contains(line) { await next.next() }
  }
}

/// A service of a closure. Services are named by their type: each test has its own.
struct Work: Service {
  let work: @Sendable () async throws -> Void
  init(_ work: @escaping @Sendable () async throws -> Void) { self.work = work }
  func run() async throws { try await work() }
}

struct Failing: Service {
  let work: @Sendable () async throws -> Void
  func run() async throws { try await work() }
}

struct Broken: Error, Equatable, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// Opened once; waiting for it ignores cancellation.
final class Gate: Sendable {
  private struct State {
    var isOpen = false
    var waiting: [CheckedContinuation<Void, Never>] = []
  }

  private let state = Mutex(State())

  func open() {
    let waiting = state.withLock { state in
      state.isOpen = true
      defer { state.waiting = [] }
      return state.waiting
    }
    for continuation in waiting { continuation.resume() }
  }

  func wait() async {
    await withCheckedContinuation { continuation in
      let isOpen = state.withLock { state in
        if !state.isOpen { state.waiting.append(continuation) }
        return state.isOpen
      }
      if isOpen { continuation.resume() }
    }
  }
}

/// A clock that stands still until it is moved.
final class ManualClock: Clock {
  struct Instant: InstantProtocol {
    var time: Duration
    func advanced(by duration: Duration) -> Self { Self(time: time + duration) }
    func duration(to other: Self) -> Duration { other.time - time }
    static func < (a: Self, b: Self) -> Bool { a.time < b.time }
  }

  private struct State {
    var now = Instant(time: .zero)
    var sleepers: [(until: Instant, gate: Gate)] = []
  }

  private let state = Mutex(State())
  private let sleeps = AsyncStream.makeStream(of: Duration.self)
  var now: Instant { state.withLock(\.now) }
  var minimumResolution: Duration { .zero }

  func sleep(until deadline: Instant, tolerance: Duration?) async throws {
    let gate = Gate()
    let length = state.withLock { state in
      state.sleepers.append((deadline, gate))
      return state.now.duration(to: deadline)
    }
    sleeps.continuation.yield(length)
    await withTaskCancellationHandler {
      await gate.wait()
    } onCancel: {
      gate.open()
    }
    try Task.checkCancellation()
  }

  /// Waits until somebody sleeps, and says for how long.
  func nextSleep() async -> Duration? { await sleeps.stream.first { _ in true } }

  func advance(by duration: Duration) {
    let due = state.withLock { state in
      state.now = state.now.advanced(by: duration)
      defer { state.sleepers.removeAll { $0.until <= state.now } }
      return state.sleepers.filter { $0.until <= state.now }.map(\.gate)
    }
    for gate in due { gate.open() }
  }
}
