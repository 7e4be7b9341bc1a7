// How a trainer gets jobs: leases from where the queue stands, now and then from its front, and looks after jobs
// whose workers are gone.

import Foundation
import PostgresClient
import Synchronization

/// Shared by all that claim jobs in a process.
///
/// What may have to walk over many dead rows is done rarely, and the more rarely the longer it took: it takes at
/// most a twentieth of the time.
public final class JobClaimer: Sendable {
  public struct Settings: Sendable {
    public var owner: String
    public var leaseDuration: Duration = .seconds(30)
    public var maximumAttempts = 3
    /// Pause between two rounds of upkeep.
    public var upkeepInterval: Duration = .seconds(5)
    /// Pause between two searches for stragglers while the queue has other jobs.
    public var stragglerInterval: Duration = .seconds(10)

    public init(owner: String) { self.owner = owner }
  }

  private struct State {
    var nextUpkeep: ContinuousClock.Instant?
    /// Everything that ran out before this was looked after.
    var tendedAt: ContinuousClock.Instant?
    var nextFullUpkeep: ContinuousClock.Instant?
    var stragglersAt: ContinuousClock.Instant?
    var stragglersCost: Duration = .zero
  }

  private let settings: Settings
  private let client: PostgresClient
  private let jobs: JobRepository
  private let state = Mutex(State())

  /// Rows that an upkeep skipped, because their transaction was just ending, are seen by the next ones for this
  /// long; a full one follows from time to time.
  private static let overlap: Duration = .seconds(15)
  private static let fullUpkeepInterval: Duration = .seconds(120)
  private static let dutyCycle = 20

  public init(client: PostgresClient, settings: Settings) {
    self.client = client
    self.settings = settings
    jobs = JobRepository(client)
  }

  /// Leases up to `limit` jobs, never more: a lease that nobody works on runs out, counts as an attempt of a
  /// healthy job, and ends it after a few.
  /// - Parameter name: added to the owner, e.g. which of the process's slots it is for.
  public func claim(limit: Int = 1, name: String = "") async throws -> [JobLease] {
    try await upkeepIfDue()
    var leases: [JobLease] = []
    func lease(from origin: JobRepository.Origin) async throws {
      guard leases.count < limit else { return }
      leases += try await jobs.lease(
        owner: settings.owner + name, duration: settings.leaseDuration,
        limit: limit - leases.count, from: origin)
    }
    // Stragglers lie before the rest, so their turn comes first.
    let isTheirTurn = isTimeForStragglers(after: settings.stragglerInterval)
    if isTheirTurn { try await timed { try await lease(from: .front) } }
    try await lease(from: .virtualTime)
    // An empty queue is searched at each look, unless that is expensive.
    if leases.count < limit, !isTheirTurn, isTimeForStragglers(after: .zero) {
      try await timed { try await lease(from: .front) }
    }
    return leases
  }

  private func isTimeForStragglers(after interval: Duration) -> Bool {
    let now = ContinuousClock.now
    return state.withLock { state in
      let pause = max(interval, state.stragglersCost * Self.dutyCycle)
      if let last = state.stragglersAt, now < last + pause { return false }
      state.stragglersAt = now
      return true
    }
  }

  /// Runs a search for stragglers and keeps what it cost.
  private func timed(_ search: () async throws -> Void) async throws {
    let begin = ContinuousClock.now
    try await search()
    let cost = ContinuousClock.now - begin
    state.withLock { $0.stragglersCost = cost }
  }

  private func upkeepIfDue() async throws {
    let begin = ContinuousClock.now
    let plan: (since: Duration?, isFull: Bool)? = state.withLock { state in
      if let next = state.nextUpkeep, next > begin { return nil }
      state.nextUpkeep = begin + settings.upkeepInterval
      guard let tended = state.tendedAt, let full = state.nextFullUpkeep, full > begin else {
        return (nil, true)
      }
      return (begin - tended + Self.overlap, false)
    }
    guard let plan else { return }
    let done = try await JobQueue.tend(
      since: plan.since, maximumAttempts: settings.maximumAttempts, client: client)
    // Where another session did it, that one's next round covers the rest.
    guard done != nil else { return }
    let cost = ContinuousClock.now - begin
    state.withLock { state in
      state.tendedAt = begin
      state.nextUpkeep = begin + max(settings.upkeepInterval, cost * Self.dutyCycle)
      if plan.isFull {
        state.nextFullUpkeep = begin + max(Self.fullUpkeepInterval, cost * Self.dutyCycle)
        // A full round is the exception: the next ordinary one comes in time.
        state.nextUpkeep = begin + settings.upkeepInterval
      }
    }
  }
}
