// Where blocking work runs: a thread of its own, never Swift's cooperative pool.

import Dispatch
import Foundation

/// Runs one piece of number crunching at a time, in the order it was asked for.
public final class ComputeQueue: Sendable {
  private let queue: DispatchQueue

  public init(_ label: String) {
    // Its own target keeps the work off the global queues that others may fill.
    queue = DispatchQueue(label: "oppu.\(label)", qos: .userInitiated)
  }

  /// Runs the work on the queue's thread and returns what it returns or throws.
  public func run<T: Sendable>(_ work: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      queue.async { continuation.resume(with: Result { try work() }) }
    }
  }
}

/// A flag that a long computation looks at between steps.
public final class StopFlag: Sendable {
  private let lock = NSLock()
  nonisolated(unsafe) private var stopped = false  // Guarded by `lock`.

  public init() {}

  public var isSet: Bool { lock.withLock { stopped } }
  public func set() { lock.withLock { stopped = true } }
}
