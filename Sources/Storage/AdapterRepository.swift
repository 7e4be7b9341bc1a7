// Adapter versions: immutable weights with their lineage and numbers; at most one is active per stream.

import Foundation
import Personalization
import PostgresClient

public enum AdapterState: String, Sendable, Codable, CaseIterable {
  case candidate, active, retired, rejected
}

/// What the promotion gate compared and decided. Losses are means over held-out examples of the mean
/// negative log-likelihood per output token, in nats.
public struct GateRecord: Sendable, Codable, Equatable {
  public var heldOutExamples: Int
  public var parentLoss: Double?
  public var candidateLoss: Double?
  /// The mean of the paired differences (candidate − parent) and its one-sided upper bound.
  public var difference: Double?
  public var differenceUpperBound: Double?
  public var promoted: Bool
  public var verdict: String

  public init(
    heldOutExamples: Int, parentLoss: Double?, candidateLoss: Double?, difference: Double?,
    differenceUpperBound: Double?, promoted: Bool, verdict: String
  ) {
    self.heldOutExamples = heldOutExamples
    self.parentLoss = parentLoss
    self.candidateLoss = candidateLoss
    self.difference = difference
    self.differenceUpperBound = differenceUpperBound
    self.promoted = promoted
    self.verdict = verdict
  }

  enum CodingKeys: String, CodingKey {
    case heldOutExamples = "held_out_examples"
    case parentLoss = "parent_loss"
    case candidateLoss = "candidate_loss"
    case difference
    case differenceUpperBound = "difference_upper_bound"
    case promoted, verdict
  }
}

/// A new version as a trainer hands it over.
public struct NewAdapter: Sendable {
  public var stream: Stream
  public var parentVersion: Int?
  public var baseFingerprint: String
  public var configuration: JSONValue
  public var weights: Data
  public var trainedThrough: Int64
  public var training: JSONValue
  public var gate: GateRecord

