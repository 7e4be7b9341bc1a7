// Users and their streams, for operators.

import Foundation
import Personalization
import PostgresClient
import ShiftDetection

/// What the detectors of a stream say of it.
public struct StreamEvaluation: Sendable, Codable, Hashable {
  /// Of the newest event that they have seen.
  public let ordinal: Int64
  /// One for each kind of signal.
  public let signals: [Signal]

  public init(ordinal: Int64, signals: [Signal]) {
    self.ordinal = ordinal
    self.signals = signals
  }
}

/// A user with one line per task.
public struct StreamSummary: Sendable, Codable {
  public let userID: String
  public let task: String
  /// The ordinal of the newest event: what retention removed counts too.
  public let events: Int64
  /// The ordinal of the newest event that the scheduler has seen.
  public let scheduledThrough: Int64
  /// When the newest event happened; nil where it is not kept any more.
  public let lastEventAt: Date?
  /// Nil where no version answers.
  public let activeVersion: Int?
  /// Of the active version: ordinal of the newest event that it could be trained on.
  public let trainedThrough: Int64?
  /// Versions whose rows are there, whatever their state.
  public let adapterVersions: Int
  /// Decisions that found a shift, of those that are kept.
  public let shifts: Int
  /// What the detectors found last; nil before the first look.
  public let evaluation: StreamEvaluation?

  enum CodingKeys: String, CodingKey {
    case task, events, shifts, evaluation
    case userID = "user_id"
    case scheduledThrough = "scheduled_through"
    case lastEventAt = "last_event_at"
    case activeVersion = "active_version"
    case trainedThrough = "trained_through"
    case adapterVersions = "adapter_versions"
  }
}

/// Reads users' streams.
public struct UserRepository: Sendable {
  private let client: PostgresClient

  public init(_ client: PostgresClient) { self.client = client }

  /// How many streams there are, over all users.
  public func count() async throws -> Int {
    try await client.query("SELECT count(*) AS n FROM user_task_state").first?.decode("n") ?? 0
  }

  /// Streams by user and task.
  /// - Parameter after: only those behind this one.
  public func streams(
    userID: String? = nil, after: StreamID = StreamID(userID: "", task: ""), limit: Int = 200
  ) async throws -> [StreamSummary] {
    try await client.query(
      """
      SELECT s.user_id, s.task, s.event_count, s.scheduled_through, s.evaluation,
        (SELECT occurred_at FROM behavior_events e WHERE e.user_id = s.user_id AND e.task = s.task
           AND e.ordinal = s.event_count) AS last_event_at,
        a.version, a.trained_through,
        (SELECT count(*)::int FROM adapters v WHERE v.user_id = s.user_id AND v.task = s.task)
          AS versions,
        (SELECT count(*)::int FROM shift_decisions d WHERE d.user_id = s.user_id
           AND d.task = s.task AND d.reason = 'shift_detected') AS shifts
      FROM user_task_state s
      LEFT JOIN adapters a ON a.user_id = s.user_id AND a.task = s.task AND a.state = 'active'
      WHERE (\(userID)::text IS NULL OR s.user_id = \(userID))
        AND (s.user_id, s.task) > (\(after.userID), \(after.task))
      ORDER BY s.user_id, s.task LIMIT \(limit)
      """
    ).map { row in
      StreamSummary(
        userID: try row.decode("user_id"), task: try row.decode("task"),
        events: try row.decode("event_count"),
        scheduledThrough: try row.decode("scheduled_through"),
        lastEventAt: try row.decode("last_event_at"), activeVersion: try row.decode("version"),
        trainedThrough: try row.decode("trained_through"),
        adapterVersions: try row.decode("versions"), shifts: try row.decode("shifts"),
        evaluation: (try? row.optionalJSON("evaluation")) ?? nil)
    }
  }

  /// Totals for `admin status`.
  public struct Totals: Sendable, Codable {
    /// With at least one stream.
    public let users: Int64
    public let streams: Int64
    /// As the newest ordinals of all streams: what retention removed counts too.
    public let events: Int64
    public let activeAdapters: Int64
    /// Of the weights that are kept, of all versions.
    public let adapterBytes: Int64
    /// Decisions that found a shift, of those that are kept.
    public let shiftsDetected: Int64
    /// Events that the scheduler has not seen yet.
    public let unscheduledEvents: Int64

    enum CodingKeys: String, CodingKey {
      case users, streams, events
      case activeAdapters = "active_adapters"
      case adapterBytes = "adapter_bytes"
      case shiftsDetected = "shifts_detected"
      case unscheduledEvents = "unscheduled_events"
    }
  }

  /// Counted anew, over all streams.
  public func totals() async throws -> Totals? {
    try await client.query(
      """
      SELECT (SELECT count(DISTINCT user_id) FROM user_task_state) AS users,
        (SELECT count(*) FROM user_task_state) AS streams,
        (SELECT coalesce(sum(event_count), 0)::bigint FROM user_task_state) AS events,
        (SELECT count(*) FROM adapters WHERE state = 'active') AS adapters,
        (SELECT coalesce(sum(byte_count), 0)::bigint FROM adapters WHERE weights IS NOT NULL) AS bytes,
        (SELECT count(*) FROM shift_decisions WHERE reason = 'shift_detected') AS shifts,
        (SELECT coalesce(sum(event_count - scheduled_through), 0)::bigint FROM user_task_state) AS lag
      """
    ).first.map { row in
      Totals(
        users: try row.decode("users"), streams: try row.decode("streams"),
        events: try row.decode("events"), activeAdapters: try row.decode("adapters"),
        adapterBytes: try row.decode("bytes"), shiftsDetected: try row.decode("shifts"),
        unscheduledEvents: try row.decode("lag"))
    }
  }
}
