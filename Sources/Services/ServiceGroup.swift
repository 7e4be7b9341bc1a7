// Services that run together and stop one after the other.

import Foundation
import Synchronization

/// Something that runs for as long as its process, until it is told to shut down.
public protocol Service: Sendable {
  /// Returns soon after `Task.isShuttingDownGracefully` has become true.
  func run() async throws
}

/// Why a group of services ended.
public enum ServiceGroupError: Error, CustomStringConvertible, LocalizedError {
  /// The group has run before, or its signals cannot be watched.
  case cannotRun(String)
  /// This service returned although nobody had told it to shut down.
  case endedEarly(String)
  /// These services were cancelled and still run: what they use cannot be closed, and only the end
  /// of the process ends them.
  case wouldNotStop([String], cause: (any Error)?)

  public var description: String {
    switch self {
    case .cannotRun(let reason): "services cannot run: \(reason)"
    case .endedEarly(let name): "\(name) ended though nobody had told it to"
    case .wouldNotStop(let names, let cause):
      "would not stop: " + names.joined(separator: ", ") + (cause.map { "; before: \($0)" } ?? "")
    }
  }
  public var errorDescription: String? { description }
}

/// Runs services together: started in order, shut down in the opposite one.
///
/// The shutdown begins with the first signal, with ``triggerGracefulShutdown()``, or when a service
/// fails or returns. Each service is told to shut down when those started after it have ended. A
/// second signal ends the process at once, with the exit code 128 + signal.
public final class ServiceGroup: Sendable {
  private enum Event {
    case ended(Int)
    case stop(why: String?)
    case cancelled, overdue, givenUp
  }

  private let services: [any Service]
  private let signals: [UnixSignal]
  private let deadline: Duration?
  private let grace: Duration
  private let clock: any Clock<Duration>
  private let report: @Sendable (String) -> Void
  private let events = AsyncStream.makeStream(of: Event.self)
  private let hasRun = Atomic(false)

  /// - Parameters:
  ///   - shutdownDeadline: how long the whole shutdown may take; then all services that still run
  ///     are cancelled. Nil: as long as it takes.
  ///   - cancellationGrace: how long cancelled services may take, where there is a deadline; then
  ///     ``run()`` throws and leaves them behind.
  ///   - report: is told in words what happens, from any thread.
  public init(
    services: [any Service], gracefulShutdownSignals: [UnixSignal] = [],
    shutdownDeadline: Duration? = nil, cancellationGrace: Duration = .seconds(2),
    clock: any Clock<Duration> = ContinuousClock(),
    report: @escaping @Sendable (String) -> Void = { _ in }
  ) {
    self.services = services
    signals = gracefulShutdownSignals
    deadline = shutdownDeadline
    grace = cancellationGrace
    self.clock = clock
    self.report = report
  }

  /// Begins the shutdown; services that do not run yet are told when they do.
  public func triggerGracefulShutdown() { events.continuation.yield(.stop(why: nil)) }

  /// Runs the services until all have ended. Cancelling the caller cancels them all at once.
  /// - Throws: the error of the service that failed first (later ones are reported);
  ///   `CancellationError` where the caller was cancelled; ``ServiceGroupError``. A service that
  ///   blocks its thread is left behind as well, while the process has another thread for tasks.
  public func run() async throws {
    guard !hasRun.exchange(true, ordering: .relaxed) else {
      throw ServiceGroupError.cannotRun("a group runs once")
    }
    let watch = try signals.isEmpty ? nil : watchSignals()
    defer { watch?.stop() }
    try await withTaskCancellationHandler {
      // In a task of its own, for one that is cancelled gets no more events.
      try await Task { try await conduct() }.value
    } onCancel: {
      events.continuation.yield(.cancelled)
    }
  }

  private func watchSignals() throws -> SignalWatch {
    let isSecond = Atomic(false)
    return try SignalWatch(signals) { [report, events] signal in
      if !isSecond.exchange(true, ordering: .relaxed) {
        events.continuation.yield(.stop(why: "\(signal.name): shutting down; again: at once"))
        return
      }
      // Even where nobody takes the report.
      let said = DispatchSemaphore(value: 0)
      DispatchQueue.global().async {
        report("\(signal.name) again: ending at once")
        said.signal()
      }
      _ = said.wait(timeout: .now() + .seconds(1))
      _exit(128 + signal.rawValue)
    }
  }

  private func conduct() async throws {
    var running = services.enumerated().map { index, service in
      let shutdown = Shutdown()
      let task = Task {
        defer { events.continuation.yield(.ended(index)) }
        try await Shutdown.$current.withValue(shutdown) { try await service.run() }
      }
      return (index: index, name: "\(type(of: service))", shutdown: shutdown, task: task)
    }
    var isStopping = false
    var isCancelled = false
    var failure: (any Error)?
    var timer: Task<Void, any Error>?
    defer { timer?.cancel() }

    func wait(_ time: Duration, for event: Event) {
      timer?.cancel()
      timer = Task {
        try await clock.sleep(for: time)
        events.continuation.yield(event)
      }
    }
    func cancelAll() {
      for service in running {
        service.shutdown.begin()
        service.task.cancel()
      }
      isStopping = true
      if deadline != nil { wait(grace, for: .givenUp) }
    }

    var next = events.stream.makeAsyncIterator()
    while !running.isEmpty, let event = await next.next() {
      switch event {
      case .ended(let index):
        guard let place = running.firstIndex(where: { $0.index == index }) else { continue }
        let service = running.remove(at: place)
        do {
          try await service.task.value
          if !isStopping { throw ServiceGroupError.endedEarly(service.name) }
        } catch is CancellationError where service.shutdown.hasBegun {
        } catch {
          report("\(service.name) failed\(isStopping ? "" : "; shutting down"): \(error)")
          if failure == nil { failure = error }
        }
      case .stop(let why): if let why { report(why) }
      case .cancelled:
        isCancelled = true
        cancelAll()
      case .overdue:
        report(
          "cancelled after \(deadline ?? grace): " + running.map(\.name).joined(separator: ", "))
        cancelAll()
      case .givenUp:
        throw ServiceGroupError.wouldNotStop(running.map(\.name), cause: failure)
      }
      if !isStopping, let deadline { wait(deadline, for: .overdue) }
      isStopping = true
      running.last?.shutdown.begin()
    }
    if let failure { throw failure }
    if isCancelled { throw CancellationError() }
  }
}
