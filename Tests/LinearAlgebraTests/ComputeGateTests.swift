import Foundation
import Synchronization
import Testing

@testable import LinearAlgebra

@Suite("Compute gate")
struct ComputeGateTests {
  @Test(
    "Background work lets waiting foreground work in at its next pause, and never runs beside it")
  func priority() {
    let gate = ComputeGate()
    let work = Work()
    let done = DispatchGroup()
    for _ in 0..<3 {
      DispatchQueue.global().async(group: done) {
        for _ in 0..<100 {
          gate.foreground {
            work.run()
            work.served.add(1, ordering: .relaxed)
          }
        }
      }
    }
    // Ends only if foreground work gets in at a pause.
    gate.background {
      while work.served.load(ordering: .relaxed) < 300 {
        work.run()
        gate.pause()
      }
    }
    done.wait()
    #expect(work.served.load(ordering: .relaxed) == 300)
    #expect(work.overlaps.load(ordering: .relaxed) == 0)
  }
}

/// Notices when it runs twice at a time.
private final class Work: Sendable {
  let served = Atomic<Int>(0)
  let overlaps = Atomic<Int>(0)
  private let running = Atomic<Int>(0)

  func run() {
    if running.add(1, ordering: .sequentiallyConsistent).newValue != 1 {
      overlaps.add(1, ordering: .relaxed)
    }
    running.subtract(1, ordering: .sequentiallyConsistent)
  }
}
