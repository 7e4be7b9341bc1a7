// Which version of a stream answers, changed by operators and by live losses: promotion and rollback.

import Foundation
import Personalization
import PostgresClient

/// A version cannot be promoted, or there is nothing to roll back.
public struct PromotionError: Error, CustomStringConvertible {
  public let description: String

  public init(description: String) { self.description = description }
}

extension AdapterRepository {
  /// Makes a stored version the active one, inside a transaction.
  ///
  /// - Parameter force: also a version that the gate rejected or that was rolled back. It is on trial like any
  ///   other: where live losses are worse than before, it is rolled back by itself.
  /// - Returns: the version that it replaces; nil where none was active.
  /// - Throws: ``PromotionError``.
  public func promote(_ stream: StreamID, version: Int, force: Bool) async throws -> Int? {
    // The lock comes with it, before the state is looked at.
    let replaced = try await retireActive(stream)
    guard let found = try await get(stream, version: version) else {
      throw PromotionError(description: "\(stream) has no adapter version \(version)")
    }
    guard replaced != version else {
      throw PromotionError(description: "version \(version) of \(stream) is active already")
    }
    guard found.hasWeights else {
      throw PromotionError(
        description: "retention has removed the weights of version \(version) of \(stream)")
    }
    guard force || found.state == .retired else {
      throw PromotionError(
        description: "version \(version) of \(stream) is \(found.state.rawValue): "
          + "\(found.gate.verdict); --force promotes it all the same")
    }
    try await activate(stream, version: version, replaced: replaced)
    try await OutboxRepository(database).post(
      AdapterEvent(
        kind: .promoted, stream: stream, adapterVersion: version,
        parentVersion: found.parentVersion, jobID: found.jobID, reason: "operator",
        heldOutLoss: found.gate.candidateLoss, parentHeldOutLoss: found.gate.parentLoss))
    return replaced
  }

  /// Puts what the active version had replaced back in its place, inside a transaction: an earlier version, or
  /// the model without an adapter.
  ///
  /// - Parameter expected: roll back only where this version is (still) the active one.
  /// - Returns: the version that was taken back and the one that answers now; nil where another than the
  ///   expected one is active.
  /// - Throws: ``PromotionError`` where none is active.
  public func rollBack(
    _ stream: StreamID, expected: Int? = nil, reason: String
  ) async throws -> (from: Int, to: Int?)? {
    let active = try await retireActive(stream, as: .rolledBack)
    guard let active else {
      if expected != nil { return nil }
      throw PromotionError(description: "\(stream) has no active adapter; nothing to roll back")
    }
    guard expected == nil || expected == active else {
      try await database.execute(
        """
        UPDATE adapters SET state = 'active' WHERE user_id = \(stream.userID)
          AND task = \(stream.task) AND version = \(active)
        """)
      return nil
    }
    // The nearest version before it that has its weights yet; a chain, for that one may have been rolled back too.
    let target = try await database.query(
      """
      WITH RECURSIVE before AS (
        SELECT replaced_version, 1 AS depth FROM adapters
        WHERE user_id = \(stream.userID) AND task = \(stream.task) AND version = \(active)
        UNION ALL
        SELECT a.replaced_version, b.depth + 1 FROM before b JOIN adapters a
          ON a.user_id = \(stream.userID) AND a.task = \(stream.task)
          AND a.version = b.replaced_version
        WHERE b.depth < 100)
      SELECT a.version, a.replaced_version FROM before b JOIN adapters a
        ON a.user_id = \(stream.userID) AND a.task = \(stream.task)
        AND a.version = b.replaced_version
      WHERE a.weights IS NOT NULL AND a.state = 'retired' ORDER BY b.depth LIMIT 1
      """
    ).first
    let version = try target?.decode("version", as: Int.self)
    if let version {
      try await database.execute(
        """
        UPDATE adapters SET state = 'active' WHERE user_id = \(stream.userID)
          AND task = \(stream.task) AND version = \(version)
        """)
    }
    try await notifyChange(of: stream)
    try await OutboxRepository(database).post(
      AdapterEvent(
        kind: .rolledBack, stream: stream, adapterVersion: active, parentVersion: version,
        reason: reason))
    return (active, version)
  }

  private func activate(_ stream: StreamID, version: Int, replaced: Int?) async throws {
    try await database.execute(
      """
      UPDATE adapters SET state = 'active', replaced_version = \(replaced), promoted_at = now(),
        trial = NULL, promoted_after = (SELECT event_count FROM user_task_state
          WHERE user_id = \(stream.userID) AND task = \(stream.task))
      WHERE user_id = \(stream.userID) AND task = \(stream.task) AND version = \(version)
      """)
    try await notifyChange(of: stream)
  }

  /// A version and those that it was trained from, up to the one from the base model.
  public func lineage(_ stream: StreamID, version: Int) async throws -> [AdapterRecord] {
    try await database.query(
      """
      WITH RECURSIVE line AS (
        SELECT version, parent_version, 0 AS depth FROM adapters
        WHERE user_id = \(stream.userID) AND task = \(stream.task) AND version = \(version)
        UNION ALL
        SELECT a.version, a.parent_version, l.depth + 1 FROM line l JOIN adapters a
          ON a.user_id = \(stream.userID) AND a.task = \(stream.task)
          AND a.version = l.parent_version AND a.version < l.version)
      SELECT \(unsafeSQL: Self.columns) FROM adapters
      WHERE user_id = \(stream.userID) AND task = \(stream.task)
        AND version IN (SELECT version FROM line) ORDER BY version DESC
      """
    ).map(Self.record)
  }
}
