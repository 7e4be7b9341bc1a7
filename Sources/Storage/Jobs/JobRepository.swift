// Training jobs as leases.
//
// A trainer leases jobs with SKIP LOCKED, extends the leases by heartbeats, and finishes each in one transaction
// with the adapter it made. Every write of a job names its id, its state, its attempt and the fencing token of
// the lease; a write with an old token touches no row, so a trainer that was paused past its lease changes
// nothing.
//
// What keeps this fast while another transaction stays open for long, and no dead row can be removed meanwhile:
// - jobs are looked for from the queue's virtual time on, not from the front of the index, where the dead are;
// - no condition here lets the planner use an index that holds "all running jobs": it believes that there are
//   few, and there may be millions of dead ones. Hence `IS NOT DISTINCT FROM` in place of `=` for the state, and
//   a subquery in `coalesce`, which is looked up for each row, in place of NOT EXISTS, which may become a join;
// - rows are taken by an array of their ids, never by a join alone: of a table that was empty when it was last
//   analysed, a join reads the whole index.

import Foundation
import Personalization
import PostgresClient

/// The jobs' table, as trainers and operators use it.
public struct JobRepository: Sendable {
  let client: PostgresClient

  public init(_ client: PostgresClient) { self.client = client }

  /// Where a search for jobs begins.
  public enum Origin: Sendable {
    /// Where the queue stands: finds all but the stragglers.
    case virtualTime
    /// At the front: also finds jobs whose places were passed while they were not to be had. Walks over all that
    /// was leased since the last vacuum.
    case front
  }

  /// Leases the jobs that are first in the queue, none while the queue is paused or closed.
  public func lease(
    owner: String, duration: Duration, limit: Int = 1, from origin: Origin = .front
  ) async throws -> [JobLease] {
    let first: PostgresQuery =
      switch origin {
      case .virtualTime: "(SELECT last_value FROM training_virtual_time)"
      case .front: "0"
      }
    return try await client.query(
      """
      WITH picked AS MATERIALIZED (
        SELECT c.job_id, c.place FROM training_jobs_open AS c
        WHERE c.place >= \(first)
          AND (SELECT paused_at IS NULL AND coalesce(closed_until <= now(), true)
               FROM training_queue)
          AND coalesce((SELECT false FROM training_jobs_open AS r WHERE r.user_id = c.user_id
            AND r.task = c.task AND r.state = 'running' LIMIT 1), true)
        ORDER BY c.place, c.job_id LIMIT \(limit) FOR UPDATE SKIP LOCKED),
      moved AS (
        SELECT setval('training_virtual_time',
          greatest((SELECT last_value FROM training_virtual_time), max(place)))
        FROM picked HAVING count(*) > 0)
      UPDATE training_jobs_open AS j SET state = 'running', attempts = j.attempts + 1,
        lease_owner = \(owner), lease_token = j.lease_token + 1, place = NULL,
        lease_expires_at = now() + make_interval(secs => \(duration / .seconds(1))),
        started_at = now()
      WHERE j.job_id = ANY(ARRAY(SELECT job_id FROM picked))
      RETURNING j.job_id, j.lease_token, j.user_id, j.task, j.reason, j.change_ordinal,
        j.attempts, (SELECT count(*) FROM moved) AS moved
      """
    ).map { row in
      JobLease(
        jobID: try row.decode(at: 0), token: try row.decode(at: 1),
        stream: StreamID(userID: try row.decode(at: 2), task: try row.decode(at: 3)),
        reason: TrainingReason(rawValue: try row.decode(at: 4)) ?? .newEvents,
        changeOrdinal: try row.decode(at: 5), attempt: try row.decode(at: 6))
    }
  }

  /// Extends the lease and records how far the job is.
  /// - Throws: ``LostLeaseError``.
  public func heartbeat(_ lease: JobLease, duration: Duration, progress: JobProgress?) async throws
  {
    let touched = try await client.execute(
      """
      UPDATE training_jobs_open AS j
      SET lease_expires_at = now() + make_interval(secs => \(duration / .seconds(1))),
        progress = coalesce(\(progress.map { PostgresJSON($0) })::jsonb, progress)
      WHERE \(Self.isHeld(lease))
      """)
    guard touched == 1 else { throw LostLeaseError(jobID: lease.jobID) }
  }

