// The queue of training jobs, seen from those who ask for trainings and from those who look after it.
//
// Places are given out by start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996). Jobs of one task and
// reason are a flow. A job's place is where its flow ended, or the queue's virtual time (the highest place that
// was leased) where the flow was idle; it moves the flow's end by a step that is shorter for reasons of more
// weight. So a task with a thousand jobs waiting does not keep another task's first one waiting, a shift is
// answered before a routine training, and nothing waits for ever. Within a flow a user has one place at a time.

import Foundation
import Personalization
import PostgresClient

/// Puts jobs into the queue, opens and closes it, and gives back what was left lying.
public struct JobQueue: Sendable {
  private let database: any Database

  /// - Parameter database: a transaction's connection, where the jobs must come with other rows.
  public init(_ database: any Database) { self.database = database }

  /// Asks for trainings. Where a job of the stream is queued already, the request is folded into it: it reads
  /// the newest events when it begins. It then has the stronger reason and the newer change of both.
  ///
  /// - Parameter requests: any number; of several for one stream the last counts.
  public func enqueue(_ requests: [JobRequest]) async throws -> [StreamID: EnqueuedJob] {
    guard !requests.isEmpty else { return [:] }
    let requests = Dictionary(requests.map { ($0.stream, $0) }, uniquingKeysWith: { $1 })
      .values.sorted { $0.stream < $1.stream }
    // LIMIT has each stream looked up; a bare EXISTS may be answered by reading all running jobs (JobRepository).
    let rows = try await database.query(
      """
      WITH asked AS (
        SELECT x.*, (
            SELECT true FROM training_jobs_open o WHERE o.user_id = x.user_id AND o.task = x.task
              AND o.state = 'running' LIMIT 1) IS NOT NULL AS is_blocked
        FROM unnest(\(requests.map(\.stream.userID))::text[], \(requests.map(\.stream.task))::text[],
          \(requests.map(\.reason.rawValue))::text[], \(requests.map(\.changeOrdinal))::bigint[],
          \(requests.map(\.reason.step))::bigint[])
          WITH ORDINALITY AS x (user_id, task, reason, change_ordinal, step, number)),
      fresh AS (
        SELECT number, task, reason, step,
          row_number() OVER (PARTITION BY task, reason ORDER BY number) - 1 AS ahead
        FROM asked WHERE reason <> 'operator' AND (
          SELECT true FROM training_jobs_open o WHERE o.user_id = asked.user_id
            AND o.task = asked.task AND o.state = 'queued' LIMIT 1) IS NULL),
      charged AS (
        INSERT INTO training_flows AS f (task, reason, finish, charged)
        SELECT task, reason, (SELECT last_value FROM training_virtual_time) + sum(step), sum(step)
        FROM fresh GROUP BY task, reason ORDER BY task, reason
        ON CONFLICT (task, reason) DO UPDATE SET charged = excluded.charged,
          finish = greatest(f.finish + excluded.charged, excluded.finish)
        RETURNING task, reason, finish - charged AS start)
      INSERT INTO training_jobs_open AS j (user_id, task, reason, change_ordinal, place, run_at)
      SELECT a.user_id, a.task, a.reason, a.change_ordinal,
        CASE WHEN NOT a.is_blocked THEN coalesce(c.start + f.ahead * f.step,
          (SELECT last_value FROM training_virtual_time)) END,
        CASE WHEN a.is_blocked THEN now() END
      FROM asked a LEFT JOIN fresh f USING (number)
      LEFT JOIN charged c ON c.task = f.task AND c.reason = f.reason
      ORDER BY a.number
      ON CONFLICT (user_id, task) WHERE state = 'queued' DO UPDATE SET folded = j.folded + 1,
        change_ordinal = coalesce(excluded.change_ordinal, j.change_ordinal),
        reason = CASE WHEN \(Self.isStronger) THEN excluded.reason ELSE j.reason END,
        place = CASE WHEN j.place IS NOT NULL AND \(Self.isStronger)
          THEN least(j.place, excluded.place) ELSE j.place END,
        run_at = CASE WHEN j.run_at IS NOT NULL AND excluded.reason = 'operator'
          THEN least(j.run_at, now()) ELSE j.run_at END
      RETURNING j.job_id, j.user_id, j.task, j.folded > 0 AS is_folded
      """)
    return Dictionary(
      try rows.map { row in
        (
          try row.stream(),
          EnqueuedJob(jobID: try row.decode("job_id"), isFolded: try row.decode("is_folded"))
        )
      }, uniquingKeysWith: { $1 })
  }

  private static let isStronger: PostgresQuery = """
    array_position(\(TrainingReason.order)::text[], excluded.reason)
      < array_position(\(TrainingReason.order)::text[], j.reason)
    """

  // MARK: Pause and budget

  /// Whether trainers get jobs, and why not.
  public struct Control: Sendable, Codable, Equatable {
    /// By an operator; nil: it is not paused.
    public let pausedAt: Date?
    /// The operator's words.
    public let pauseNote: String?
    /// By the scheduler's leader, as the budget is used up; nil: it is open.
    public let closedUntil: Date?
    /// Why, in words.
    public let closedNote: String?

    enum CodingKeys: String, CodingKey {
      case pausedAt = "paused_at"
      case pauseNote = "pause_note"
      case closedUntil = "closed_until"
      case closedNote = "closed_note"
    }
  }

  /// As it is now; nil only where the queue's one row is missing.
  public func control() async throws -> Control? {
    try await database.query(
      """
      SELECT paused_at, pause_note, CASE WHEN closed_until > now() THEN closed_until END AS until,
        CASE WHEN closed_until > now() THEN closed_note END AS closed_note FROM training_queue
      """
    ).first.map { row in
      Control(
        pausedAt: try row.decode("paused_at"), pauseNote: try row.decode("pause_note"),
        closedUntil: try row.decode("until"), closedNote: try row.decode("closed_note"))
    }
  }