  public init(
    stream: Stream, parentVersion: Int?, baseFingerprint: String, configuration: JSONValue,
    weights: Data, trainedThrough: Int64, training: JSONValue, gate: GateRecord
  ) {
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
  public let version: Int
  public let state: AdapterState
  public let parentVersion: Int?
  public let baseFingerprint: String
  public let configuration: JSONValue
  public let weightsSHA256: String
  public let byteCount: Int64
  public let trainedThrough: Int64
  public let training: JSONValue
  public let gate: GateRecord
  public let jobID: Int64
  public let createdAt: Date
  public let promotedAt: Date?

  public var stream: Stream { Stream(userID: userID, task: task) }

  enum CodingKeys: String, CodingKey {
    case task, version, state, configuration, training, gate
    case userID = "user_id"
    case parentVersion = "parent_version"
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
  public let stream: Stream
  public let version: Int
  public var description: String {
    "the weights of adapter \(stream) version \(version) are missing or do not match their SHA-256"
  }
}

public struct AdapterRepository: Sendable {
  private let database: any Database
  /// Workers listen here; the payload is the changed ``Stream`` as JSON.
  public static let changeChannel = "oppu_adapters"

  public init(_ database: any Database) { self.database = database }

  public func list(userID: String? = nil, task: String? = nil, limit: Int = 200) async throws
    -> [AdapterRecord]
  {
    try await database.query(
      """
      SELECT \(unsafeSQL: Self.columns) FROM adapters
      WHERE (\(userID)::text IS NULL OR user_id = \(userID))
        AND (\(task)::text IS NULL OR task = \(task))
      ORDER BY user_id, task, version LIMIT \(limit)
      """
    ).map(Self.record)
  }

  public func get(_ stream: Stream, version: Int) async throws -> AdapterRecord? {
    try await database.query(
      """
      SELECT \(unsafeSQL: Self.columns) FROM adapters
      WHERE user_id = \(stream.userID) AND task = \(stream.task) AND version = \(version)
      """
    ).first.map(Self.record)
  }

  public func active(_ stream: Stream) async throws -> AdapterRecord? {
    try await database.query(
      """
      SELECT \(unsafeSQL: Self.columns) FROM adapters
      WHERE user_id = \(stream.userID) AND task = \(stream.task) AND state = 'active'
      """
    ).first.map(Self.record)
  }

  /// The weights of a version, checked against their SHA-256.
  /// - Throws: ``DamagedAdapterError``.
  public func weights(_ stream: Stream, version: Int) async throws -> Data {
    let rows = try await database.query(
      """
      SELECT weights, weights_sha256 FROM adapters
      WHERE user_id = \(stream.userID) AND task = \(stream.task) AND version = \(version)
      """)
    guard let row = rows.first, let data = try row.decode("weights", as: Data?.self),
      sha256Hex(data) == (try row.decode("weights_sha256", as: String.self))
    else { throw DamagedAdapterError(stream: stream, version: version) }
    return data
  }

  /// Stores a version and, if its gate says so, makes it the active one. Of a rejected one only the numbers are
  /// kept: its weights never serve. Inside the transaction that finishes
  /// its job.
  func insert(_ adapter: NewAdapter, jobID: Int64) async throws -> Int {
    // The state row's lock orders versions of a stream; it exists, for the stream has events.
    try await database.execute(
      """
      SELECT 1 FROM user_task_state
      WHERE user_id = \(adapter.stream.userID) AND task = \(adapter.stream.task) FOR UPDATE
      """)
    let promoted = adapter.gate.promoted
    if promoted {
      try await database.execute(
        """
        UPDATE adapters SET state = 'retired'
        WHERE user_id = \(adapter.stream.userID) AND task = \(adapter.stream.task)
          AND state = 'active'
        """)
    }
    let rows = try await database.query(
      """
      INSERT INTO adapters (user_id, task, version, state, parent_version, base_fingerprint,
        configuration, weights, weights_sha256, byte_count, trained_through, training, gate, job_id,
        promoted_at)
      SELECT \(adapter.stream.userID), \(adapter.stream.task), coalesce(max(version), 0) + 1,
        \(promoted ? "active" : "rejected"), \(adapter.parentVersion)::integer,
        \(adapter.baseFingerprint), \(PostgresJSON(adapter.configuration))::jsonb,
        CASE WHEN \(promoted) THEN \(adapter.weights)::bytea END, \(sha256Hex(adapter.weights)), \(adapter.weights.count)::bigint,
        \(adapter.trainedThrough)::bigint, \(PostgresJSON(adapter.training))::jsonb,
        \(PostgresJSON(adapter.gate))::jsonb, \(jobID)::bigint,
        CASE WHEN \(promoted) THEN now() END
      FROM adapters WHERE user_id = \(adapter.stream.userID) AND task = \(adapter.stream.task)
      RETURNING version
      """)
    guard let version = try rows.first?.decode("version", as: Int.self) else {
      throw DamagedAdapterError(stream: adapter.stream, version: 0)
    }
    if promoted { try await notifyChange(of: adapter.stream) }
    return version
  }

  /// Tells inference workers that a stream's active adapter changed.
  func notifyChange(of stream: Stream) async throws {
    let payload = String(decoding: try JSONEncoder().encode(stream), as: UTF8.self)
    try await database.execute("SELECT pg_notify(\(Self.changeChannel), \(payload))")
  }

  private static let columns = """
    user_id, task, version, state, parent_version, base_fingerprint, configuration, weights_sha256,
    byte_count, trained_through, training, gate, job_id, created_at, promoted_at
    """

  private static func record(_ row: PostgresRow) throws -> AdapterRecord {
    AdapterRecord(
      userID: try row.decode("user_id"), task: try row.decode("task"),
      version: try row.decode("version"),
      state: AdapterState(rawValue: try row.decode("state")) ?? .retired,
      parentVersion: try row.decode("parent_version"),
      baseFingerprint: try row.decode("base_fingerprint"),
      configuration: try row.json("configuration"),
      weightsSHA256: try row.decode("weights_sha256"), byteCount: try row.decode("byte_count"),
      trainedThrough: try row.decode("trained_through"), training: try row.json("training"),
      gate: try row.json("gate"), jobID: try row.decode("job_id"),
      createdAt: try row.decode("created_at"), promotedAt: try row.decode("promoted_at"))
  }
}
