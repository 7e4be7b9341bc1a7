// Where blocking work runs: a thread of its own, never Swift's cooperative pool.

import Dispatch
import Foundation
import Synchronization

/// Runs one piece of number crunching at a time, in the order it was asked for; or, where it is concurrent, as
/// many as there are.
public final class ComputeQueue: Sendable {
  private let queue: DispatchQueue

  /// - Parameter isConcurrent: whether pieces of work may run beside each other.
  public init(_ label: String, isConcurrent: Bool = false) {
    // Its own target keeps the work off the global queues that others may fill.
    queue = DispatchQueue(
      label: "oppu.\(label)", qos: .userInitiated, attributes: isConcurrent ? .concurrent : [])
  }

  /// Runs the work on the queue's thread and returns what it returns or throws.
  public func run<T: Sendable>(_ work: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      queue.async { continuation.resume(with: Result { try work() }) }
    }
  }
}

/// What a long computation and the task that watches it tell each other: how far it is, and that it should end.
public final class ComputeProgress<Report: Sendable>: Sendable {
  private let stopped = Atomic<Bool>(false)
  private let report = Mutex<Report?>(nil)

  public init() {}

  /// The newest report of the computation.
  public var latest: Report? { report.withLock { $0 } }
  /// Replaces the newest report.
  public func update(_ newest: Report) { report.withLock { $0 = newest } }

  /// Whether the computation should end; it looks between steps.
  public var isStopped: Bool { stopped.load(ordering: .acquiring) }
  /// Asks the computation to end.
  public func stop() { stopped.store(true, ordering: .releasing) }
}
