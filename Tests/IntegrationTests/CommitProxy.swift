// A way to PostgreSQL that can be cut at the one moment that matters: just before or just after COMMIT.

import DevelopmentServers
import Foundation
import PostgresClient
import Synchronization

/// A proxy in front of PostgreSQL that sees when a client commits.
final class CommitProxy: Sendable {
  /// What is done to one COMMIT.
  enum Fault: Sendable {
    /// The backend is terminated before COMMIT reaches it: nothing of the transaction stays.
    case terminateBefore
    /// COMMIT is carried out, the client never hears of it: all of the transaction stays.
    case terminateAfter
  }

  private let proxy: LoopbackProxy
  private let plan: Plan

  /// - Parameters:
  ///   - admin: a client that reaches the server by another way.
  ///   - delay: every COMMIT takes so many microseconds longer, so that there is time to interfere.
  init(to target: Int, admin: PostgresClient, delay: useconds_t) throws {
    let plan = Plan(admin: admin, delay: delay)
    self.plan = plan
    proxy = try LoopbackProxy(to: target) { Connection(plan) }
  }

  var port: Int { proxy.port }

  /// The next commits, one each, meet these faults.
  func inject(_ faults: [Fault]) { plan.state.withLock { $0.faults += faults } }

  var done: [Fault] { plan.state.withLock { $0.done } }

  /// While held, what clients send is kept back, and no lock is taken on their behalf.
  func hold(_ isHeld: Bool) { plan.state.withLock { $0.holds = isHeld } }
  /// Statements that are kept back.
  var held: Int { plan.state.withLock { $0.held } }

  func stop() {
    hold(false)
    proxy.stop()
  }

  /// What is to happen to whom, and what has happened.
  private final class Plan: Sendable {
    struct State {
      var faults: [Fault] = []
      var done: [Fault] = []
      var holds = false
      var held = 0
    }
    let admin: PostgresClient
    let delay: useconds_t
    let state = Mutex(State())

    init(admin: PostgresClient, delay: useconds_t) {
      self.admin = admin
      self.delay = delay
    }

    func nextFault() -> Fault? {
      state.withLock { state in
        guard !state.faults.isEmpty else { return nil }
        let fault = state.faults.removeFirst()
        state.done.append(fault)
        return fault
      }
    }

    func waitWhileHeld() {
      guard state.withLock({ $0.holds }) else { return }
      state.withLock { $0.held += 1 }
      while state.withLock({ $0.holds }) { usleep(2_000) }
      state.withLock { $0.held -= 1 }
    }
  }

  private final class Connection: LoopbackObserver {
    private let plan: Plan
    /// The backend's process id, from its greeting; and whether its next answer is swallowed.
    private let state = Mutex((backend: Int32(0), swallows: false))
    private static let commit = Array("COMMIT\0".utf8)
    private static let fence = Array("UPDATE ingest_partitions SET next_offset".utf8)

    init(_ plan: Plan) { self.plan = plan }

    func fromClient(_ bytes: [UInt8]) -> [UInt8]? {
      if bytes.firstRange(of: Self.fence) != nil { plan.waitWhileHeld() }
      guard bytes.firstRange(of: Self.commit) != nil else { return bytes }
      usleep(plan.delay)
      switch plan.nextFault() {
      case .terminateBefore: terminate()
      case .terminateAfter: state.withLock { $0.swallows = true }
      case nil: break
      }
      return bytes
    }

    func fromServer(_ bytes: [UInt8]) -> [UInt8]? {
      let (backend, swallows) = state.withLock { $0 }
      if backend == 0 { noteBackend(bytes) }
      guard swallows else { return bytes }
      // COMMIT has been answered; the client must not know.
      terminate()
      return nil
    }

    /// BackendKeyData: 'K', a length of 12, the process id, the key.
    private func noteBackend(_ greeting: [UInt8]) {
      guard let key = greeting.firstRange(of: [UInt8(ascii: "K"), 0, 0, 0, 12]),
        greeting.count >= key.upperBound + 4
      else { return }
      let id = greeting[key.upperBound..<key.upperBound + 4].reduce(Int32(0)) {
        $0 << 8 | Int32($1)
      }
      state.withLock { $0.backend = id }
    }

    private func terminate() {
      let backend = state.withLock { $0.backend }
      let done = DispatchSemaphore(value: 0)
      Task { [plan] in
        _ = try? await plan.admin.query("SELECT pg_terminate_backend(\(backend))")
        done.signal()
      }
      done.wait()
    }
  }
}