  /// No job is leased until `resume`; running ones go on.
  public func pause(note: String?) async throws {
    try await database.execute(
      """
      UPDATE training_queue SET paused_at = coalesce(paused_at, now()), pause_note = \(note)
      """)
  }

  /// Jobs are leased again, unless the queue is closed.
  public func resume() async throws {
    try await database.execute("UPDATE training_queue SET paused_at = NULL, pause_note = NULL")
  }

  /// No job is leased for a while, because the budget is used up; nil opens the queue again.
  public func close(for duration: Duration?, note: String?) async throws {
    let seconds = duration.map { $0 / .seconds(1) }
    try await database.execute(
      """
      UPDATE training_queue SET closed_until = now() + make_interval(secs => \(seconds)),
        closed_note = \(note)
      WHERE \(seconds)::float8 IS NOT NULL OR closed_until IS NOT NULL
      """)
  }

  /// Seconds that trainings took within the last hour: finished and dead ones, and what the running ones took
  /// so far.
  public func secondsOfLastHour() async throws -> Double {
    try await database.query(
      """
      SELECT (SELECT coalesce(sum(extract(epoch FROM finished_at - greatest(started_at,
                now() - interval '1 hour'))), 0)::float8
              FROM training_jobs_done WHERE finished_at > now() - interval '1 hour')
        + (SELECT coalesce(sum(extract(epoch FROM now() - greatest(started_at,
                now() - interval '1 hour'))), 0)::float8
           FROM training_jobs_open WHERE lease_expires_at IS NOT NULL) AS seconds
      """
    ).first?.decode("seconds") ?? 0
  }

  // MARK: Upkeep

  /// Jobs of each kind in one call.
  private static let upkeepLimit = 1_000

  /// What `tend` did.
  public struct Upkeep: Sendable, Equatable {
    /// Jobs whose lease ran out and that were queued again.
    public var rescued = 0
    /// Jobs whose lease ran out in their last attempt.
    public var dead = 0
    /// Jobs whose lease ran out and that ended, because a newer one of their stream is queued.
    public var superseded = 0
    /// Jobs that had waited and can be leased now.
    public var admitted = 0
    /// Whether there may be more to do.
    public var isFull = false
  }

  /// Gives back the jobs whose lease ran out, and lets in those that have waited long enough.
  ///
  /// One session at a time does this, in a transaction (``AdvisoryLock/queueUpkeep``).
  /// - Parameters:
  ///   - since: leases that ran out before were looked after by an earlier call: the search begins there, so
  ///     that it does not walk over the leases of all jobs that ever ran.
  ///   - maximumAttempts: a job that was begun this often is dead.
  public func tend(since: Duration?, maximumAttempts: Int) async throws -> Upkeep {
    var done = Upkeep()
    let expired = try await database.query(
      """
      SELECT j.job_id, j.user_id, j.task, j.attempts, j.lease_owner, (
          SELECT true FROM training_jobs_open q WHERE q.user_id = j.user_id AND q.task = j.task
            AND q.state = 'queued' LIMIT 1) IS NOT NULL AS is_superseded
      FROM training_jobs_open j WHERE j.lease_expires_at < now()
        AND j.lease_expires_at > now() - make_interval(secs => \(since.map { $0 / .seconds(1) } ?? 1e9))
      ORDER BY j.lease_expires_at LIMIT \(Self.upkeepLimit) FOR UPDATE SKIP LOCKED
      """)
    for row in expired {
      let id = try row.decode("job_id", as: Int64.self)
      let attempts = try row.decode("attempts", as: Int.self)
      let owner = try row.decode("lease_owner", as: String?.self) ?? "unknown"
      let error = "the worker \(owner) was silent until its lease ran out"
      if attempts >= maximumAttempts {
        let story = "given up after \(attempts) attempts; in the last one \(error)"
        try await database.execute(
          JobRepository.closing(
            "j.job_id = \(id)", state: .dead, error: story, failure: error, result: nil))
        try await OutboxRepository(database).post(
          AdapterEvent(
            kind: .trainingFailed, stream: try row.stream(), jobID: id, reason: story))
        done.dead += 1
      } else if try row.decode("is_superseded", as: Bool.self) {
        try await database.execute(
          JobRepository.closing(
            "j.job_id = \(id)", state: .cancelled,
            error: "\(error); a newer job of the stream does the work", failure: error,
            result: nil))
        done.superseded += 1
      } else {
        try await database.execute(
          """
          UPDATE training_jobs_open AS j SET state = 'queued', lease_owner = NULL,
            lease_expires_at = NULL, run_at = now(), error = \(error),
            failures = \(JobRepository.failure(error))
          WHERE j.job_id = \(id)
          """)
        done.rescued += 1
      }
    }
    done.admitted = try await admit()
    done.isFull = max(expired.count, done.admitted) == Self.upkeepLimit
    return done
  }

  /// Lets jobs in that have waited for their time, or for the job of their stream that was running. They have
  /// waited already, so they go first.
  private func admit() async throws -> Int {
    try await database.execute(
      """
      UPDATE training_jobs_open AS j SET run_at = NULL,
        place = (SELECT last_value FROM training_virtual_time)
      WHERE j.job_id IN (
        SELECT w.job_id FROM training_jobs_open w WHERE w.run_at <= now()
          AND coalesce((SELECT false FROM training_jobs_open r WHERE r.user_id = w.user_id
            AND r.task = w.task AND r.state = 'running' LIMIT 1), true)
        ORDER BY w.run_at LIMIT \(Self.upkeepLimit) FOR UPDATE SKIP LOCKED)
      """)
  }
}
