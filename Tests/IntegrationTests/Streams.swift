// Streams of events as the ingest would leave them, for tests of what comes after.

import Foundation
import JSON
import Personalization
import PostgresClient
import Storage

@testable import ShiftDetection

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

extension PostgresClient {
  /// A shift that the scheduler noticed at the stream's second event.
  func addDecision(_ stream: StreamID, daysAgo: Int = 0) async throws {
    let alarm = Signal(
      kind: .loss, feature: "loss", statistic: 9.5, threshold: 9, rarity: 2_000, arl0: 1_000,
      observations: 2, changeIndex: 1, before: "0.5", after: "2.5", isAlarm: true,
      explanation: "the loss rose from 0.5 to 2.5")
    let numbers = DecisionNumbers.schedule(
      ScheduleNumbers(StreamFacts(eventCount: 2, now: Date()), rules: ScheduleRules(), arl0: 1_000))
    try await execute(
      """
      INSERT INTO shift_decisions
        (user_id, task, ordinal, action, reason, change_ordinal, signals, numbers, decided_at)
      VALUES (\(stream.userID), \(stream.task), 2, 'wait', 'shift_detected', 1,
        \(PostgresJSON([alarm]))::jsonb, \(PostgresJSON(numbers))::jsonb,
        now() - make_interval(days => \(daysAgo)::integer))
      """)
  }
}
