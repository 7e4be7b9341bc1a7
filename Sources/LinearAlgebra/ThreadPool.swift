// A fixed set of threads for number crunching, apart from Swift's cooperative pool.

import CKernels
import Foundation
import Synchronization

/// Runs the parts of a computation on a fixed number of threads, the caller's included.
///
/// Several threads may call ``parallel(_:_:)`` at once, and a part may call it again: every caller
/// works on its own computation itself, so nothing ever waits for a free thread.
public final class ThreadPool: Sendable {
  /// The process's pool. Its width is the environment's `OPPU_THREADS`, else the number of cores, or of those that
  /// a container may use.
  public static let shared = ThreadPool(
    width: defaultWidth(
      asked: ProcessInfo.processInfo.environment["OPPU_THREADS"],
      cores: ProcessInfo.processInfo.activeProcessorCount, quota: CPUQuota.cores()))

  /// More threads than the quota is worth would be stopped together for the rest of each period.
  static func defaultWidth(asked: String?, cores: Int, quota: Int?) -> Int {
    asked.flatMap { Int($0) } ?? min(cores, quota ?? cores)
  }

  /// The number of threads that work on one computation, the caller's included. At least 1.
  public let width: Int

  private let board = Board()

  /// Starts `width - 1` threads (1 to 1024 in all); they end when the pool is released.
  public init(width: Int) {
    self.width = min(max(width, 1), 1024)
    for number in 1..<max(self.width, 2) where number < self.width {
      let board = self.board
      let thread = Thread { board.help() }
      thread.name = "oppu-compute-\(number)"
      thread.stackSize = 1 << 20
      thread.start()
    }
  }

  deinit { board.close() }

  /// Calls `body` once for every index below `count`, on several threads, and returns when all
  /// calls have returned. The order is not defined.
  public func parallel(_ count: Int, _ body: (Int) -> Void) {
    guard count > 1, width > 1, let notice = board.takeNotice() else {
      for index in 0..<max(count, 0) { body(index) }
      return
    }
    withoutActuallyEscaping(body) { body in
      withUnsafePointer(to: body) { pointer in
        notice.open(count: count, body: pointer)
        board.announce()
        notice.work()
        notice.close()
      }
    }
  }

  /// Calls `body` once for every task below `count`, in parallel, with a slot below ``width`` that no
  /// other call has at the same time: for scratch memory per thread.
  public func parallelSlots(_ count: Int, _ body: (_ slot: Int, _ task: Int) -> Void) {
    let next = Atomic<Int>(0)
    parallel(min(width, count)) { slot in
      while true {
        let task = next.add(1, ordering: .relaxed).oldValue
        if task >= count { return }
        body(slot, task)
      }
    }
  }

  /// Splits `0..<count` into at most `width` ranges that start at multiples of `multiple` and calls
  /// `body` once for each, in parallel.
  public func parallelRanges(_ count: Int, multiple: Int = 1, _ body: (Range<Int>) -> Void) {
    guard count > 0 else { return }
    let units = (count + multiple - 1) / multiple
    let parts = min(width, units)
    parallel(parts) { part in
      let start = units * part / parts * multiple
      let end = min(units * (part + 1) / parts * multiple, count)
      if start < end { body(start..<end) }
    }
  }
}

/// One call of `parallel` that helpers may join: the next index to take, and how many are inside.
///
/// Unchecked: `count` and `body` are written by the owner (whoever made `isTaken` true) while the
/// notice is closed and nobody is inside, and read by helpers that are inside and have seen it open
/// since. A helper counts itself before it looks whether the notice is open, and the owner closes it
/// before it looks for helpers, so one of them sees the other: nobody is inside when ``close()``
/// returns and the closure behind `body` goes away.
private final class Notice: @unchecked Sendable {
  let isTaken = Atomic<Bool>(false)
  private let isOpen = Atomic<Bool>(false)
  private let helpers = Atomic<Int>(0)
  private let next = Atomic<Int>(0)
  private var count = 0
  private var body: UnsafePointer<(Int) -> Void>?

