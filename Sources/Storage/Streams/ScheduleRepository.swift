// What the scheduler reads and writes: streams with something new, the state of their detectors, decisions.

import Foundation
import JSON
import Personalization
import PostgresClient
import ShiftDetection

/// A stream as the scheduler left it.
public struct ScheduledStream: Sendable {
  public let stream: StreamID
  /// Which of the streams of this name: after an erasure it is another one.
  public let incarnation: Int64
  /// The ordinal of the newest event.
  public let eventCount: Int64
  /// The ordinal of the newest event that the scheduler has seen.
  public let scheduledThrough: Int64
  /// The detectors' state, as the scheduler gave it.
  public let monitor: Data?
  /// The version whose losses the detectors have seen; nil: none.
  public let monitorVersion: Int?
  /// An alarm that waits for more events.
  public let pendingShift: PendingShift?
  /// Nil where no version answers.
  public let activeVersion: Int?
  /// Of the active version: ordinal of the newest event that it could be trained on.
  public let trainedThrough: Int64?
  /// What the active version replaced; nil: no adapter.
  public let replacedVersion: Int?
  /// Newest event when the active version was promoted.
  public let promotedAfter: Int64?
  /// Live losses of the active version so far; nil also for those that cannot be read, of another release.
  public let trial: LiveTrial?
  /// The ordinal at the last decision to train, whatever came of it.
  public let lastTrainOrdinal: Int64?
  /// When that decision was taken.
  public let lastTrainAt: Date?
  /// It is looked at because its time has come, whether or not there is anything new.
  public let isDue: Bool
  /// Where the behaviour that was last trained on began, if it ever changed.
  public let lastChangeOrdinal: Int64?
  /// Whether a job of the stream is queued or running.
  public let hasOpenJob: Bool
}

/// What the scheduler did with the signals of a stream, and why.
public struct Decision: Sendable, Codable {
  /// What follows for the stream.
  public enum Action: String, Sendable, Codable { case train, wait, none, rollback }

  public var action: Action
  /// A ``TrainingReason``'s raw value, `shift_detected`, `live_losses` or `unknown_task`.
  public var reason: String
  /// Of the newest event that the decision knew.
  public var ordinal: Int64
  /// Estimated first event of the newest behaviour; nil where it never changed.
  public var changeOrdinal: Int64?
  /// What the detectors found: one signal of each kind.
  public var signals: [Signal]
  /// The thresholds and counts that were compared.
  public var numbers: DecisionNumbers

