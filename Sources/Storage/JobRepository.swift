// Training jobs as a queue of leases.
//
// A trainer leases a due job with SKIP LOCKED, extends the lease by heartbeats, and finishes it in one
// transaction with the adapter it made. Every lease has a new fencing token; a write with an old token touches
// no row, so a trainer that was paused past its lease changes nothing. A lease that ran out is due again.

import Foundation
import Personalization
import PostgresClient

public enum JobState: String, Sendable, Codable, CaseIterable {
  case queued, running, succeeded, dead, cancelled
}

public enum JobReason: String, Sendable, Codable {
  case firstAdapter = "first_adapter"
  case shift
  case newEvents = "new_events"
}

/// The right to work on a job until the lease runs out.
public struct JobLease: Sendable {
  public let jobID: Int64
  public let token: Int64
  public let stream: Stream
  public let reason: JobReason
  public let changeOrdinal: Int64?
  public let attempt: Int
}

/// A job as operators see it.
public struct JobRecord: Sendable, Codable {
  public let jobID: Int64
  public let userID: String
  public let task: String
  public let reason: String
  public let changeOrdinal: Int64?
  public let state: JobState
  public let attempts: Int
  public let leaseOwner: String?
  public let leaseExpiresAt: Date?
  public let progress: JSONValue?
  public let result: JSONValue?
  public let error: String?
  public let createdAt: Date
  public let startedAt: Date?
  public let finishedAt: Date?

  enum CodingKeys: String, CodingKey {
    case task, reason, state, attempts, progress, result, error
    case jobID = "job_id"
    case userID = "user_id"
    case changeOrdinal = "change_ordinal"
    case leaseOwner = "lease_owner"
    case leaseExpiresAt = "lease_expires_at"
    case createdAt = "created_at"
    case startedAt = "started_at"
    case finishedAt = "finished_at"
  }
}

/// The lease belongs to somebody else by now, or the job is gone.
public struct LostLeaseError: Error, CustomStringConvertible {
  public let jobID: Int64
  public var description: String {
    "the lease of training job \(jobID) was lost; its result is discarded"
  }
}

public struct JobRepository: Sendable {
  private let client: PostgresClient

  public init(_ client: PostgresClient) { self.client = client }

  /// Leases the oldest due job, or one whose lease ran out.
  /// - Parameter maximumAttempts: a job that was begun this often and never finished is declared dead instead.
  public func lease(owner: String, duration: Duration, maximumAttempts: Int) async throws
    -> JobLease?
  {
    let seconds = duration.inSeconds
    try await client.execute(
      """
      UPDATE training_jobs SET state = 'dead', finished_at = now(), lease_owner = NULL,
        error = coalesce(error || '; ', '') || 'its worker died or lost its lease '
          || attempts || ' times'
      WHERE state = 'running' AND lease_expires_at < now() AND attempts >= \(maximumAttempts)
      """)
    let rows = try await client.query(
      """
      UPDATE training_jobs AS j SET state = 'running', attempts = j.attempts + 1,
        lease_owner = \(owner), lease_token = j.lease_token + 1,
        lease_expires_at = now() + make_interval(secs => \(seconds)),
        started_at = now()
      WHERE j.job_id = (
        SELECT c.job_id FROM training_jobs AS c
        WHERE (c.state = 'queued' AND c.run_at <= now()
               AND NOT EXISTS (SELECT 1 FROM training_jobs AS r WHERE r.user_id = c.user_id
                               AND r.task = c.task AND r.state = 'running'))
           -- A lease may run out between the statement above and this one: the limit holds here too.
           OR (c.state = 'running' AND c.lease_expires_at < now() AND c.attempts < \(maximumAttempts))
        ORDER BY c.run_at, c.job_id LIMIT 1 FOR UPDATE SKIP LOCKED)
      RETURNING job_id, lease_token, user_id, task, reason, change_ordinal, attempts
      """)
    return try rows.first.map { row in
      JobLease(
        jobID: try row.decode("job_id"), token: try row.decode("lease_token"),
        stream: try row.stream(),
        reason: JobReason(rawValue: try row.decode("reason")) ?? .newEvents,
        changeOrdinal: try row.decode("change_ordinal"), attempt: try row.decode("attempts"))
    }
  }

  /// Extends the lease and records how far the job is.
  /// - Throws: ``LostLeaseError``.
  public func heartbeat(_ lease: JobLease, duration: Duration, progress: JSONValue?) async throws {
    let touched = try await client.execute(
      """
      UPDATE training_jobs SET lease_expires_at = now() + make_interval(secs => \(duration.inSeconds)),
        progress = coalesce(\(progress.map { PostgresJSON($0) })::jsonb, progress)
      WHERE job_id = \(lease.jobID) AND state = 'running' AND lease_token = \(lease.token)
      """)
    guard touched == 1 else { throw LostLeaseError(jobID: lease.jobID) }
  }

  /// Finishes the job and stores its adapter, in one transaction behind the fencing token.
  /// - Returns: the new version's number; nil for a job that ends without an adapter.
  /// - Throws: ``LostLeaseError``.
  @discardableResult
  public func finish(_ lease: JobLease, adapter: NewAdapter?, result: JSONValue) async throws
    -> Int?
  {
    try await client.withTransaction { connection in
      // The stream's row first, as everywhere, so that an erasure cannot deadlock with this.
      try await connection.execute(
        """
        SELECT 1 FROM user_task_state
        WHERE user_id = \(lease.stream.userID) AND task = \(lease.stream.task) FOR UPDATE
        """)
      try await Self.end(
        lease, state: .succeeded, error: nil, result: result, on: connection)
      guard let adapter else { return nil }
      let version = try await AdapterRepository(connection).insert(adapter, jobID: lease.jobID)
      try await OutboxRepository(connection).post(
        AdapterEvent(
          kind: adapter.gate.promoted ? .promoted : .rejected, stream: lease.stream,
          adapterVersion: version, parentVersion: adapter.parentVersion, jobID: lease.jobID,
          reason: lease.reason.rawValue, heldOutLoss: adapter.gate.candidateLoss,
          parentHeldOutLoss: adapter.gate.parentLoss))
      return version
    }
  }

