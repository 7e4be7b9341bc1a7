// What the scheduler reads and writes: streams with something new, the state of their detectors, decisions.

import Foundation
import Personalization
import PostgresClient

/// An alarm that waits until there are enough events of the new behaviour to train on.
public struct PendingShift: Sendable, Codable, Equatable {
  /// Estimated ordinal of the first event of the new behaviour.
  public var changeOrdinal: Int64
  public var alarmOrdinal: Int64
  public var alarmedAt: Date

  public init(changeOrdinal: Int64, alarmOrdinal: Int64, alarmedAt: Date) {
    self.changeOrdinal = changeOrdinal
    self.alarmOrdinal = alarmOrdinal
    self.alarmedAt = alarmedAt
  }
}

/// A stream as the scheduler left it.
public struct ScheduledStream: Sendable {
  public let stream: Stream
  public let eventCount: Int64
  public let scheduledThrough: Int64
  /// JSON of the detectors' state, in the form the scheduler gave it.
  public let monitor: JSONValue?
  public let monitorVersion: Int?
  public let pendingShift: PendingShift?
  public let activeVersion: Int?
  public let trainedThrough: Int64?
  /// The ordinal at the last decision to train, whatever came of it.
  public let lastTrainOrdinal: Int64?
  /// Where the behaviour that was last trained on began, if it ever changed.
  public let lastChangeOrdinal: Int64?
  public let hasOpenJob: Bool
}

/// What the scheduler did with the signals of a stream, and why.
public struct Decision: Sendable, Codable {
  public enum Action: String, Sendable, Codable { case train, wait, none }

  public var action: Action
  public var reason: String
  public var ordinal: Int64
  public var changeOrdinal: Int64?
  public var signals: JSONValue
  public var numbers: JSONValue

  public init(
    action: Action, reason: String, ordinal: Int64, changeOrdinal: Int64? = nil,
    signals: JSONValue, numbers: JSONValue
  ) {
    self.action = action
    self.reason = reason
    self.ordinal = ordinal
    self.changeOrdinal = changeOrdinal
    self.signals = signals
    self.numbers = numbers
  }
}

/// A decision as operators see it.
public struct DecisionRecord: Sendable, Codable {
  public let decisionID: Int64
  public let userID: String
  public let task: String
  public let action: String
  public let reason: String
  public let ordinal: Int64
  public let changeOrdinal: Int64?
  public let signals: JSONValue
  public let numbers: JSONValue
  public let jobID: Int64?
  public let decidedAt: Date

  enum CodingKeys: String, CodingKey {
    case task, action, reason, ordinal, signals, numbers
    case decisionID = "decision_id"
    case userID = "user_id"
    case changeOrdinal = "change_ordinal"
    case jobID = "job_id"
    case decidedAt = "decided_at"
  }
}

/// What one look at a stream comes to; written in one transaction.
public struct ScheduleOutcome: Sendable {
  public var stream: Stream
  /// Where the look began; the write is refused where somebody else has moved on.
  public var from: Int64
  public var through: Int64
  public var monitor: JSONValue
  public var monitorVersion: Int?
  public var evaluation: JSONValue
  public var pendingShift: PendingShift?
  public var decisions: [Decision]
  /// The job to enqueue, with the decision that asks for it.
  public var job: JobReason?
  public var announceShift: Bool

  public init(
    stream: Stream, from: Int64, through: Int64, monitor: JSONValue, monitorVersion: Int?,
    evaluation: JSONValue, pendingShift: PendingShift?, decisions: [Decision], job: JobReason?,
    announceShift: Bool
  ) {
    self.stream = stream
    self.from = from
    self.through = through
    self.monitor = monitor
    self.monitorVersion = monitorVersion
    self.evaluation = evaluation
    self.pendingShift = pendingShift
    self.decisions = decisions
    self.job = job
    self.announceShift = announceShift
  }
}

public struct ScheduleRepository: Sendable {
  private let client: PostgresClient
  /// Who holds this advisory lock is the scheduler's leader.
  public static let leaderLockKey: Int64 = 0x6F70_7075_0000_0002

  public init(_ client: PostgresClient) { self.client = client }

