// What is no longer needed goes: events, answers, weights and rows of old versions, jobs and decisions. A bounded
// piece at a time, and never what may still be used.
//
// Of adapters are kept, whatever their age: the active version, what it replaced (a rollback goes there) and what it was trained
// from; of each stream the newest versions that once answered; rejected and rolled-back ones for some days, for
// inspection. Of a version whose weights are gone the numbers stay for as long as a younger version descends
// from it, so that a lineage always reaches its root. Trainers and answers read weights as a whole before they
// use them, so that a removal takes nothing from under anybody.

import Foundation
import PostgresClient

/// For how long what is kept.
public struct RetentionPolicy: Sendable, Equatable {
  /// Versions of a stream that once answered and keep their weights, beside the active one.
  public var versions = 3
  /// Days that rejected and rolled-back versions keep their weights.
  public var rejectedDays = 14
  /// Days that finished jobs, decisions and the numbers of versions without weights are kept.
  public var recordDays = 180
  /// Rows of each kind that one run looks at and may remove.
  public var limit = 1_000

  public init() {}
}

/// Removes inside a transaction: of what is too old a bounded piece.
public struct Retention: Sendable {
  private let connection: PostgresConnection

  /// - Parameter connection: inside a transaction.
  public init(_ connection: PostgresConnection) { self.connection = connection }

  // MARK: Events and answers

  /// What became of a task's old events.
  public struct Events: Sendable, Equatable {
    /// Streams that had such events.
    public var streams = 0
    /// Events removed.
    public var events = 0
    /// Whether there may be more.
    public var isFull = false
  }

  /// Removes events of a task that happened before `before`.
  ///
  /// Costs what it removes: streams are found by the time of their oldest event. Streams that somebody else has
  /// locked are left for the next time. Ordinals stay as they are; the scheduler passes over what it had not
  /// seen.
  /// - Throws: `PostgresError`.
  public func removeEvents(
    task: String, before: Date, streams: Int = 200, events: Int = 5_000
  ) async throws -> Events {
    let rows = try await connection.query(
      """
      SELECT user_id FROM user_task_state WHERE task = \(task) AND oldest_at < \(before)
      ORDER BY oldest_at LIMIT \(streams) FOR UPDATE SKIP LOCKED
      """)
    var step = Events()
    guard !rows.isEmpty else { return step }
    let users = try rows.map { try $0.decode("user_id", as: String.self) }
    step.streams = users.count
    step.events = try await connection.execute(
      """
      WITH expired AS (
        SELECT e.user_id, e.ordinal
        FROM unnest(\(users)::text[]) WITH ORDINALITY AS u (user_id, i)
        CROSS JOIN LATERAL (
          SELECT user_id, ordinal FROM behavior_events
          WHERE user_id = u.user_id AND task = \(task) AND occurred_at < \(before)
          ORDER BY ordinal LIMIT \(events)) AS e
        ORDER BY u.i, e.ordinal LIMIT \(events))
      DELETE FROM behavior_events AS b USING expired AS x
      WHERE b.user_id = x.user_id AND b.task = \(task) AND b.ordinal = x.ordinal
      """)
    try await connection.execute(
      """
      UPDATE user_task_state AS s SET oldest_at = left_over.oldest,
        scheduled_through = greatest(s.scheduled_through,
                                     coalesce(left_over.first - 1, s.event_count))
      FROM unnest(\(users)::text[]) AS u (user_id)
      CROSS JOIN LATERAL (
        SELECT min(occurred_at) AS oldest, min(ordinal) AS first FROM behavior_events
        WHERE user_id = u.user_id AND task = \(task)) AS left_over
      WHERE s.user_id = u.user_id AND s.task = \(task)
      """)
    step.isFull = step.streams == streams || step.events == events
    return step
  }

  /// Removes answers that were given before `before`, at most `limit`.
  /// - Returns: how many.
  /// - Throws: `PostgresError`.
  public func removeAnswers(before: Date, limit: Int) async throws -> Int {
    try await connection.execute(
      """
      DELETE FROM answers WHERE (user_id, request_id) IN (
        SELECT user_id, request_id FROM answers WHERE answered_at < \(before)
        ORDER BY answered_at LIMIT \(limit))
      """)
  }

  // MARK: Adapters

