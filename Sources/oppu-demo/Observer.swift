// What the demo sees of the worker: rows of its database, by plain SQL.

import Foundation
import Personalization
import PostgresClient
import ShiftDetection

/// How far the worker is.
struct WorkerProgress: Equatable, Sendable {
  var stored = 0
  var duplicates = 0
  var deadLetters = 0
  /// Streams with events that the scheduler has not seen yet.
  var behind = 0
  /// Shifts that wait for more events.
  var pendingShifts = 0
  var queued = 0
  var running = 0
  var finished = 0
  var deadJobs = 0
  var activeAdapters = 0
  /// Mean seconds of a finished training.
  var secondsPerJob: Double?
  var current: Training?

  struct Training: Equatable, Sendable {
    var stream: StreamName
    var reason: String
    var step: Int
    var steps: Int
    var seconds: Int
    /// From 0 to 1, by its steps.
    var fraction: Double { steps > 0 ? min(1, Double(step) / Double(steps)) : 0 }
  }

  var taken: Int { stored + duplicates + deadLetters }
}

/// A shift that the worker's detectors found.
struct FoundShift: Sendable {
  var stream: StreamName
  /// The event at which it was noticed, and the estimated first event of the new behaviour.
  var ordinal: Int
  var changeOrdinal: Int?
  /// The signals that raised the alarm, in words.
  var signals: [String]
}

/// A version of an adapter and how it fared against its parent.
struct AdapterVersion: Sendable {
  var stream: StreamName
  var version: Int
  var state: String
  var reason: String
  var trainedThrough: Int
  var wasPromoted: Bool
  var examples: Int?
  var heldOut: Int?
  var parentLoss: Double?
  var candidateLoss: Double?
}

struct Observer: Sendable {
  private let client: PostgresClient

  init(database: String) {
    client = PostgresClient(
      PostgresConfiguration(database, maximumConnections: 2, applicationName: "oppu-demo"))
  }

  func close() async { await client.close() }

  /// Whether the worker has taken its partitions of the behaviour topic.
  func isReady() async throws -> Bool {
    let rows = try await client.query(
      "SELECT count(*) AS n FROM ingest_partitions WHERE topic = \(Topics.behavior)")
    return try rows.first?.decode("n", as: Int.self) ?? 0 > 0
  }

  func progress() async throws -> WorkerProgress {
    let rows = try await client.query(
      """
      SELECT (SELECT count(*) FROM behavior_events) AS stored,
        (SELECT coalesce(sum(duplicates), 0)::bigint FROM ingest_partitions) AS duplicates,
        (SELECT coalesce(sum(dead_letters), 0)::bigint FROM ingest_partitions) AS dead_letters,
        (SELECT count(*) FROM user_task_state WHERE event_count > scheduled_through) AS behind,
        (SELECT count(*) FROM user_task_state WHERE pending_shift IS NOT NULL) AS pending,
        (SELECT count(*) FROM training_jobs WHERE state = 'queued') AS queued,
        (SELECT count(*) FROM training_jobs WHERE state = 'running') AS running,
        (SELECT count(*) FROM training_jobs WHERE state = 'succeeded') AS succeeded,
        (SELECT count(*) FROM training_jobs WHERE state IN ('dead', 'cancelled')) AS dead,
        (SELECT count(*) FROM adapters WHERE state = 'active') AS active,
        (SELECT avg(extract(epoch FROM finished_at - started_at))::float8 FROM training_jobs
          WHERE state = 'succeeded') AS mean_seconds
      """)
    var progress = WorkerProgress()
    guard let row = rows.first else { return progress }
    progress.stored = try row.decode("stored")
    progress.duplicates = try row.decode("duplicates")
    progress.deadLetters = try row.decode("dead_letters")
    progress.behind = try row.decode("behind")
    progress.pendingShifts = try row.decode("pending")
    progress.queued = try row.decode("queued")
    progress.running = try row.decode("running")
    progress.deadJobs = try row.decode("dead")
    progress.finished = try row.decode("succeeded") + progress.deadJobs
    progress.activeAdapters = try row.decode("active")
    progress.secondsPerJob = try row.decode("mean_seconds")
    if progress.running > 0 { progress.current = try await runningTraining() }
    return progress
  }

  private func runningTraining() async throws -> WorkerProgress.Training? {
    let rows = try await client.query(
      """
      SELECT user_id, task, reason, progress,
        extract(epoch FROM now() - started_at)::float8 AS seconds
      FROM training_jobs WHERE state = 'running' ORDER BY started_at LIMIT 1
      """)
    return try rows.first.map { row in
      let progress = try row.decode("progress", as: PostgresJSON<JobProgress>?.self)?.value
      return WorkerProgress.Training(
        stream: try row.streamName(), reason: try row.decode("reason"), step: progress?.step ?? 0,
        steps: progress?.steps ?? 0, seconds: Int(try row.decode("seconds", as: Double.self)))
    }
  }

  /// Rows by task, with how many different event ids they have.
  func stored() async throws -> [String: (rows: Int, ids: Int)] {
    let rows = try await client.query(
      """
      SELECT task, count(*) AS n, count(DISTINCT event_id) AS ids FROM behavior_events
      GROUP BY task
      """)
    var result: [String: (rows: Int, ids: Int)] = [:]
    for row in rows {
      result[try row.decode("task")] = (rows: try row.decode("n"), ids: try row.decode("ids"))
    }
    return result
  }

  func shifts() async throws -> [FoundShift] {
    let rows = try await client.query(
      """
      SELECT user_id, task, ordinal, change_ordinal, signals FROM shift_decisions
      WHERE reason = 'shift_detected' ORDER BY task, user_id, decision_id
      """)
    return try rows.map { row in
      let signals = try row.decode("signals", as: PostgresJSON<[Signal]>.self).value
      return FoundShift(
        stream: try row.streamName(), ordinal: try row.decode("ordinal"),
        changeOrdinal: try row.decode("change_ordinal"),
        signals: signals.filter(\.isAlarm).map { "\($0.feature): \($0.before) → \($0.after)" })
    }
  }

  func adapters() async throws -> [AdapterVersion] {
    let rows = try await client.query(
      """
      SELECT a.user_id, a.task, a.version, a.state, a.trained_through, a.training, a.gate,
        a.promoted_at IS NOT NULL AS promoted, j.reason
      FROM adapters a LEFT JOIN training_jobs j ON j.job_id = a.job_id
      ORDER BY a.task, a.user_id, a.version
      """)
    return try rows.map { row in
      let training = try row.decode("training", as: PostgresJSON<AdapterOrigin>.self).value
      let gate = try row.decode("gate", as: PostgresJSON<GateRecord>.self).value
      return AdapterVersion(
        stream: try row.streamName(), version: try row.decode("version"),
        state: try row.decode("state"), reason: try row.decode("reason", as: String?.self) ?? "?",
        trainedThrough: try row.decode("trained_through"),
        wasPromoted: try row.decode("promoted"),
        examples: training.numbers?.examples, heldOut: gate.heldOutExamples,
        parentLoss: gate.parentLoss, candidateLoss: gate.candidateLoss)
    }
  }
}

extension PostgresRow {
  fileprivate func streamName() throws -> StreamName {
    StreamName(user: try decode("user_id"), task: try decode("task"))
  }
}
