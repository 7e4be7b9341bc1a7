// Streams of events as the ingest would leave them, for tests of what comes after.

import Foundation
import JSON
import Personalization
import PostgresClient
import Storage

extension PostgresClient {
  /// Adds events to a stream; it may have some already.
  func addEvents(
    _ events: [(input: JSONValue, output: String?)], to stream: StreamID
  ) async throws {
    try await withTransaction { connection in
      let count = try await connection.query(
        """
        INSERT INTO user_task_state AS s (user_id, task, event_count)
        VALUES (\(stream.userID), \(stream.task), \(events.count))
        ON CONFLICT (user_id, task) DO UPDATE SET updated_at = now(),
          event_count = s.event_count + excluded.event_count
        RETURNING event_count
        """
      ).first?.decode("event_count", as: Int.self)
      let first = (count ?? 0) - events.count + 1
      for (index, event) in events.enumerated() {
        try await connection.execute(
          """
          INSERT INTO behavior_events (user_id, task, ordinal, event_id, kind, occurred_at, input, output,
            topic, partition, "offset")
          VALUES (\(stream.userID), \(stream.task), \(first + index),
            \("\(stream)-\(first + index)"), 'interaction', now(), \(PostgresJSON(event.input))::jsonb,
            \(event.output), 'test', 0, \(first + index))
          """)
      }
    }
  }

  /// A stream with some events of no importance.
  func addStream(_ stream: StreamID, events: Int = 3) async throws {
    try await addEvents(
      (0..<events).map { (input: ["film": .string("Film \($0)")], output: "funny") }, to: stream)
  }
}