  /// What became of old versions.
  public struct Adapters: Sendable, Equatable {
    /// Versions that lost their weights.
    public var weights = 0
    /// Of those weights.
    public var bytes: Int64 = 0
    /// Rows removed.
    public var versions = 0
    /// Where the next run goes on among the versions; nil: from the beginning.
    public var next: Date?
  }

  /// Removes weights, and rows without weights, of versions that will not answer again.
  /// - Parameter start: `next` of the run before.
  /// - Throws: `PostgresError`.
  public func removeAdapters(
    _ policy: RetentionPolicy, from start: Date? = nil
  ) async throws -> Adapters {
    var done = Adapters()
    let seen = try await connection.query(
      """
      SELECT user_id, task, version, created_at FROM adapters
      WHERE state <> 'active' AND created_at > coalesce(\(start), '-infinity')
      ORDER BY created_at LIMIT \(policy.limit)
      """)
    if seen.count == policy.limit { done.next = try seen.last?.decode("created_at") }
    let these: PostgresQuery = """
      unnest(\(try seen.map { try $0.decode("user_id", as: String.self) })::text[],
        \(try seen.map { try $0.decode("task", as: String.self) })::text[],
        \(try seen.map { try $0.decode("version", as: Int32.self) })::integer[])
        AS s (user_id, task, version)
      """
    let dropped = try await connection.query(
      """
      UPDATE adapters AS o SET weights = NULL
      FROM \(these) LEFT JOIN adapters AS live ON live.user_id = s.user_id AND live.task = s.task
        AND live.state = 'active'
      WHERE o.user_id = s.user_id AND o.task = s.task AND o.version = s.version
        AND o.state <> 'active' AND o.weights IS NOT NULL
        AND o.version IS DISTINCT FROM live.parent_version
        AND o.version IS DISTINCT FROM live.replaced_version
        AND CASE WHEN o.state = 'retired' THEN
            (SELECT count(*) FROM adapters AS n WHERE n.user_id = o.user_id AND n.task = o.task
             AND n.state = 'retired' AND n.weights IS NOT NULL
             AND (n.promoted_at, n.version) > (o.promoted_at, o.version)) >= \(policy.versions)
          ELSE o.created_at < now() - make_interval(days => \(policy.rejectedDays)::integer) END
      RETURNING o.byte_count
      """)
    done.weights = dropped.count
    done.bytes = try dropped.reduce(0) { try $0 + $1.decode("byte_count", as: Int64.self) }
    done.versions = try await connection.execute(
      """
      DELETE FROM adapters AS o USING \(these)
      WHERE o.user_id = s.user_id AND o.task = s.task AND o.version = s.version
        AND o.weights IS NULL AND o.state <> 'active'
        AND o.created_at < now() - make_interval(days => \(policy.recordDays)::integer)
        AND NOT EXISTS (SELECT 1 FROM adapters AS c WHERE c.user_id = o.user_id AND c.task = o.task
          AND (c.parent_version = o.version OR c.replaced_version = o.version))
        -- The newest keeps the numbering going.
        AND o.version < (SELECT max(m.version) FROM adapters AS m WHERE m.user_id = o.user_id
          AND m.task = o.task)
      """)
    return done
  }

  // MARK: Jobs and decisions

  /// Removes jobs that ended before the days that records are kept.
  /// - Returns: how many.
  /// - Throws: `PostgresError`.
  public func removeJobs(_ policy: RetentionPolicy) async throws -> Int {
    try await connection.execute(
      """
      DELETE FROM training_jobs_done WHERE job_id IN (
        SELECT job_id FROM training_jobs_done
        WHERE finished_at < now() - make_interval(days => \(policy.recordDays)::integer)
        ORDER BY finished_at LIMIT \(policy.limit))
      """)
  }

  /// Removes decisions of before the days that records are kept.
  /// - Returns: how many.
  /// - Throws: `PostgresError`.
  public func removeDecisions(_ policy: RetentionPolicy) async throws -> Int {
    try await connection.execute(
      """
      DELETE FROM shift_decisions WHERE decision_id IN (
        SELECT decision_id FROM shift_decisions
        WHERE decided_at < now() - make_interval(days => \(policy.recordDays)::integer)
        ORDER BY decided_at LIMIT \(policy.limit))
      """)
  }
}
