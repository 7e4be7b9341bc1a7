// Reading behaviour events back, always for exactly one user and task.

import Foundation
import Personalization
import PostgresClient

/// A stored event with its place in the stream.
public struct StoredEvent: Sendable {
  public let ordinal: Int64
  public let item: HistoryItem
}

/// An event as the scheduler watches it: the output may be missing.
public struct WatchedEvent: Sendable {
  public let ordinal: Int64
  public let input: [String: JSONValue]
  public let output: String?
}

public struct HistoryRepository: Sendable {
  private let database: any Database

  public init(_ database: any Database) { self.database = database }

  /// Events with an output, oldest first: those after `after`, at most the newest `limit`.
  ///
  /// Events without an output (the user was shown something and chose nothing) teach nothing about what the
  /// user would answer and are left out.
  public func events(of stream: Stream, after: Int64 = 0, limit: Int = 1_000) async throws
    -> [StoredEvent]
  {
    try await database.query(
      """
      SELECT * FROM (
        SELECT ordinal, event_id, occurred_at, input, output FROM behavior_events
        WHERE user_id = \(stream.userID) AND task = \(stream.task) AND ordinal > \(after)
          AND output IS NOT NULL
        ORDER BY ordinal DESC LIMIT \(limit)) AS newest
      ORDER BY ordinal
      """
    ).map { row in
      let input: JSONValue = try row.json("input")
      return StoredEvent(
        ordinal: try row.decode("ordinal"),
        item: HistoryItem(
          eventID: try row.decode("event_id"), occurredAt: try row.decode("occurred_at"),
          input: input.object ?? [:], output: try row.decode("output")))
    }
  }

  /// The next events of a stream after an ordinal, oldest first, with or without an output.
  public func next(of stream: Stream, after: Int64, limit: Int) async throws -> [WatchedEvent] {
    try await database.query(
      """
      SELECT ordinal, input, output FROM behavior_events
      WHERE user_id = \(stream.userID) AND task = \(stream.task) AND ordinal > \(after)
      ORDER BY ordinal LIMIT \(limit)
      """
    ).map { row in
      let input: JSONValue = try row.json("input")
      return WatchedEvent(
        ordinal: try row.decode("ordinal"), input: input.object ?? [:],
        output: try row.decode("output"))
    }
  }
}
