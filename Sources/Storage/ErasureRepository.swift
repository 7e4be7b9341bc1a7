// Forgetting a user: every row goes in one transaction, and only a receipt without the user's id stays.

import Foundation
import PostgresClient

public struct ErasureRepository: Sendable {
  private let connection: PostgresConnection

  /// - Parameter connection: inside a transaction.
  public init(_ connection: PostgresConnection) { self.connection = connection }

  /// Removes the user. A trainer that is at work on one of the user's jobs loses its lease with the job's row
  /// and can write nothing; workers drop cached adapters when the notification arrives.
  public func erase(userID: String) async throws {
    // The state rows first: ingest and training lock them too, in this order.
    try await connection.execute("DELETE FROM user_task_state WHERE user_id = \(userID)")
    let jobs = try await connection.execute("DELETE FROM training_jobs WHERE user_id = \(userID)")
    let adapters = try await connection.execute("DELETE FROM adapters WHERE user_id = \(userID)")
    let events = try await connection.execute(
      "DELETE FROM behavior_events WHERE user_id = \(userID)")
    try await connection.execute("DELETE FROM shift_decisions WHERE user_id = \(userID)")
    try await connection.execute(
      """
      INSERT INTO erasure_receipts (user_sha256, events, adapters, jobs)
      VALUES (\(sha256Hex(Data(userID.utf8))), \(events), \(adapters), \(jobs))
      """)
    try await OutboxRepository(connection).post(
      AdapterEvent(kind: .erased, stream: Stream(userID: userID, task: "*")))
    try await AdapterRepository(connection).notifyChange(of: Stream(userID: userID, task: "*"))
  }
}
