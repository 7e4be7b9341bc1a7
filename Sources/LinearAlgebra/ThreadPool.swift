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
/// Unchecked: `jobs` and `closed` are read and written under `condition`'s lock only.
private final class WorkQueue: @unchecked Sendable {
  private let condition = NSCondition()
  private var jobs: [Job] = []
  private var closed = false
  private var sleepers = 0
  /// Changes with every new job, so that an idle thread can look without taking the lock.
  private let generation = Atomic<Int>(0)

  func add(_ job: Job) {
    condition.lock()
    jobs.append(job)
    generation.add(1, ordering: .releasing)
    let wake = sleepers > 0
    condition.unlock()
    if wake { condition.broadcast() }
  }

  func remove(_ job: Job) {
    condition.lock()
    jobs.removeAll { $0 === job }
    condition.unlock()
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

  /// The next job to help with. A thread that has just helped looks out for about 50 microseconds
  /// before it sleeps: the products of one decoded token follow each other faster than a sleeping
  /// thread wakes up.
  private func next() -> Job? {
    condition.lock()
    while true {
      if closed {
        condition.unlock()
        return nil
      }
      if let job = jobs.first(where: { $0.hasWork }) {
        job.helpers.add(1, ordering: .relaxed)
        condition.unlock()
        return job
      }
      let seen = generation.load(ordering: .relaxed)
      condition.unlock()
      var turns = 0
      while turns < 1500, generation.load(ordering: .acquiring) == seen {
        ck_pause()
        turns += 1
      }
      condition.lock()
      if generation.load(ordering: .relaxed) == seen, !closed {
        sleepers += 1
        condition.wait()
        sleepers -= 1
      }
    }
  }
}
