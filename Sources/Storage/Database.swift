// What every repository needs of a database: a pooled client or a connection inside a transaction.

import Foundation
import PostgresClient

/// Runs statements: the pool (each statement on its own) or one connection (inside its transaction).
public protocol Database: Sendable {
  /// Runs one statement and returns its rows.
  /// - Throws: `PostgresError`; `CancellationError`.
  func query(_ query: PostgresQuery) async throws -> [PostgresRow]
  /// Runs one statement.
  /// - Returns: how many rows it changed; for SELECT, returned.
  /// - Throws: `PostgresError`; `CancellationError`.
  @discardableResult func execute(_ query: PostgresQuery) async throws -> Int
}

extension Database {
  /// The database's time, by which things are old: a machine's own may be years off.
  /// - Throws: `PostgresError`.
  public func now() async throws -> Date {
    guard let row = try await query("SELECT now() AS now").first else {
      throw PostgresError(kind: .misuse, message: "SELECT now() gave no row")
    }
    return try row.decode("now")
  }
}

extension PostgresClient: Database {}
extension PostgresConnection: Database {}

extension PostgresRow {
  func stream() throws -> StreamID {
    StreamID(userID: try decode("user_id"), task: try decode("task"))
  }

  /// The pair of texts in a column and the next one.
  func stream(at field: Int) throws -> StreamID {
    StreamID(userID: try decode(at: field), task: try decode(at: field + 1))
  }

  func json<T: Codable & Sendable>(_ column: String, as type: T.Type = T.self) throws -> T {
    try decode(column, as: PostgresJSON<T>.self).value
  }

  func optionalJSON<T: Codable & Sendable>(_ column: String, as type: T.Type = T.self) throws -> T?
  {
    try decode(column, as: PostgresJSON<T>?.self)?.value
  }
}
