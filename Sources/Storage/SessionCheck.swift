// Whether a connection is one session of the server: locks, LISTEN and leadership belong to a session, and a pooler
// that gives each transaction another one (PgBouncer with pool_mode = transaction) makes them mean nothing.

import Foundation
import PostgresClient

/// A pooler puts other sessions behind a connection.
public struct PooledSessionsError: Error, CustomStringConvertible, LocalizedError {
  public var description: String {
    "PostgreSQL is reached through a pooler that puts another session behind each transaction (PgBouncer's pool_mode transaction or statement), but locks and LISTEN belong to a session; use pool_mode = session, or connect to PostgreSQL itself"
  }
  public var errorDescription: String? { description }
}

/// Tells sessions from what a pooler makes of them.
public enum SessionCheck {
  /// Asks two connections by turns which process is behind them. Two sessions never have the same one. A pooler gives
  /// the session that was given back last to the next who asks, so both have it in turn; or the one that has rested
  /// longest, so a connection that asks twice has two.
  /// - Throws: ``PooledSessionsError``; `PostgresError`.
  public static func run(_ client: PostgresClient) async throws {
    try await client.withConnection { one in
      try await client.withConnection { other in
        var ones: Set<Int> = []
        var others: Set<Int> = []
        for _ in 0..<3 {
          ones.insert(try await process(of: one))
          others.formUnion([try await process(of: other), try await process(of: other)])
          ones.insert(try await process(of: one))
        }
        guard ones.count == 1, others.count == 1, ones != others else {
          throw PooledSessionsError()
        }
      }
    }
  }

  private static func process(of connection: PostgresConnection) async throws -> Int {
    try await connection.query("SELECT pg_backend_pid() AS pid").first?.decode("pid") ?? 0
  }
}
