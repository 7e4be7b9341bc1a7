// An adapter that was made elsewhere becomes the active version of a user's stream.

import Foundation
import PostgresClient

/// Nothing is known of the user and task that an adapter is for.
public struct UnknownStreamError: Error, CustomStringConvertible {
  public let stream: StreamID
  public var description: String { "\(stream) has no events, so no adapter can be stored for it" }
}

/// Stores adapters that were made elsewhere.
public struct AdapterImport: Sendable {
  private let client: PostgresClient

  public init(_ client: PostgresClient) { self.client = client }

  /// Stores the adapter as the next version and makes it active, with a finished job that stands for its
  /// making, in one transaction.
  /// - Parameter isRehearsal: nothing is stored.
  /// - Returns: the version.
  /// - Throws: ``UnknownStreamError``, `PostgresError`.
  public func store(_ adapter: NewAdapter, isRehearsal: Bool = false) async throws -> Int {
    let stream = adapter.stream
    return try await client.withTransaction(isRehearsal: isRehearsal) { connection in
      let known = try await connection.query(
        """
        SELECT 1 FROM user_task_state
        WHERE user_id = \(stream.userID) AND task = \(stream.task) FOR UPDATE
        """)
      guard !known.isEmpty else { throw UnknownStreamError(stream: stream) }
      let rows = try await connection.query(
        """
        INSERT INTO training_jobs (user_id, task, reason, state, started_at, finished_at)
        VALUES (\(stream.userID), \(stream.task), 'import', 'succeeded', now(), now())
        RETURNING job_id
        """)
      guard let jobID = try rows.first?.decode("job_id", as: Int64.self) else {
        throw UnknownStreamError(stream: stream)
      }
      let version = try await AdapterRepository(connection).insert(adapter, jobID: jobID)
      try await OutboxRepository(connection).post(
        AdapterEvent(
          kind: .promoted, stream: stream, adapterVersion: version,
          parentVersion: adapter.parentVersion, jobID: jobID, reason: "import"))
      return version
    }
  }
}
