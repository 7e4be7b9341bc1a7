// Who may compute: inference at once, training in between.

import Foundation
import Synchronization

/// Gives the cores to one computation at a time, so that two never share them: each uses all threads
/// of the pool. Foreground work (a pass of inference) goes before background work (training), which
/// lets it in at its ``pause()``s. Blocks the calling thread; not for Swift's cooperative pool.
///
/// Unchecked: `isBusy` and `waiting` are read and written under `condition`'s lock only.
public final class ComputeGate: @unchecked Sendable {
  /// The process's gate.
  public static let shared = ComputeGate()

  private let condition = NSCondition()
  private var isBusy = false
  private var waiting = 0
  /// `waiting`, to be looked at without the lock.
  private let wanted = Atomic<Int>(0)

  public init() {}

  /// Runs `body` as soon as the present computation pauses or ends.
  public func foreground<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    condition.lock()
    waiting += 1
    wanted.store(waiting, ordering: .relaxed)
    while isBusy { condition.wait() }
    waiting -= 1
    wanted.store(waiting, ordering: .relaxed)
    isBusy = true
    condition.unlock()
    defer { leave() }
    return try body()
  }

  /// Runs `body` when no foreground work is left. It should call ``pause()`` every few milliseconds.
  public func background<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    enterBackground()
    defer { leave() }
    return try body()
  }

  /// Lets waiting foreground work go first. Only within ``background(_:)``.
  public func pause() {
    guard wanted.load(ordering: .relaxed) > 0 else { return }
    leave()
    enterBackground()
  }

  private func enterBackground() {
    condition.lock()
    while isBusy || waiting > 0 { condition.wait() }
    isBusy = true
    condition.unlock()
  }

  private func leave() {
    condition.lock()
    isBusy = false
    condition.broadcast()
    condition.unlock()
  }
}