  /// Whether the lease is still in force.
  public func holds(_ lease: JobLease) async throws -> Bool {
    try await !client.query(
      "SELECT 1 FROM training_jobs_open AS j WHERE \(Self.isHeld(lease))"
    ).isEmpty
  }

  /// Tells that the training begins.
  /// - Throws: ``LostLeaseError``.
  public func announce(_ lease: JobLease) async throws {
    try await client.withTransaction { connection in
      let held = try await connection.query(
        "SELECT 1 FROM training_jobs_open AS j WHERE \(Self.isHeld(lease)) FOR UPDATE")
      guard !held.isEmpty else { throw LostLeaseError(jobID: lease.jobID) }
      try await OutboxRepository(connection).post(
        AdapterEvent(
          kind: .trainingStarted, stream: lease.stream, jobID: lease.jobID,
          reason: lease.reason.rawValue))
    }
  }

  /// Finishes the job and stores its adapter, in one transaction behind the fencing token.
  /// - Parameter note: why there is no adapter.
  /// - Returns: the new version's number; nil for a job that ends without an adapter.
  /// - Throws: ``LostLeaseError``.
  @discardableResult
  public func finish(
    _ lease: JobLease, adapter: NewAdapter?, note: String? = nil
  ) async throws -> Int? {
    try await client.withTransaction { connection in
      // The stream's row first, as everywhere, so that an erasure cannot deadlock with this.
      try await connection.execute(
        """
        SELECT 1 FROM user_task_state
        WHERE user_id = \(lease.stream.userID) AND task = \(lease.stream.task) FOR UPDATE
        """)
      let closed = try await connection.execute(
        Self.closing(
          Self.isHeld(lease), state: .succeeded, error: nil, failure: nil,
          result: adapter.map { .adapter($0.training) } ?? note.map { .nothing($0) }))
      guard closed == 1 else { throw LostLeaseError(jobID: lease.jobID) }
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

  /// Finishes many jobs that end without an adapter, in one statement.
  /// - Returns: the jobs that were finished; the lease of the others was lost.
  public func finish(_ leases: [JobLease], note: String) async throws -> Set<Int64> {
    let rows = try await client.query(
      Self.closing(
        """
        j.job_id = ANY(\(leases.map(\.jobID))::bigint[])
          AND (j.job_id, j.attempts, j.lease_token) IN (
          SELECT * FROM unnest(\(leases.map(\.jobID))::bigint[],
            \(leases.map { Int32(clamping: $0.attempt) })::integer[],
            \(leases.map(\.token))::bigint[])) AND j.state IS NOT DISTINCT FROM 'running'
        """, state: .succeeded, error: nil, failure: nil, result: .nothing(note))
        + " RETURNING job_id")
    return Set(try rows.map { try $0.decode(at: 0, as: Int64.self) })
  }

  /// Puts a failed job back for a later attempt, or declares it dead after the last one.
  /// - Parameter retryAfter: nil: this was the last attempt.
  /// - Throws: ``LostLeaseError``.
  public func fail(_ lease: JobLease, error: String, retryAfter: Duration?) async throws {
    // An error may quote a whole input; what a person needs is at its beginning.
    let error = String(error.prefix(2_000))
    try await client.withTransaction { connection in
      guard let retryAfter else {
        let story = "given up after \(lease.attempt) attempts: \(error)"
        try await Self.end(
          lease, state: .dead, error: story, failure: error, on: connection)
        try await OutboxRepository(connection).post(
          AdapterEvent(
            kind: .trainingFailed, stream: lease.stream, jobID: lease.jobID, reason: story))
        return
      }
      let touched = try await connection.execute(
        """
        UPDATE training_jobs_open AS j SET state = 'queued', lease_owner = NULL,
          lease_expires_at = NULL, error = \(error), failures = \(Self.failure(error)),
          run_at = now() + make_interval(secs => \(retryAfter / .seconds(1)))
        WHERE \(Self.isHeld(lease)) AND NOT \(Self.hasSuccessor(lease.stream))
        """)
      if touched == 1 { return }
      try await Self.end(
        lease, state: .cancelled, error: "\(error); a newer job of the stream does the work",
        failure: error, on: connection)
    }
  }

  /// Gives a job back unharmed, e.g. because the worker is shutting down. It does not count as an attempt.
  /// Where a newer job of the stream is queued already, that one does the work.
  public func release(_ lease: JobLease) async throws {
    let touched = try await client.execute(
      """
      UPDATE training_jobs_open AS j SET state = 'queued', attempts = j.attempts - 1,
        lease_owner = NULL, lease_expires_at = NULL,
        place = (SELECT last_value FROM training_virtual_time)
      WHERE \(Self.isHeld(lease)) AND NOT \(Self.hasSuccessor(lease.stream))
      """)
    if touched == 1 { return }
    try await client.execute(
      Self.closing(
        Self.isHeld(lease), state: .cancelled,
        error: "its worker stopped; a newer job of the stream does the work", failure: nil,
        result: nil))
  }

  // MARK: Operators

  /// Takes a job out of the queue, or away from its trainer, which stops at its next step and can write nothing
  /// from now on.
  /// - Parameter isRehearsal: nothing is changed.
  /// - Returns: the job as it was.
  /// - Throws: ``JobStateError`` for a job that is over or was never there.
  @discardableResult
  public func cancel(
    _ jobID: Int64, note: String, isRehearsal: Bool = false
  ) async throws -> JobRecord {
    try await client.withTransaction(isRehearsal: isRehearsal) { connection in
      guard let job = try await Self.get(jobID, on: connection) else {
        throw JobStateError(description: "there is no job \(jobID)")
      }
      let closed = try await connection.execute(
        Self.closing(
          "j.job_id = \(jobID)", state: .cancelled, error: note, failure: nil, result: nil))
      guard closed == 1 else {
        throw JobStateError(
          description: "job \(jobID) is over (\(job.state.rawValue)); there is nothing to cancel")
      }
      return job
    }
  }

  /// Queues a dead or cancelled job again, with all its attempts before it.
  /// - Parameter isRehearsal: nothing is changed.
  /// - Returns: the job as it was.
  /// - Throws: ``JobStateError`` where the job is not over or succeeded, or where another job of its stream is
  ///   queued.
  @discardableResult
  public func retry(_ jobID: Int64, isRehearsal: Bool = false) async throws -> JobRecord {
    try await client.withTransaction(isRehearsal: isRehearsal) { connection in
      guard let job = try await Self.get(jobID, on: connection) else {
        throw JobStateError(description: "there is no job \(jobID)")
      }
      do {
        let moved = try await connection.execute(
          """
          WITH gone AS (
            DELETE FROM training_jobs_done WHERE job_id = \(jobID) AND state IN ('dead', 'cancelled')
            RETURNING *)
          INSERT INTO training_jobs_open (job_id, user_id, task, reason, change_ordinal, folded, run_at,
            lease_token, error, failures, created_at)
          SELECT job_id, user_id, task, reason, change_ordinal, folded, now(), lease_token, error,
            failures, created_at FROM gone
          """)
        if moved == 1 { return job }
      } catch let error as PostgresError where error.isUniqueViolation {
        throw JobStateError(
          description: "another job of the stream of job \(jobID) is queued and does its work")
      }
      throw JobStateError(
        description:
          "job \(jobID) is \(job.state.rawValue); only a dead or cancelled job can be tried again")
    }
  }

  // MARK: Statements

  /// The condition that every write of a running job `j` carries.
  private static func isHeld(_ lease: JobLease) -> PostgresQuery {
    """
    j.job_id = \(lease.jobID) AND j.state IS NOT DISTINCT FROM 'running'
    AND j.attempts = \(lease.attempt) AND j.lease_token = \(lease.token)
    """
  }

  private static func hasSuccessor(_ stream: StreamID) -> PostgresQuery {
    """
    EXISTS (SELECT 1 FROM training_jobs_open AS q WHERE q.user_id = \(stream.userID)
      AND q.task = \(stream.task) AND q.state = 'queued')
    """
  }

  /// The failures of job `j` with one more.
  static func failure(_ error: String) -> PostgresQuery {
    """
    coalesce(j.failures, '[]') || jsonb_build_array(jsonb_build_object('attempt', j.attempts,
      'owner', j.lease_owner, 'at', now(), 'error', \(error)::text))
    """
  }

  /// Moves open jobs `j` to the done ones.
  static func closing(
    _ condition: PostgresQuery, state: JobState, error: String?, failure: String?,
    result: JobResult?
  ) -> PostgresQuery {
    let failures: PostgresQuery = failure.map { Self.failure($0) } ?? "j.failures"
    return """
      WITH gone AS (DELETE FROM training_jobs_open AS j WHERE \(condition) RETURNING j.*)
      INSERT INTO training_jobs_done (job_id, user_id, task, reason, change_ordinal, state, attempts,
        folded, lease_owner, lease_token, progress, result, error, failures, created_at, started_at,
        finished_at)
      SELECT job_id, user_id, task, reason, change_ordinal, \(state.rawValue), attempts, folded,
        lease_owner, lease_token, progress, \(result.map { PostgresJSON($0) })::jsonb, \(error),
        \(failures), created_at, started_at, now() FROM gone AS j
      """
  }

  private static func end(
    _ lease: JobLease, state: JobState, error: String, failure: String?,
    on connection: PostgresConnection
  ) async throws {
    let touched = try await connection.execute(
      closing(isHeld(lease), state: state, error: error, failure: failure, result: nil))
    guard touched == 1 else { throw LostLeaseError(jobID: lease.jobID) }
  }

  // MARK: Reading

  /// Jobs, the newest first.
  /// - Parameter before: only those with a lower number.
  public func list(
    state: JobState? = nil, userID: String? = nil, task: String? = nil, before: Int64? = nil,
    limit: Int = 200
  ) async throws -> [JobRecord] {
    try await client.query(
      """
      SELECT \(unsafeSQL: Self.columns) FROM training_jobs
      WHERE \(Self.chosen(state, userID, task))
        AND (\(before)::bigint IS NULL OR job_id < \(before))
      ORDER BY job_id DESC LIMIT \(limit)
      """
    ).map(Self.record)
  }

  /// How many jobs ``list(state:userID:task:before:limit:)`` would give without limits.
  public func count(state: JobState?, userID: String?, task: String?) async throws -> Int {
    try await client.query(
      "SELECT count(*) AS n FROM training_jobs WHERE \(Self.chosen(state, userID, task))"
    ).first?.decode("n") ?? 0
  }

  private static func chosen(_ state: JobState?, _ userID: String?, _ task: String?)
    -> PostgresQuery
  {
    """
    (\(state?.rawValue)::text IS NULL OR state = \(state?.rawValue))
      AND (\(userID)::text IS NULL OR user_id = \(userID))
      AND (\(task)::text IS NULL OR task = \(task))
    """
  }

  /// The job; nil where there is none, or retention has removed it.
  public func get(_ jobID: Int64) async throws -> JobRecord? {
    try await Self.get(jobID, on: client)
  }

  private static func get(_ jobID: Int64, on database: any Database) async throws -> JobRecord? {
    try await database.query(
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
    job_id, user_id, task, reason, change_ordinal, state, attempts, folded, place, run_at, lease_owner,
    lease_expires_at, progress, result, error, failures, created_at, started_at, finished_at
    """

  private static func record(_ row: PostgresRow) throws -> JobRecord {
    JobRecord(
      jobID: try row.decode("job_id"), userID: try row.decode("user_id"),
      task: try row.decode("task"), reason: try row.decode("reason"),
      changeOrdinal: try row.decode("change_ordinal"),
      state: JobState(rawValue: try row.decode("state")) ?? .dead,
      attempts: try row.decode("attempts"), folded: try row.decode("folded"),
      place: try row.decode("place"), runAt: try row.decode("run_at"),
      leaseOwner: try row.decode("lease_owner"),
      leaseExpiresAt: try row.decode("lease_expires_at"),
      progress: try row.optionalJSON("progress"), result: try row.optionalJSON("result"),
      error: try row.decode("error"), failures: try row.optionalJSON("failures"),
      createdAt: try row.decode("created_at"),
      startedAt: try row.decode("started_at"), finishedAt: try row.decode("finished_at"))
  }
}
