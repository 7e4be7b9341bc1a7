// A fixed set of threads for number crunching, apart from Swift's cooperative pool.

import CKernels
import Foundation
import Synchronization

/// Runs the parts of a computation on a fixed number of threads, the caller's included.
///
/// Several threads may call ``parallel(_:_:)`` at once, and a part may call it again: every caller
/// works on its own computation itself, so nothing ever waits for a free thread.
public final class ThreadPool: Sendable {
  /// The process's pool. Its width is the environment's `OPPU_THREADS`, else the number of cores.
  public static let shared = ThreadPool(
    width: ProcessInfo.processInfo.environment["OPPU_THREADS"].flatMap { Int($0) }
      ?? ProcessInfo.processInfo.activeProcessorCount)

  /// The number of threads that work on one computation, the caller's included. At least 1.
  public let width: Int

  private let queue = WorkQueue()

  /// Starts `width - 1` threads (1 to 1024 in all); they end when the pool is released.
  public init(width: Int) {
    self.width = min(max(width, 1), 1024)
    for number in 1..<max(self.width, 2) where number < self.width {
      let queue = self.queue
      let thread = Thread { queue.work() }
      thread.name = "oppu-compute-\(number)"
      thread.stackSize = 1 << 20
      thread.start()
    }
  }

  deinit { queue.close() }

  /// Calls `body` once for every index below `count`, on several threads, and returns when all
  /// calls have returned. The order is not defined.
  public func parallel(_ count: Int, _ body: (Int) -> Void) {
    if count <= 1 || width == 1 {
      for index in 0..<max(count, 0) { body(index) }
      return
    }
    withoutActuallyEscaping(body) { body in
      withUnsafePointer(to: body) { pointer in
        let job = Job(count: count, body: pointer)
        queue.add(job)
        job.run()
        queue.remove(job)
        job.waitForHelpers()
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

/// One call of `parallel`: the next index to take, and how many other threads are inside.
///
/// Unchecked: `body` is only read, by threads that `waitForHelpers` waits for before the closure
/// behind it goes away; a helper enters under the queue's lock while the job is still listed, and
/// it is off the list before the wait begins. The counters are atomic.
private final class Job: @unchecked Sendable {
  let count: Int
  let body: UnsafePointer<(Int) -> Void>
  let next = Atomic<Int>(0)
  let helpers = Atomic<Int>(0)

  init(count: Int, body: UnsafePointer<(Int) -> Void>) {
    self.count = count
    self.body = body
  }

  var hasWork: Bool { next.load(ordering: .relaxed) < count }

  func run() {
    while true {
      let index = next.add(1, ordering: .relaxed).oldValue
      if index >= count { return }
      body.pointee(index)
    }
  }

  /// Helpers are inside the last parts, which are about as long as the caller's own: spin, and give
  /// the core away once that has taken long.
  func waitForHelpers() {
    var turns = 0
    while helpers.load(ordering: .acquiring) > 0 {
      turns += 1
      if turns > 2000 { sched_yield() } else { ck_pause() }
    }
  }
}

/// The jobs that want helpers, and the idle threads' waiting room.
///
/// A pass of a model has some hundred computations of microseconds each, so nothing on their way may
/// sleep: the list has a spin lock, held for a few instructions, and idle threads look out for a while
/// before they wait on the condition.
///
/// Unchecked: `jobs` is read and written under the spin lock only, `closed` under the condition's.
private final class WorkQueue: @unchecked Sendable {
  private let isLocked = Atomic<Bool>(false)
  private var jobs: [Job] = []
  private let condition = NSCondition()
  private var closed = false
  private let sleepers = Atomic<Int>(0)
  /// Changes with every new job, so that an idle thread can look without taking the lock.
  private let generation = Atomic<Int>(0)
  /// How long a thread that has just helped looks out for more: longer than the gaps between the
  /// computations of a pass, shorter than anybody would notice as load.
  private static let lookOut = Duration.microseconds(200)

  func add(_ job: Job) {
    withLock { jobs.append(job) }
    // In this order, and a thread that goes to sleep counts itself before it looks again: either it
    // sees the new generation, or this sees the sleeper.
    generation.add(1, ordering: .sequentiallyConsistent)
    if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
      condition.lock()
      condition.broadcast()
      condition.unlock()
    }
  }

  func remove(_ job: Job) {
    withLock { jobs.removeAll { $0 === job } }
  }

  func close() {
    condition.lock()
    closed = true
    condition.broadcast()
    condition.unlock()
  }

  func work() {
    while let job = next() {
      job.run()
      job.helpers.subtract(1, ordering: .releasing)
    }
  }

  private func withLock<Result>(_ body: () -> Result) -> Result {
    var turns = 0
    while isLocked.exchange(true, ordering: .acquiring) {
      turns += 1
      if turns > 1000 { sched_yield() } else { ck_pause() }
    }
    defer { isLocked.store(false, ordering: .releasing) }
    return body()
  }

  /// The next job to help with; nil once the queue is closed.
  private func next() -> Job? {
    while true {
      let seen = generation.load(ordering: .sequentiallyConsistent)
      let job = withLock {
        let job = jobs.first { $0.hasWork }
        job?.helpers.add(1, ordering: .relaxed)
        return job
      }
      if let job { return job }
      if isUnchanged(seen), !sleep(seen) { return nil }
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

  /// Waits for a new generation; false once the queue is closed.
  private func sleep(_ seen: Int) -> Bool {
    condition.lock()
    sleepers.add(1, ordering: .sequentiallyConsistent)
    while generation.load(ordering: .sequentiallyConsistent) == seen, !closed { condition.wait() }
    sleepers.subtract(1, ordering: .sequentiallyConsistent)
    defer { condition.unlock() }
    return !closed
  }
}