  /// Streams with events that the scheduler has not seen, or with an alarm that waits.
  public func dirty(limit: Int) async throws -> [ScheduledStream] {
    try await client.query(
      """
      SELECT s.user_id, s.task, s.event_count, s.scheduled_through, s.monitor, s.monitor_version,
        s.pending_shift, a.version, a.trained_through,
        (SELECT max(d.ordinal) FROM shift_decisions d WHERE d.user_id = s.user_id
          AND d.task = s.task AND d.action = 'train') AS last_train,
        (SELECT d.change_ordinal FROM shift_decisions d WHERE d.user_id = s.user_id
          AND d.task = s.task AND d.action = 'train' AND d.change_ordinal IS NOT NULL
          ORDER BY d.decision_id DESC LIMIT 1) AS last_change,
        EXISTS (SELECT 1 FROM training_jobs j WHERE j.user_id = s.user_id AND j.task = s.task
                AND j.state IN ('queued', 'running')) AS open_job
      FROM user_task_state s
      LEFT JOIN adapters a ON a.user_id = s.user_id AND a.task = s.task AND a.state = 'active'
      WHERE s.event_count > s.scheduled_through OR s.pending_shift IS NOT NULL
      ORDER BY s.updated_at LIMIT \(limit)
      """
    ).map { row in
      ScheduledStream(
        stream: try row.stream(), eventCount: try row.decode("event_count"),
        scheduledThrough: try row.decode("scheduled_through"),
        monitor: try row.optionalJSON("monitor"),
        monitorVersion: try row.decode("monitor_version"),
        pendingShift: try row.optionalJSON("pending_shift"),
        activeVersion: try row.decode("version"),
        trainedThrough: try row.decode("trained_through"),
        lastTrainOrdinal: try row.decode("last_train"),
        lastChangeOrdinal: try row.decode("last_change"),
        hasOpenJob: try row.decode("open_job"))
    }
  }

  /// Writes what the scheduler found. Returns the id of the job it enqueued, if any.
  ///
  /// A stream that somebody else has looked at meanwhile (an old leader) is left as it is.
  @discardableResult
  public func record(_ outcome: ScheduleOutcome) async throws -> Int64? {
    let stream = outcome.stream
    return try await client.withTransaction { connection in
      let touched = try await connection.execute(
        """
        UPDATE user_task_state SET scheduled_through = \(outcome.through),
          monitor = \(PostgresJSON(outcome.monitor)), monitor_version = \(outcome.monitorVersion),
          evaluation = \(PostgresJSON(outcome.evaluation)),
          pending_shift = \(outcome.pendingShift.map { PostgresJSON($0) })::jsonb
        WHERE user_id = \(stream.userID) AND task = \(stream.task)
          AND scheduled_through = \(outcome.from)
        """)
      guard touched == 1 else { return nil }
      var jobID: Int64?
      if let reason = outcome.job {
        // Where a job is queued already it will see the newest events: nothing to add.
        jobID = try await connection.query(
          """
          INSERT INTO training_jobs (user_id, task, reason, change_ordinal)
          VALUES (\(stream.userID), \(stream.task), \(reason.rawValue),
                  \(outcome.decisions.last?.changeOrdinal))
          ON CONFLICT (user_id, task) WHERE state = 'queued' DO NOTHING
          RETURNING job_id
          """
        ).first?.decode("job_id", as: Int64.self)
      }
      for decision in outcome.decisions {
        try await connection.execute(
          """
          INSERT INTO shift_decisions
            (user_id, task, ordinal, action, reason, change_ordinal, signals, numbers, job_id)
          VALUES (\(stream.userID), \(stream.task), \(decision.ordinal),
            \(decision.action.rawValue), \(decision.reason), \(decision.changeOrdinal),
            \(PostgresJSON(decision.signals)), \(PostgresJSON(decision.numbers)),
            \(decision.action == .train ? jobID : nil))
          """)
      }
      if outcome.announceShift {
        try await OutboxRepository(connection).post(
          AdapterEvent(kind: .shiftDetected, stream: stream, jobID: jobID, reason: "shift"))
      }
      return jobID
    }
  }

  public func decisions(
    userID: String? = nil, task: String? = nil, reason: String? = nil, limit: Int = 200
  ) async throws -> [DecisionRecord] {
    try await client.query(
      """
      SELECT \(unsafeSQL: Self.decisionColumns) FROM shift_decisions
      WHERE (\(userID)::text IS NULL OR user_id = \(userID))
        AND (\(task)::text IS NULL OR task = \(task))
        AND (\(reason)::text IS NULL OR reason = \(reason))
      ORDER BY decision_id DESC LIMIT \(limit)
      """
    ).map(Self.decision)
  }

  public func decision(_ id: Int64) async throws -> DecisionRecord? {
    try await client.query(
      "SELECT \(unsafeSQL: Self.decisionColumns) FROM shift_decisions WHERE decision_id = \(id)"
    ).first.map(Self.decision)
  }

  private static let decisionColumns = """
    decision_id, user_id, task, action, reason, ordinal, change_ordinal, signals, numbers, job_id,
    decided_at
    """

  private static func decision(_ row: PostgresRow) throws -> DecisionRecord {
    DecisionRecord(
      decisionID: try row.decode("decision_id"), userID: try row.decode("user_id"),
      task: try row.decode("task"), action: try row.decode("action"),
      reason: try row.decode("reason"), ordinal: try row.decode("ordinal"),
      changeOrdinal: try row.decode("change_ordinal"), signals: try row.json("signals"),
      numbers: try row.json("numbers"), jobID: try row.decode("job_id"),
      decidedAt: try row.decode("decided_at"))
  }
}
