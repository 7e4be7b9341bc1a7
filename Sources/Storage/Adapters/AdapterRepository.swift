// Adapter versions: immutable weights with their lineage and numbers; at most one is active per stream.

import Cryptography
import Foundation
import JSON
import Personalization
import PostgresClient

/// What has become of a version.
public enum AdapterState: String, Sendable, Codable, CaseIterable {
  /// It answers.
  case active
  /// It answered until a newer one was promoted.
  case retired
  /// The gate did not let it answer.
  case rejected
  /// It answered, and what it had replaced was better.
  case rolledBack = "rolled_back"
}

/// A new version as a trainer hands it over.
public struct NewAdapter: Sendable {
  public var stream: StreamID
  /// The version that it was trained from; nil: the base model, or the task's adapter over it.
  public var parentVersion: Int?
  /// Of the base model; where a task's adapter lies over that, both, with a "+" between.
  public var baseFingerprint: String
  /// PEFT's adapter_config.json.
  public var configuration: JSONValue
  /// adapter_model.safetensors.
  public var weights: Data
  /// Ordinal of the newest event that it could be trained on.
  public var trainedThrough: Int64
  /// Of a training its numbers.
  public var training: AdapterOrigin
  /// Decides whether it becomes active.
  public var gate: GateRecord
  /// What the model wrote of the user for the prompts of this version.
  public var profile: UserProfile?

  /// - Parameter profile: nil where profiles are computed.
  public init(
    stream: StreamID, parentVersion: Int?, baseFingerprint: String, configuration: JSONValue,
    weights: Data, trainedThrough: Int64, training: AdapterOrigin, gate: GateRecord,
    profile: UserProfile? = nil
  ) {
    self.profile = profile
    self.stream = stream
    self.parentVersion = parentVersion
    self.baseFingerprint = baseFingerprint
    self.configuration = configuration
    self.weights = weights
    self.trainedThrough = trainedThrough
    self.training = training
    self.gate = gate
  }
}

/// An adapter version without its weights.
public struct AdapterRecord: Sendable, Codable {
  public let userID: String
  public let task: String
  /// From 1 within its stream.
  public let version: Int
  public let state: AdapterState
  /// The version that it was trained from; nil: the base model, or the task's adapter over it.
  public let parentVersion: Int?
  /// The version that was active before this one; nil where none was.
  public let replacedVersion: Int?
  /// Of the base model; where a task's adapter lies over that, both, with a "+" between.
  public let baseFingerprint: String
  /// PEFT's adapter_config.json.
  public let configuration: JSONValue
  /// In lower-case hexadecimal.
  public let weightsSHA256: String
  /// Of the weights, whether or not they are still there.
  public let byteCount: Int64
  /// False once retention has removed the weights; the numbers stay.
  public let hasWeights: Bool
  /// Ordinal of the newest event that it could be trained on.
  public let trainedThrough: Int64
  /// Of a training its numbers.
  public let training: AdapterOrigin
  /// The losses that were compared before it served, and the verdict.
  public let gate: GateRecord
  /// What its prompts say of the user; nil where profiles are computed.
  public let profile: UserProfile?
  /// Newest event at the promotion; later ones judge the version.
  public let promotedAfter: Int64?
  /// Live losses against what it replaced, and what came of them.
  public let trial: LiveTrial?
  /// The job that made it; each job makes one version at most.
  public let jobID: Int64
  public let createdAt: Date
  /// When it became active last; nil where it never was.
  public let promotedAt: Date?

  public var stream: StreamID { StreamID(userID: userID, task: task) }

  /// The part of a history that prompts of this version retrieve from, as its training did.
  public func retrievable(_ history: [StoredEvent]) -> [StoredEvent] {
    guard let first = training.numbers?.retrievesFrom else { return history }
    return history.filter { $0.ordinal >= first }
  }

  enum CodingKeys: String, CodingKey {
    case task, version, state, configuration, training, gate, profile, trial
    case userID = "user_id"
    case parentVersion = "parent_version"
    case replacedVersion = "replaced_version"
    case hasWeights = "has_weights"
    case promotedAfter = "promoted_after"
    case baseFingerprint = "base_fingerprint"
    case weightsSHA256 = "weights_sha256"
    case byteCount = "byte_count"
    case trainedThrough = "trained_through"
    case jobID = "job_id"
    case createdAt = "created_at"
    case promotedAt = "promoted_at"
  }
}

