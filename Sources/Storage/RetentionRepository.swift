// Events that are older than their task keeps them are removed, a bounded number at a time.

import Foundation
import PostgresClient

public struct RetentionRepository: Sendable {
  private let client: PostgresClient

  public init(_ client: PostgresClient) { self.client = client }

  /// What one step removed.
  public struct Step: Sendable, Equatable {
    public var streams = 0
    public var events = 0
    /// Whether there may be more.
    public var isFull = false

    public init() {}
  }

  /// Removes events of a task that happened before `before`, in one transaction.
  ///
  /// Costs what it removes: streams are found by the time of their oldest event. Streams that somebody else has
  /// locked are left for the next time. Ordinals stay as they are; the scheduler passes over what it had not
  /// seen.
  public func removeExpired(
    task: String, before: Date, streams: Int = 200, events: Int = 5_000
  ) async throws -> Step {
    try await client.withTransaction { connection in
      let rows = try await connection.query(
        """
        SELECT user_id FROM user_task_state WHERE task = \(task) AND oldest_at < \(before)
        ORDER BY oldest_at LIMIT \(streams) FOR UPDATE SKIP LOCKED
        """)
      var step = Step()
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
  }
}
