// What every repository needs of a database: a pooled client or a connection inside a transaction.

import Foundation
import Personalization
import PostgresClient

/// Runs statements: the pool (each statement on its own) or one connection (inside its transaction).
public protocol Database: Sendable {
  func query(_ query: PostgresQuery) async throws -> [PostgresRow]
  @discardableResult func execute(_ query: PostgresQuery) async throws -> Int
}

extension PostgresClient: Database {}
extension PostgresConnection: Database {}

/// One user's stream of one task.
public struct Stream: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
  public let userID: String
  public let task: String

  public init(userID: String, task: String) {
    self.userID = userID
    self.task = task
  }

  public var description: String { "\(userID)/\(task)" }

  /// The order in which rows are locked everywhere, so that transactions do not deadlock.
  public static func < (a: Stream, b: Stream) -> Bool {
    (a.userID, a.task) < (b.userID, b.task)
  }
}

extension PostgresRow {
  func stream() throws -> Stream {
    Stream(userID: try decode("user_id"), task: try decode("task"))
  }

  func json<T: Codable & Sendable>(_ column: String, as type: T.Type = T.self) throws -> T {
    try decode(column, as: PostgresJSON<T>.self).value
  }

  func optionalJSON<T: Codable & Sendable>(_ column: String, as type: T.Type = T.self) throws -> T?
  {
    try decode(column, as: PostgresJSON<T>?.self)?.value
  }
}