  public init(
    action: Action, reason: String, ordinal: Int64, changeOrdinal: Int64? = nil,
    signals: [Signal] = [], numbers: DecisionNumbers
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
  /// A ``Decision/Action``'s raw value.
  public let action: String
  /// A ``TrainingReason``'s raw value, `shift_detected`, `live_losses` or `unknown_task`.
  public let reason: String
  /// Of the newest event that the decision knew.
  public let ordinal: Int64
  /// Estimated first event of the newest behaviour; nil where it never changed.
  public let changeOrdinal: Int64?
  /// What the detectors found: one signal of each kind.
  public let signals: [Signal]
  /// The thresholds and counts that were compared.
  public let numbers: DecisionNumbers
  /// The job that it asked for; nil where it asked for none.
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
  public var stream: StreamID
  /// Of the stream that was looked at; the write is refused for another of its name.
  public var incarnation: Int64
  /// Where the look began; the write is refused where somebody else has moved on.
  public var from: Int64
  /// The ordinal of the newest event that was looked at.
  public var through: Int64
  /// The detectors' state.
  public var monitor: Data?
  /// The version whose losses the detectors have seen; nil: none.
  public var monitorVersion: Int?
  /// What the detectors say; nil for a stream that nobody watches.
  public var evaluation: StreamEvaluation?
  /// An alarm that waits for more events from here on.
  public var pendingShift: PendingShift?
  /// In the order in which they are written; the last to train gives the job its change.
  public var decisions: [Decision]
  /// The job to enqueue, with the decision that asks for it.
  public var job: TrainingReason?
  /// Whether a `shift_detected` message is to be published.
  public var announceShift: Bool
  /// When to look again though nothing is new.
  public var nextLook: Date?
  /// Whether the stream had such a time before.
  public var wasDue = false
  /// Live losses of the active version, where they changed.
  public var trial: LiveTrial?
  /// This version was worse than what it replaced, and is taken back.
  public var rollback: Int?

  public init(
    stream: StreamID, incarnation: Int64, from: Int64, through: Int64, monitor: Data?,
    monitorVersion: Int?,
    evaluation: StreamEvaluation?, pendingShift: PendingShift?, decisions: [Decision],
    job: TrainingReason?,
    announceShift: Bool
  ) {
    self.stream = stream
    self.incarnation = incarnation
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

/// What was written of a batch of looks.
public struct ScheduleReceipt: Sendable, Equatable {
  /// Streams whose look was taken; the others had moved on meanwhile.
  public var streams: Set<StreamID> = []
  /// Jobs that were enqueued or folded into.
  public var jobs: [StreamID: Int64] = [:]
  /// Streams whose version was taken back.
  public var rolledBack: Set<StreamID> = []

  public init() {}
}

/// The streams' table and the decisions' table, as the scheduler and operators use them.
public struct ScheduleRepository: Sendable {
  private let client: PostgresClient

  public init(_ client: PostgresClient) { self.client = client }

  /// Streams with events that the scheduler has not seen, longest waiting first, and those whose time has come.
  /// Costs what it finds, however many streams there are.
  public func dirty(limit: Int) async throws -> [ScheduledStream] {
    try await client.query(
      """
      WITH found AS (
        (SELECT user_id, task, false AS is_due FROM user_task_state
         WHERE event_count > scheduled_through ORDER BY updated_at LIMIT \(limit))
        UNION ALL
        (SELECT user_id, task, true FROM stream_training WHERE look_at <= now()
         ORDER BY look_at LIMIT \(limit)))
      SELECT s.user_id, s.task, s.incarnation, s.event_count, s.scheduled_through,
        s.monitor, s.monitor_version,
        s.pending_shift, a.version, a.trained_through, a.replaced_version, a.promoted_after, a.trial,
        t.last_train_ordinal, t.last_train_at, t.last_change_ordinal, f.is_due,
        coalesce(
          (SELECT true FROM training_jobs_open j WHERE j.user_id = s.user_id AND j.task = s.task
             AND j.state = 'queued' LIMIT 1),
          (SELECT true FROM training_jobs_open j WHERE j.user_id = s.user_id AND j.task = s.task
             AND j.state = 'running' LIMIT 1), false) AS open_job
      FROM (SELECT user_id, task, bool_or(is_due) AS is_due FROM found GROUP BY user_id, task) f
      JOIN user_task_state s USING (user_id, task)
      LEFT JOIN stream_training t USING (user_id, task)
      LEFT JOIN adapters a ON a.user_id = s.user_id AND a.task = s.task AND a.state = 'active'
      """
    ).map { row in
      ScheduledStream(
        stream: try row.stream(), incarnation: try row.decode("incarnation"),
        eventCount: try row.decode("event_count"),
        scheduledThrough: try row.decode("scheduled_through"),
        monitor: try row.decode("monitor"),
        monitorVersion: try row.decode("monitor_version"),
        pendingShift: try row.optionalJSON("pending_shift"),
        activeVersion: try row.decode("version"),
        trainedThrough: try row.decode("trained_through"),
        replacedVersion: try row.decode("replaced_version"),
        promotedAfter: try row.decode("promoted_after"),
        trial: (try? row.optionalJSON("trial")) ?? nil,
        lastTrainOrdinal: try row.decode("last_train_ordinal"),
        lastTrainAt: try row.decode("last_train_at"), isDue: try row.decode("is_due"),
        lastChangeOrdinal: try row.decode("last_change_ordinal"),
        hasOpenJob: try row.decode("open_job"))
    }
  }

  /// The next events of each stream after where the scheduler stands, oldest first.
  public func newEvents(
    of streams: [ScheduledStream], limit: Int
  ) async throws -> [StreamID: [WatchedEvent]] {
    let behind = streams.filter { $0.eventCount > $0.scheduledThrough }
    guard !behind.isEmpty else { return [:] }
    var events: [StreamID: [WatchedEvent]] = [:]
    for row in try await client.query(
      """
      SELECT s.user_id, s.task, e.ordinal, e.input, e.output
      FROM unnest(\(behind.map(\.stream.userID))::text[], \(behind.map(\.stream.task))::text[],
        \(behind.map(\.scheduledThrough))::bigint[]) AS s (user_id, task, after)
      CROSS JOIN LATERAL (
        SELECT ordinal, input, output FROM behavior_events AS e
        WHERE e.user_id = s.user_id AND e.task = s.task AND e.ordinal > s.after
        ORDER BY e.ordinal LIMIT \(limit)) AS e
      """)
    {
      let input: JSONValue = try row.json("input")
      events[try row.stream(), default: []].append(
        WatchedEvent(
          ordinal: try row.decode("ordinal"), input: input.object ?? [:],
          output: try row.decode("output")))
    }
    return events
  }

  /// Writes what the scheduler found, in one transaction.
  ///
  /// A stream that somebody else has looked at meanwhile (an old leader), or that was erased and begun anew, is
  /// left as it is.
  /// - Parameter connection: the leader's own, which holds the lock: what is written here is written by the
  ///   leader, or not at all.
  public func record(
    _ outcomes: [ScheduleOutcome], on connection: PostgresConnection
  ) async throws -> ScheduleReceipt {
    guard !outcomes.isEmpty else { return ScheduleReceipt() }
    let outcomes = outcomes.sorted { $0.stream < $1.stream }
    return try await connection.withTransaction { connection in
      var receipt = ScheduleReceipt()
      receipt.streams = try await Self.advance(outcomes, on: connection)
      let taken = outcomes.filter { receipt.streams.contains($0.stream) }
      for outcome in taken {
        guard let version = outcome.rollback else { continue }
        let reason = outcome.decisions.last { $0.action == .rollback }?.reason ?? "live_losses"
        let done = try await AdapterRepository(connection).rollBack(
          outcome.stream, expected: version, reason: reason)
        if done != nil { receipt.rolledBack.insert(outcome.stream) }
      }
      let requests = taken.compactMap { outcome in
        outcome.job.map {
          JobRequest(
            stream: outcome.stream, reason: $0,
            changeOrdinal: outcome.decisions.last { $0.action == .train }?.changeOrdinal)
        }
      }
      receipt.jobs = try await JobQueue(connection).enqueue(requests).mapValues(\.jobID)
      try await Self.remember(taken, on: connection)
      try await Self.insert(taken, jobs: receipt.jobs, on: connection)
      for outcome in taken where outcome.announceShift {
        try await OutboxRepository(connection).post(
          AdapterEvent(
            kind: .shiftDetected, stream: outcome.stream, jobID: receipt.jobs[outcome.stream],
            reason: "shift"))
      }
      return receipt
    }
  }

  /// What an earlier leader kept under a name; nil where nothing was, or what cannot be read, of another release.
  public static func kept<State: Codable & Sendable>(
    _ name: String, as type: State.Type = State.self, on connection: PostgresConnection
  ) async throws -> State? {
    try await connection.query("SELECT state FROM scheduler_state WHERE name = \(name)").first
      .flatMap { try? $0.json("state") }
  }

  /// Keeps something for the next leader.
  /// - Parameter connection: the leader's own.
  public static func keep<State: Codable & Sendable>(
    _ state: State, as name: String, on connection: PostgresConnection
  ) async throws {
    try await connection.execute(
      """
      INSERT INTO scheduler_state (name, state) VALUES (\(name), \(PostgresJSON(state)))
      ON CONFLICT (name) DO UPDATE SET state = excluded.state
      """)
  }

  /// The same for one look, on any connection. Returns the id of the job it asked for, if any.
  @discardableResult
  public func record(_ outcome: ScheduleOutcome) async throws -> Int64? {
    try await client.withConnection { connection in
      try await record([outcome], on: connection).jobs[outcome.stream]
    }
  }

  /// Asks for a training because an operator wants one; a decision like any other.
  /// - Returns: the job; nil for a stream without events.
  /// - Parameter isRehearsal: nothing is changed.
  public func requestTraining(
    of stream: StreamID, note: String, isRehearsal: Bool = false
  ) async throws -> EnqueuedJob? {
    try await client.withTransaction(isRehearsal: isRehearsal) { connection in
      let rows = try await connection.query(
        """
        SELECT event_count FROM user_task_state
        WHERE user_id = \(stream.userID) AND task = \(stream.task) FOR UPDATE
        """)
      guard let events = try rows.first?.decode("event_count", as: Int64.self) else { return nil }
      let job = try await JobQueue(connection).enqueue([
        JobRequest(stream: stream, reason: .operator)
      ])[stream]
      try await connection.execute(
        """
        INSERT INTO stream_training AS t (user_id, task, last_train_ordinal, last_train_at)
        VALUES (\(stream.userID), \(stream.task), \(events), now())
        ON CONFLICT (user_id, task) DO UPDATE SET last_train_at = now(),
          last_train_ordinal = excluded.last_train_ordinal
        """)
      try await connection.execute(
        """
        INSERT INTO shift_decisions (user_id, task, ordinal, action, reason, signals, numbers, job_id)
        VALUES (\(stream.userID), \(stream.task), \(events), 'train', 'operator', '[]',
          \(PostgresJSON(DecisionNumbers.operator(events: events, note: note)))::jsonb, \(job?.jobID))
        """)
      return job
    }
  }

  /// Moves the streams on, in the order in which everybody locks them.
  private static func advance(
    _ outcomes: [ScheduleOutcome], on connection: PostgresConnection
  ) async throws -> Set<StreamID> {
    let rows = try await connection.query(
      """
      WITH seen AS MATERIALIZED (
        SELECT * FROM unnest(\(outcomes.map(\.stream.userID))::text[],
          \(outcomes.map(\.stream.task))::text[], \(outcomes.map(\.from))::bigint[],
          \(outcomes.map(\.through))::bigint[], \(outcomes.map(\.monitor))::bytea[],
          \(outcomes.map { $0.monitorVersion.map { Int32(clamping: $0) } })::integer[],
          \(outcomes.map { $0.evaluation.map { PostgresJSON($0) } })::jsonb[],
          \(outcomes.map { $0.pendingShift.map { PostgresJSON($0) } })::jsonb[],
          \(outcomes.map(\.incarnation))::bigint[]) WITH ORDINALITY
          AS x (user_id, task, first, through, monitor, monitor_version, evaluation, pending,
            incarnation, number)),
      held AS MATERIALIZED (
        SELECT number FROM seen CROSS JOIN LATERAL (
          SELECT 1 FROM user_task_state AS s WHERE s.user_id = seen.user_id AND s.task = seen.task
            AND s.scheduled_through = seen.first AND s.incarnation = seen.incarnation
          FOR UPDATE) AS locked)
      UPDATE user_task_state AS s SET scheduled_through = seen.through,
        monitor = seen.monitor, monitor_version = seen.monitor_version,
        evaluation = seen.evaluation, pending_shift = seen.pending
      FROM held JOIN seen USING (number)
      WHERE s.user_id = seen.user_id AND s.task = seen.task
      RETURNING s.user_id, s.task
      """)
    return Set(try rows.map { try $0.stream() })
  }

  /// What the next looks need to know: the last training, when to look again, the losses so far.
  private static func remember(
    _ outcomes: [ScheduleOutcome], on connection: PostgresConnection
  ) async throws {
    let changed = outcomes.filter { $0.job != nil || $0.nextLook != nil || $0.wasDue }
    if !changed.isEmpty {
      try await connection.execute(
        """
        INSERT INTO stream_training AS t (user_id, task, last_train_ordinal, last_train_at,
          last_change_ordinal, look_at)
        SELECT user_id, task, through, CASE WHEN through IS NOT NULL THEN now() END, change, look_at
        FROM unnest(\(changed.map(\.stream.userID))::text[], \(changed.map(\.stream.task))::text[],
          \(changed.map { $0.job == nil ? nil : $0.through })::bigint[],
          \(changed.map { $0.job == nil ? nil : $0.decisions.last?.changeOrdinal })::bigint[],
          \(changed.map(\.nextLook))::timestamptz[]) AS x (user_id, task, through, change, look_at)
        ON CONFLICT (user_id, task) DO UPDATE SET look_at = excluded.look_at,
          last_train_ordinal = coalesce(excluded.last_train_ordinal, t.last_train_ordinal),
          last_train_at = coalesce(excluded.last_train_at, t.last_train_at),
          last_change_ordinal = coalesce(excluded.last_change_ordinal, t.last_change_ordinal)
        """)
    }
    for outcome in outcomes {
      guard let trial = outcome.trial, let version = outcome.monitorVersion else { continue }
      try await connection.execute(
        """
        UPDATE adapters SET trial = \(PostgresJSON(trial))::jsonb
        WHERE user_id = \(outcome.stream.userID) AND task = \(outcome.stream.task)
          AND version = \(version)
        """)
    }
  }

  private static func insert(
    _ outcomes: [ScheduleOutcome], jobs: [StreamID: Int64], on connection: PostgresConnection
  ) async throws {
    var rows: [[PostgresValue?]] = []
    for outcome in outcomes {
      for decision in outcome.decisions {
        let job = decision.action == .train ? jobs[outcome.stream] : nil
        rows.append([
          outcome.stream.userID.postgresValue(), outcome.stream.task.postgresValue(),
          decision.ordinal.postgresValue(), decision.action.rawValue.postgresValue(),
          decision.reason.postgresValue(), decision.changeOrdinal?.postgresValue(),
          try PostgresJSON(decision.signals).postgresValue(),
          try PostgresJSON(decision.numbers).postgresValue(), job?.postgresValue(),
        ])
      }
    }
    guard !rows.isEmpty else { return }
    try await connection.copyIn(
      table: "shift_decisions",
      columns: [
        "user_id", "task", "ordinal", "action", "reason", "change_ordinal", "signals", "numbers",
        "job_id",
      ], rows: rows)
  }

  /// Decisions, the newest first.
  /// - Parameter before: only those with a lower number.
  public func decisions(
    userID: String? = nil, task: String? = nil, reason: String? = nil, before: Int64? = nil,
    limit: Int = 200
  ) async throws -> [DecisionRecord] {
    try await client.query(
      """
      SELECT \(unsafeSQL: Self.decisionColumns) FROM shift_decisions
      WHERE \(Self.chosen(userID, task, reason))
        AND (\(before)::bigint IS NULL OR decision_id < \(before))
      ORDER BY decision_id DESC LIMIT \(limit)
      """
    ).map(Self.decision)
  }

  /// How many decisions there are. A nil leaves that condition out.
  public func count(userID: String?, task: String?, reason: String?) async throws -> Int {
    try await client.query(
      "SELECT count(*) AS n FROM shift_decisions WHERE \(Self.chosen(userID, task, reason))"
    ).first?.decode("n") ?? 0
  }

  private static func chosen(_ userID: String?, _ task: String?, _ reason: String?) -> PostgresQuery
  {
    """
    (\(userID)::text IS NULL OR user_id = \(userID))
      AND (\(task)::text IS NULL OR task = \(task))
      AND (\(reason)::text IS NULL OR reason = \(reason))
    """
  }

  /// The decision; nil where there is none, or retention has removed it.
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
      changeOrdinal: try row.decode("change_ordinal"),
      signals: try row.json("signals"),
      numbers: try row.json("numbers"), jobID: try row.decode("job_id"),
      decidedAt: try row.decode("decided_at"))
  }
}
