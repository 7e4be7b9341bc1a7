// Messages that must follow a committed change: written in its transaction, published afterwards.

import Foundation
import PostgresClient

/// What happened to a user's adapters, as published on `adapter-events`.
public struct AdapterEvent: Sendable, Codable {
  /// By the names that the messages have.
  public enum Kind: String, Sendable, Codable {
    case shiftDetected = "shift_detected"
    case trainingStarted = "training_started"
    case trainingFailed = "training_failed"
    case promoted
    case rejected
    case rolledBack = "rolled_back"
    case erased
  }
  public var kind: Kind
  public var userID: String
  /// `*` for an erasure, which is of all tasks.
  public var task: String
  /// The version that it is about; nil where it is about none.
  public var adapterVersion: Int?
  /// The version that ``adapterVersion`` was trained from; of a rollback, the one now active.
  /// Nil: none, so the base model, or the task's adapter over it.
  public var parentVersion: Int?
  /// Nil where it comes of no job.
  public var jobID: Int64?
  /// Why there was a training, a shift or a rollback; of a failed training, the error.
  public var reason: String?
  /// Of the candidate, in nats per output token.
  public var heldOutLoss: Double?
  /// Of what the candidate was compared with, in nats per output token.
  public var parentHeldOutLoss: Double?
  /// What an erasure found.
  public var removed: ErasureCounts?
  public var occurredAt: Date

  public init(
    kind: Kind, stream: StreamID, adapterVersion: Int? = nil, parentVersion: Int? = nil,
    jobID: Int64? = nil, reason: String? = nil, heldOutLoss: Double? = nil,
    parentHeldOutLoss: Double? = nil,
    removed: ErasureCounts? = nil, occurredAt: Date = Date()
  ) {
    self.kind = kind
    self.userID = stream.userID
    self.task = stream.task
    self.adapterVersion = adapterVersion
    self.parentVersion = parentVersion
    self.jobID = jobID
    self.reason = reason
    self.heldOutLoss = heldOutLoss
    self.parentHeldOutLoss = parentHeldOutLoss
    self.removed = removed
    self.occurredAt = occurredAt
  }

  enum CodingKeys: String, CodingKey {
    case kind, task, reason, removed
    case userID = "user_id"
    case adapterVersion = "adapter_version"
    case parentVersion = "parent_version"
    case jobID = "job_id"
    case heldOutLoss = "held_out_loss"
    case parentHeldOutLoss = "parent_held_out_loss"
    case occurredAt = "occurred_at"
  }
}

/// A message that waits to be published.
public struct OutboxMessage: Sendable {
  /// Grows in the order of writing.
  public let id: Int64
  /// Of the message to be published: the user's id.
  public let key: String
  public let event: AdapterEvent
}

/// The table of messages that wait.
public struct OutboxRepository: Sendable {
  private let database: any Database

  /// - Parameter database: a transaction's connection, so that a message comes with the change it
  ///   tells of.
  public init(_ database: any Database) { self.database = database }

  /// Puts a message behind those that wait. Whoever publishes sees it once it is committed.
  public func post(_ event: AdapterEvent) async throws {
    try await database.execute(
      """
      INSERT INTO outbox (message_key, message) VALUES (\(event.userID), \(PostgresJSON(event)))
      """)
  }

  /// The oldest messages that wait.
  public func waiting(limit: Int = 100) async throws -> [OutboxMessage] {
    try await database.query(
      "SELECT id, message_key, message FROM outbox ORDER BY id LIMIT \(limit)"
    ).map { row in
      OutboxMessage(
        id: try row.decode("id"), key: try row.decode("message_key"),
        event: try row.json("message"))
    }
  }

  /// Takes out messages that the broker has acknowledged.
  public func remove(_ ids: [Int64]) async throws {
    guard !ids.isEmpty else { return }
    try await database.execute("DELETE FROM outbox WHERE id = ANY(\(ids))")
  }
}
