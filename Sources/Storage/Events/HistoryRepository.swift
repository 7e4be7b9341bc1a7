// Reading behaviour events back, always for exactly one user and task.

import Foundation
import JSON
import Personalization
import PostgresClient

/// A stored event with its place in the stream.
public struct StoredEvent: Sendable {
  /// From 1 within the stream; retention removes the lowest.
  public let ordinal: Int64
  public let item: HistoryItem
}

/// An event as the scheduler watches it: the output may be missing.
public struct WatchedEvent: Sendable {
  /// From 1 within the stream; retention removes the lowest.
  public let ordinal: Int64
  /// Empty where what is stored is no object.
  public let input: [String: JSONValue]
  /// Nil where the user was shown something and chose nothing.
  public let output: String?
}

/// Reads users' events.
public struct HistoryRepository: Sendable {
  private let database: any Database

  public init(_ database: any Database) { self.database = database }

  /// What one reading of a history takes at most: thousands of ordinary events, some hundred of the largest.
  public static let maximumBytes = 4 << 20

  /// Events with an output, oldest first: those after `after`, at most the newest `limit`, and of these the newest
  /// whose inputs and outputs come to at most `maximumBytes`; the newest one always.
  ///
  /// Events without an output (the user was shown something and chose nothing) teach nothing about what the
  /// user would answer and are left out.
  public func events(
    of stream: StreamID, after: Int64 = 0, limit: Int = 1_000, maximumBytes: Int = Self.maximumBytes
  )
    async throws -> [StoredEvent]
  {
    try await database.query(
      """
      SELECT ordinal, event_id, occurred_at, input, output FROM (
        SELECT *, sum(octet_length(input::text) + octet_length(output))
            OVER (ORDER BY ordinal DESC) AS bytes, row_number() OVER (ORDER BY ordinal DESC) AS place
        FROM (
          SELECT ordinal, event_id, occurred_at, input, output FROM behavior_events
          WHERE user_id = \(stream.userID) AND task = \(stream.task) AND ordinal > \(after)
            AND output IS NOT NULL
          ORDER BY ordinal DESC LIMIT \(limit)) AS newest) AS counted
      WHERE bytes <= \(maximumBytes)::bigint OR place = 1
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

  /// An event with everything that was stored of it, in the words of its message.
  public struct EventRecord: Sendable, Encodable {
    public let eventID: String
    public let userID: String
    public let task: String
    /// `interaction` or `feedback`.
    public let kind: String
    public let occurredAt: Date
    public let input: JSONValue
    /// In the task's form; nil where the user chose nothing.
    public let output: String?
    /// The request that it is about; nil where it is about none.
    public let requestID: String?
    /// Of feedback: accepted, edited or rejected.
    public let verdict: String?
    /// Fields of the message that no schema names.
    public let extra: JSONValue?
    /// From 1 within the stream.
    public let ordinal: Int64
    /// Where its message stood: topic-partition@offset.
    public let place: String

    /// The message that would make it again.
    public var message: JSONValue {
      var fields: [String: JSONValue] = extra?.object ?? [:]
      fields["event_id"] = .string(eventID)
      fields["user_id"] = .string(userID)
      fields["task"] = .string(task)
      fields["occurred_at"] = .string(
        occurredAt.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
      fields["input"] = input
      if kind != "interaction" { fields["kind"] = .string(kind) }
      if let output { fields["output"] = .string(output) }
      if let requestID { fields["request_id"] = .string(requestID) }
      // An acceptance names its output here, so it needs no record of the answer.
      if let verdict { fields["feedback"] = .string(verdict) }
      return .object(fields)
    }

    public func encode(to encoder: any Encoder) throws { try message.encode(to: encoder) }

    /// Microseconds since 1970, exactly as they are stored.
    public let occurredMicroseconds: Int64
  }

  /// How many events of a user are stored.
  /// - Parameter task: nil: of all tasks.
  public func count(userID: String, task: String?) async throws -> Int {
    try await database.query(
      """
      SELECT count(*) AS n FROM behavior_events
      WHERE user_id = \(userID) AND (\(task)::text IS NULL OR task = \(task))
      """
    ).first?.decode("n") ?? 0
  }

  /// A user's events by the time when they happened, the newest first.
  /// - Parameter before: only those behind this one.
  public func newestRecords(
    userID: String, task: String?, before: (microseconds: Int64, task: String, ordinal: Int64)?,
    limit: Int
  ) async throws -> [EventRecord] {
    let before = before ?? (Int64.max, "", 0)
    return try await database.query(
      """
      SELECT * FROM (\(Self.record) WHERE user_id = \(userID)
        AND (\(task)::text IS NULL OR task = \(task))) AS e
      WHERE (microseconds, task, ordinal)
        < (\(before.microseconds), \(before.task), \(before.ordinal))
      ORDER BY microseconds DESC, task DESC, ordinal DESC LIMIT \(limit)
      """
    ).map(Self.decode)
  }

  private static let record: PostgresQuery = """
    SELECT event_id, user_id, task, kind, occurred_at, input, output, request_id, verdict, extra,
      ordinal, topic || '-' || partition || '@' || "offset" AS place,
      (extract(epoch FROM occurred_at) * 1000000)::bigint AS microseconds
    FROM behavior_events
    """

  private static func decode(_ row: PostgresRow) throws -> EventRecord {
    EventRecord(
      eventID: try row.decode("event_id"), userID: try row.decode("user_id"),
      task: try row.decode("task"), kind: try row.decode("kind"),
      occurredAt: try row.decode("occurred_at"), input: try row.json("input"),
      output: try row.decode("output"), requestID: try row.decode("request_id"),
      verdict: try row.decode("verdict"), extra: try row.optionalJSON("extra"),
      ordinal: try row.decode("ordinal"), place: try row.decode("place"),
      occurredMicroseconds: try row.decode("microseconds"))
  }

  /// A user's events as they are stored, oldest first: those after `after`.
  public func records(
    userID: String, task: String?, after: (task: String, ordinal: Int64) = ("", 0), limit: Int
  ) async throws -> [EventRecord] {
    try await database.query(
      """
      \(Self.record)
      WHERE user_id = \(userID) AND (\(task)::text IS NULL OR task = \(task))
        AND (task, ordinal) > (\(after.task), \(after.ordinal))
      ORDER BY task, ordinal LIMIT \(limit)
      """
    ).map(Self.decode)
  }
}