/// Stored weights do not have the SHA-256 they were stored with.
public struct DamagedAdapterError: Error, CustomStringConvertible {
  public let stream: StreamID
  public let version: Int
  public var description: String {
    "the weights of adapter \(stream) version \(version) are missing (removed by retention?) or do not match their SHA-256"
  }
}

/// The adapters' table: reads versions, and changes which of a stream answers.
public struct AdapterRepository: Sendable {
  let database: any Database
  /// Workers listen here; the payload is the changed ``StreamID`` as JSON.
  public static let changeChannel = "oppu_adapters"

  /// - Parameter database: a transaction's connection, where a change comes with other rows.
  public init(_ database: any Database) { self.database = database }

  /// Versions by user and task, oldest first.
  /// - Parameter after: only those behind this one.
  public func list(
    userID: String? = nil, task: String? = nil, after: (StreamID, version: Int)? = nil,
    limit: Int = 200
  ) async throws -> [AdapterRecord] {
    let (stream, version) = after ?? (StreamID(userID: "", task: ""), 0)
    return try await database.query(
      """
      SELECT \(unsafeSQL: Self.columns) FROM adapters
      WHERE \(Self.chosen(userID, task))
        AND (user_id, task, version) > (\(stream.userID), \(stream.task), \(version))
      ORDER BY user_id, task, version LIMIT \(limit)
      """
    ).map(Self.record)
  }

  /// Versions of all users, the newest first.
  /// - Parameter before: only those that an earlier job made.
  public func newest(
    userID: String?, task: String?, before jobID: Int64?, limit: Int
  ) async throws -> [AdapterRecord] {
    try await database.query(
      """
      SELECT \(unsafeSQL: Self.columns) FROM adapters
      WHERE \(Self.chosen(userID, task)) AND (\(jobID)::bigint IS NULL OR job_id < \(jobID))
      ORDER BY job_id DESC LIMIT \(limit)
      """
    ).map(Self.record)
  }

  /// How many versions there are. A nil leaves that condition out.
  public func count(userID: String?, task: String?) async throws -> Int {
    try await database.query(
      "SELECT count(*) AS n FROM adapters WHERE \(Self.chosen(userID, task))"
    ).first?.decode("n") ?? 0
  }

  private static func chosen(_ userID: String?, _ task: String?) -> PostgresQuery {
    """
    (\(userID)::text IS NULL OR user_id = \(userID)) AND (\(task)::text IS NULL OR task = \(task))
    """
  }

  /// The version without its weights; nil where there is none.
  public func get(_ stream: StreamID, version: Int) async throws -> AdapterRecord? {
    try await database.query(
      """
      SELECT \(unsafeSQL: Self.columns) FROM adapters
      WHERE user_id = \(stream.userID) AND task = \(stream.task) AND version = \(version)
      """
    ).first.map(Self.record)
  }

  /// The version that answers, without its weights; nil where none does.
  public func active(_ stream: StreamID) async throws -> AdapterRecord? {
    try await database.query(
      """
      SELECT \(unsafeSQL: Self.columns) FROM adapters
      WHERE user_id = \(stream.userID) AND task = \(stream.task) AND state = 'active'
      """
    ).first.map(Self.record)
  }

  /// The weights of a version, checked against their SHA-256.
  /// - Throws: ``DamagedAdapterError``.
  public func weights(_ stream: StreamID, version: Int) async throws -> Data {
    let rows = try await database.query(
      """
      SELECT weights, weights_sha256 FROM adapters
      WHERE user_id = \(stream.userID) AND task = \(stream.task) AND version = \(version)
      """)
    guard let row = rows.first, let data = try row.decode("weights", as: Data?.self),
      SHA256.hash(data: data).hexadecimal == (try row.decode("weights_sha256", as: String.self))
    else { throw DamagedAdapterError(stream: stream, version: version) }
    return data
  }

