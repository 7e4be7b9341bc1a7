// What is no longer needed goes: weights of old versions, rows of old versions, jobs and decisions. A bounded
// piece at a time, and never what may still be used.
//
// Kept whatever their age: the active version, what it replaced (a rollback goes there) and what it was trained
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

public struct Retention: Sendable {
  private let client: PostgresClient

  public init(_ client: PostgresClient) { self.client = client }

  public struct Report: Sendable, Equatable {
    public var weights = 0
    public var bytes: Int64 = 0
    public var versions = 0
    public var jobs = 0
    public var decisions = 0

    /// Where the next run goes on among the versions; nil: from the beginning.
    public var next: Date?
    public init() {}
  }

  /// One bounded run.
  /// - Parameter start: `next` of the run before. Most versions that are looked at are to stay, so that a run
  ///   goes on where the last one ended, round and round.
  public func run(_ policy: RetentionPolicy, from start: Date? = nil) async throws -> Report {
    var report = Report()
    let seen = try await client.query(
      """
      SELECT user_id, task, version, created_at FROM adapters
      WHERE state <> 'active' AND created_at > coalesce(\(start), '-infinity')
      ORDER BY created_at LIMIT \(policy.limit)
      """)
    if seen.count == policy.limit { report.next = try seen.last?.decode("created_at") }
    let these: PostgresQuery = """
      unnest(\(try seen.map { try $0.decode("user_id", as: String.self) })::text[],
        \(try seen.map { try $0.decode("task", as: String.self) })::text[],
        \(try seen.map { try $0.decode("version", as: Int32.self) })::integer[])
        AS s (user_id, task, version)
      """
    let dropped = try await client.query(
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
    report.weights = dropped.count
    report.bytes = try dropped.reduce(0) { try $0 + $1.decode("byte_count", as: Int64.self) }
    report.versions = try await client.execute(
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
    report.jobs = try await client.execute(
      """
      DELETE FROM training_jobs_done WHERE job_id IN (
        SELECT job_id FROM training_jobs_done
        WHERE finished_at < now() - make_interval(days => \(policy.recordDays)::integer)
        ORDER BY finished_at LIMIT \(policy.limit))
      """)
    report.decisions = try await client.execute(
      """
      DELETE FROM shift_decisions WHERE decision_id IN (
        SELECT decision_id FROM shift_decisions
        WHERE decided_at < now() - make_interval(days => \(policy.recordDays)::integer)
        ORDER BY decided_at LIMIT \(policy.limit))
      """)
    return report
  }
}