  /// Puts a failed job back for a later attempt, or declares it dead after the last one.
  public func fail(_ lease: JobLease, error: String, retryAfter: Duration?) async throws {
    try await client.withTransaction { connection in
      if let retryAfter {
        let touched = try await connection.execute(
          """
          UPDATE training_jobs SET state = 'queued', lease_owner = NULL, lease_expires_at = NULL,
            run_at = now() + make_interval(secs => \(retryAfter.inSeconds)), error = \(error)
          WHERE job_id = \(lease.jobID) AND state = 'running' AND lease_token = \(lease.token)
            AND NOT EXISTS (SELECT 1 FROM training_jobs q WHERE q.user_id = \(lease.stream.userID)
                            AND q.task = \(lease.stream.task) AND q.state = 'queued')
          """)
        if touched == 1 { return }
      }
      // Dead, or superseded by a queued job of the same stream that will do the same work.
      try await Self.end(lease, state: .dead, error: error, result: nil, on: connection)
      try await OutboxRepository(connection).post(
        AdapterEvent(
          kind: .trainingFailed, stream: lease.stream, jobID: lease.jobID, reason: error))
    }
  }

  /// Gives a job back unharmed, e.g. because the worker is shutting down. It does not count as an attempt.
  public func release(_ lease: JobLease) async throws {
    // Where a newer job of the stream is queued already, that one does the work.
    try await client.execute(
      """
      UPDATE training_jobs SET
        state = CASE WHEN EXISTS (
          SELECT 1 FROM training_jobs q WHERE q.user_id = \(lease.stream.userID)
            AND q.task = \(lease.stream.task) AND q.state = 'queued')
          THEN 'cancelled' ELSE 'queued' END,
        attempts = attempts - 1, lease_owner = NULL, lease_expires_at = NULL, run_at = now()
      WHERE job_id = \(lease.jobID) AND state = 'running' AND lease_token = \(lease.token)
      """)
  }

  private static func end(
    _ lease: JobLease, state: JobState, error: String?, result: JSONValue?,
    on connection: PostgresConnection
  ) async throws {
    let touched = try await connection.execute(
      """
      UPDATE training_jobs SET state = \(state.rawValue), finished_at = now(), lease_owner = NULL,
        lease_expires_at = NULL, error = \(error), result = \(result.map { PostgresJSON($0) })::jsonb
      WHERE job_id = \(lease.jobID) AND state = 'running' AND lease_token = \(lease.token)
      """)
    guard touched == 1 else { throw LostLeaseError(jobID: lease.jobID) }
  }

  public func list(
    state: JobState? = nil, userID: String? = nil, task: String? = nil, limit: Int = 200
  ) async throws -> [JobRecord] {
    try await client.query(
      """
      SELECT \(unsafeSQL: Self.columns) FROM training_jobs
      WHERE (\(state?.rawValue)::text IS NULL OR state = \(state?.rawValue))
        AND (\(userID)::text IS NULL OR user_id = \(userID))
        AND (\(task)::text IS NULL OR task = \(task))
      ORDER BY job_id DESC LIMIT \(limit)
      """
    ).map(Self.record)
  }

  public func get(_ jobID: Int64) async throws -> JobRecord? {
    try await client.query(
      "SELECT \(unsafeSQL: Self.columns) FROM training_jobs WHERE job_id = \(jobID)"
    ).first.map(Self.record)
  }

  /// How many jobs are in each state.
  public func counts() async throws -> [JobState: Int] {
    var counts: [JobState: Int] = [:]
    for row in try await client.query(
      "SELECT state, count(*)::int AS n FROM training_jobs GROUP BY state")
    {
      if let state = JobState(rawValue: try row.decode("state")) {
        counts[state] = try row.decode("n", as: Int.self)
      }
    }
    return counts
  }

  private static let columns = """
    job_id, user_id, task, reason, change_ordinal, state, attempts, lease_owner, lease_expires_at,
    progress, result, error, created_at, started_at, finished_at
    """

  private static func record(_ row: PostgresRow) throws -> JobRecord {
    JobRecord(
      jobID: try row.decode("job_id"), userID: try row.decode("user_id"),
      task: try row.decode("task"), reason: try row.decode("reason"),
      changeOrdinal: try row.decode("change_ordinal"),
      state: JobState(rawValue: try row.decode("state")) ?? .dead,
      attempts: try row.decode("attempts"), leaseOwner: try row.decode("lease_owner"),
      leaseExpiresAt: try row.decode("lease_expires_at"),
      progress: try row.optionalJSON("progress"), result: try row.optionalJSON("result"),
      error: try row.decode("error"), createdAt: try row.decode("created_at"),
      startedAt: try row.decode("started_at"), finishedAt: try row.decode("finished_at"))
  }
}

extension Duration {
  var inSeconds: Double {
    let (seconds, attoseconds) = components
    return Double(seconds) + Double(attoseconds) * 1e-18
  }
}