  /// Stores a version and, if its gate says so, makes it the active one. A rejected one is kept for a while, so
  /// that it can be looked into. Inside the transaction that finishes its job.
  func insert(_ adapter: NewAdapter, jobID: Int64) async throws -> Int {
    let stream = adapter.stream
    let promoted = adapter.gate.promoted
    let replaced = promoted ? try await retireActive(stream) : nil
    let rows = try await database.query(
      """
      INSERT INTO adapters (user_id, task, version, state, parent_version, replaced_version,
        base_fingerprint, configuration, weights, weights_sha256, byte_count, trained_through,
        training, gate, profile, job_id, promoted_at, promoted_after)
      SELECT \(stream.userID), \(stream.task), coalesce(max(version), 0) + 1,
        \(promoted ? "active" : "rejected"), \(adapter.parentVersion)::integer,
        \(replaced)::integer, \(adapter.baseFingerprint),
        \(PostgresJSON(adapter.configuration))::jsonb, \(adapter.weights)::bytea,
        \(SHA256.hash(data: adapter.weights).hexadecimal), \(adapter.weights.count)::bigint,
        \(adapter.trainedThrough)::bigint, \(PostgresJSON(adapter.training))::jsonb,
        \(PostgresJSON(adapter.gate))::jsonb, \(adapter.profile.map(PostgresJSON.init))::jsonb,
        \(jobID)::bigint,
        CASE WHEN \(promoted) THEN now() END, CASE WHEN \(promoted) THEN
          (SELECT event_count FROM user_task_state
           WHERE user_id = \(stream.userID) AND task = \(stream.task)) END
      FROM adapters WHERE user_id = \(stream.userID) AND task = \(stream.task)
      RETURNING version
      """)
    guard let version = try rows.first?.decode("version", as: Int.self) else {
      throw DamagedAdapterError(stream: stream, version: 0)
    }
    if promoted { try await notifyChange(of: stream) }
    return version
  }

  /// Retires the active version, with the stream's row locked: it orders the versions of a stream.
  /// - Returns: the version that was active.
  func retireActive(_ stream: StreamID, as state: AdapterState = .retired) async throws -> Int? {
    try await database.execute(
      """
      SELECT 1 FROM user_task_state
      WHERE user_id = \(stream.userID) AND task = \(stream.task) FOR UPDATE
      """)
    return try await database.query(
      """
      UPDATE adapters SET state = \(state.rawValue)
      WHERE user_id = \(stream.userID) AND task = \(stream.task) AND state = 'active'
      RETURNING version
      """
    ).first?.decode("version", as: Int.self)
  }

  /// Tells inference workers that a stream's active adapter changed.
  func notifyChange(of stream: StreamID) async throws {
    let payload = String(decoding: try JSONEncoder().encode(stream), as: UTF8.self)
    try await database.execute("SELECT pg_notify(\(Self.changeChannel), \(payload))")
  }

  static let columns = """
    user_id, task, version, state, parent_version, replaced_version, base_fingerprint, configuration,
    weights_sha256, byte_count, weights IS NOT NULL AS has_weights, trained_through, training, gate,
    profile, promoted_after, trial, job_id, created_at, promoted_at
    """

  static func record(_ row: PostgresRow) throws -> AdapterRecord {
    AdapterRecord(
      userID: try row.decode("user_id"), task: try row.decode("task"),
      version: try row.decode("version"),
      state: AdapterState(rawValue: try row.decode("state")) ?? .retired,
      parentVersion: try row.decode("parent_version"),
      replacedVersion: try row.decode("replaced_version"),
      baseFingerprint: try row.decode("base_fingerprint"),
      configuration: try row.json("configuration"),
      weightsSHA256: try row.decode("weights_sha256"), byteCount: try row.decode("byte_count"),
      hasWeights: try row.decode("has_weights"), trainedThrough: try row.decode("trained_through"),
      training: try row.json("training"),
      gate: try row.json("gate"), profile: try row.optionalJSON("profile"),
      promotedAfter: try row.decode("promoted_after"),
      trial: (try? row.optionalJSON("trial")) ?? nil, jobID: try row.decode("job_id"),
      createdAt: try row.decode("created_at"), promotedAt: try row.decode("promoted_at"))
  }
}