  func open(count: Int, body: UnsafePointer<(Int) -> Void>) {
    self.count = count
    self.body = body
    next.store(0, ordering: .relaxed)
    isOpen.store(true, ordering: .sequentiallyConsistent)
  }

  func work() {
    guard let body = body?.pointee else { return }
    let count = count
    while true {
      let index = next.add(1, ordering: .relaxed).oldValue
      if index >= count { return }
      body(index)
    }
  }

  /// Works on the computation if there is one.
  func help() {
    guard isOpen.load(ordering: .relaxed) else { return }
    helpers.add(1, ordering: .sequentiallyConsistent)
    if isOpen.load(ordering: .sequentiallyConsistent) { work() }
    helpers.subtract(1, ordering: .releasing)
  }

  /// Waits for the helpers inside, whose last parts are about as long as the caller's own: spins, and
  /// gives the core away once that has taken long.
  func close() {
    isOpen.store(false, ordering: .sequentiallyConsistent)
    var turns = 0
    while helpers.load(ordering: .sequentiallyConsistent) > 0 {
      turns += 1
      if turns > 2000 { sched_yield() } else { ck_pause() }
    }
    body = nil
    isTaken.store(false, ordering: .releasing)
  }
}

/// The computations that want helpers, and the idle threads' waiting room.
///
/// A pass of a model has some hundred computations of microseconds each, so nothing on their way may
/// sleep, lock or allocate: there are a few notices for ever, and idle threads look out for a while
/// before they wait on the condition.
///
/// Unchecked: `closed` is read and written under the condition's lock only.
private final class Board: @unchecked Sendable {
  /// As many computations at a time have helpers; inference and training take turns, so that there
  /// is rarely more than one, and parts of one that call `parallel` again.
  private let notices = (0..<4).map { _ in Notice() }
  private let condition = NSCondition()
  private var closed = false
  private let sleepers = Atomic<Int>(0)
  /// Changes with every computation, so that idle threads have one place to look at.
  private let generation = Atomic<Int>(0)
  /// How long a thread that has just helped looks out for more: longer than the gaps between the
  /// computations of a pass, shorter than anybody would notice as load.
  private static let lookOut = Duration.microseconds(200)

  /// A notice for a computation; nil where all are taken.
  func takeNotice() -> Notice? {
    for notice in notices
    where !notice.isTaken.load(ordering: .relaxed)
      && !notice.isTaken.exchange(true, ordering: .acquiring)
    {
      return notice
    }
    return nil
  }

  /// Calls the idle threads to a notice just opened.
  func announce() {
    // In this order, and a thread that goes to sleep counts itself before it looks again: either it
    // sees the new generation, or this sees the sleeper.
    generation.add(1, ordering: .sequentiallyConsistent)
    if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
      condition.lock()
      condition.broadcast()
      condition.unlock()
    }
  }

  func close() {
    condition.lock()
    closed = true
    condition.broadcast()
    condition.unlock()
  }

  /// Helps with one computation after the other until the board is closed.
  func help() {
    while true {
      let seen = generation.load(ordering: .sequentiallyConsistent)
      for notice in notices { notice.help() }
      if isUnchanged(seen), !sleep(seen) { return }
    }
  }

  /// Looks out for a new generation; whether none came.
  private func isUnchanged(_ seen: Int) -> Bool {
    let clock = ContinuousClock()
    let start = clock.now
    repeat {
      for _ in 0..<64 {
        if generation.load(ordering: .acquiring) != seen { return false }
        ck_pause()
      }
    } while clock.now - start < Self.lookOut
    return true
  }

  /// Waits for a new generation; false once the board is closed.
  private func sleep(_ seen: Int) -> Bool {
    condition.lock()
    sleepers.add(1, ordering: .sequentiallyConsistent)
    while generation.load(ordering: .sequentiallyConsistent) == seen, !closed { condition.wait() }
    sleepers.subtract(1, ordering: .sequentiallyConsistent)
    defer { condition.unlock() }
    return !closed
  }
}
