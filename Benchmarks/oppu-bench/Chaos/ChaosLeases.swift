// Watches the training queue in a trial: a lease is worked on, and no attempt of a healthy job is counted for nothing.

import Foundation
import PostgresClient

struct ChaosLeases: Sendable {
  let database: PostgresClient
  let ledger: ChaosLedger

  static let lease = Duration.seconds(10)
  /// Seconds that a lease lasts, and after which a trainer has got over what went wrong before. That a lease ran out is
  /// noted by the next trainer who asks for a job; all of them may be at trainings of their own.
  private static let calm = (lease / .seconds(1)) * 6

  /// A trainer works on one job; who holds the leases of two for three looks leaves one of them alone.
  func watch() async throws {
    var looks: [String: Int] = [:]
    var found: Set<String> = []
    while !Task.isCancelled {
      try await Task.sleep(for: .seconds(1))
      let holders = try? await database.query(
        """
        SELECT lease_owner FROM training_jobs WHERE state = 'running' AND lease_expires_at > now()
        GROUP BY lease_owner HAVING count(*) > 1
        """
      ).map { try $0.decode("lease_owner", as: String.self) }
      guard let holders, await !isDisturbed([.database, .workers], at: .now) else {
        looks = [:]
        continue
      }
      looks = Dictionary(
        holders.map { ($0, looks[$0, default: 0] + 1) }, uniquingKeysWith: { $1 })
      for (holder, count) in looks where count == 3 && found.insert(holder).inserted {
        await ledger.find("the trainer \(holder) holds the leases of more jobs than it works on")
      }
    }
  }

  /// Leases that ran out though neither the database nor a worker was disturbed, and jobs that died.
  func check() async throws {
    let silent = try await database.query(
      """
      SELECT job_id, failure->>'at' AS at, extract(epoch FROM (failure->>'at')::timestamptz)::float8 AS seconds
      FROM training_jobs, jsonb_array_elements(coalesce(failures, '[]')) AS failure
      WHERE failure->>'error' LIKE '%silent until its lease ran out%'
      """)
    var jobs: [Int64] = []
    for row in silent {
      let at = Date(timeIntervalSince1970: try row.decode("seconds", as: Double.self))
      if await !isDisturbed([.database, .workers, .machine], at: at) {
        jobs.append(try row.decode("job_id", as: Int64.self))
      }
    }
    if !jobs.isEmpty {
      await ledger.find("attempts of jobs were counted that nobody was kept from: \(jobs.sorted())")
    }
    for row in try await database.query(
      "SELECT job_id, attempts, error FROM training_jobs WHERE state = 'dead'")
    {
      await ledger.find(
        "job \(try row.decode("job_id", as: Int64.self)) is dead after \(try row.decode("attempts", as: Int.self)) attempts: \(try row.decode("error", as: String?.self) ?? "")"
      )
    }
  }

  private func isDisturbed(_ areas: Set<ChaosLedger.Area>, at time: Date) async -> Bool {
    await ledger.wasDisturbed(areas, from: time - Self.calm, to: time)
  }
}
