// How trainers get jobs: leases from where the queue stands, now and then from its front.

import Foundation
import PostgresClient
import Synchronization

/// When to search at the queue's front, which finds jobs that were passed and may have to walk over many dead rows:
/// rarely, and the more rarely the longer it took. It takes at most a twentieth of the time.
struct StragglerSearch: Sendable {
  private static let pauses = 20

  private var last: ContinuousClock.Instant?
  private var cost = Duration.zero

  /// Whether a search is due; it then counts as begun.
  /// - Parameter interval: the least between two searches.
  mutating func begin(at now: ContinuousClock.Instant, interval: Duration) -> Bool {
    if let last, now < last + max(interval, cost * Self.pauses) { return false }
    last = now
    return true
  }

  mutating func end(at now: ContinuousClock.Instant) {
    if let last { cost = now - last }
  }
}

/// Shared by all that claim jobs in a process.
public final class JobClaimer: Sendable {
  private let owner: String
  private let leaseDuration: Duration
  private let jobs: JobRepository
  private let search = Mutex(StragglerSearch())

  /// Between two searches for stragglers while the queue has other jobs.
  private static let stragglerInterval = Duration.seconds(10)

  /// - Parameters:
  ///   - owner: names the process in its leases.
  ///   - leaseDuration: how long a lease lasts without a heartbeat.
  public init(client: PostgresClient, owner: String, leaseDuration: Duration = .seconds(30)) {
    self.owner = owner
    self.leaseDuration = leaseDuration
    jobs = JobRepository(client)
  }

  /// Leases up to `limit` jobs, never more: a lease that nobody works on runs out, counts as an attempt of a
  /// healthy job, and ends it after a few.
  /// - Parameter name: added to the owner, e.g. which of the process's slots it is for.
  /// - Throws: `PostgresError`.
  public func claim(limit: Int = 1, name: String = "") async throws -> [JobLease] {
    var leases: [JobLease] = []
    func lease(from origin: JobRepository.Origin) async throws {
      guard leases.count < limit else { return }
      leases += try await jobs.lease(
        owner: owner + name, duration: leaseDuration, limit: limit - leases.count, from: origin)
    }
    func searchFront(interval: Duration) async throws -> Bool {
      guard search.withLock({ $0.begin(at: .now, interval: interval) }) else { return false }
      try await lease(from: .front)
      search.withLock { $0.end(at: .now) }
      return true
    }
    // Stragglers lie before the rest, so their turn comes first.
    let hasSearched = try await searchFront(interval: Self.stragglerInterval)
    try await lease(from: .virtualTime)
    // An empty queue is searched at each look, unless that is expensive.
    if leases.count < limit, !hasSearched { _ = try await searchFront(interval: .zero) }
    return leases
  }
}
