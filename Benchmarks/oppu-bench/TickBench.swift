// `oppu-bench tick`: the scheduler's round over many users of whom few have new events.
//
// Every stream has detector state of its own and every one that changed has an event that was not looked at. No
// model: what the losses cost is what forward passes cost, and `engine` measures those.

import ArgumentParsing
import Foundation
import Personalization
import PostgresClient
import Storage
import StructuredLogging
import Worker

struct TickBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tick",
    abstract: "A round of the scheduler over a million users, one percent changed.")

  @Option(help: "Users.") var users = 1_000_000
  @Option(help: "Of those, with a new event.") var changed = 10_000
  @Option(help: "Events that the changed ones had before, with detector state.") var history = 20
  @Option(help: "Rounds; the median counts.") var rounds = 3
  @Option(help: "Also writes the rows to this file, as JSON.") var json: String?

  func run() async throws {
    var report = EngineReport.here()
    try await BenchDatabase.with { client, _ in
      var configuration = WorkerConfiguration()
      configuration.schedule.lossSignal = false
      let round = SchedulerRound(
        configuration: configuration, catalogue: .builtIn, model: nil, client: client,
        logger: BenchDatabase.logger)
      let few = max(changed, users / 10)
      BenchDatabase.say("\(few) users, \(changed) of them with \(history) events")
      try await addUsers(client, 0..<few)
      try await addEvents(client, history)
      _ = try await tick(round, client)
      let small = try await median(round, client)
      BenchDatabase.say(String(format: "%.2f s; now %d users", small, users))
      try await addUsers(client, few..<users)
      let large = try await median(round, client)
      report.addTime(
        "tick, \(users) users, \(changed) changed", seconds: large, limit: 2)
      // At most a tenth more for ten times the users.
      report.rows.append(
        EngineReport.Row(
          name: "the same with a tenth of the users, against all of them", ours: small, peer: large,
          ratio: small / large, goal: 0.8, unit: "s"))
      let none = try await tick(round, client)
      report.addTime("tick, \(users) users, none changed", seconds: none, limit: 0.05)
    }
    try report.write(json)
  }

  private func median(_ round: SchedulerRound, _ client: PostgresClient) async throws -> Double {
    var seconds: [Double] = []
    for _ in 0..<max(1, rounds) {
      try await addEvents(client, 1)
      seconds.append(try await tick(round, client))
    }
    return seconds.sorted()[seconds.count / 2]
  }

  /// Looks at everything that changed, as the leader does.
  private func tick(_ round: SchedulerRound, _ client: PostgresClient) async throws -> Double {
    try await client.withConnection { connection in
      let begin = ContinuousClock.now
      var streams = 0
      while true {
        let report = try await round.run(on: connection)
        streams += report.streams
        if report.failures > 0 { throw PeerError(description: "a stream could not be looked at") }
        if !report.isFull { break }
      }
      return (ContinuousClock.now - begin) / .seconds(1)
    }
  }

  private func addUsers(_ client: PostgresClient, _ numbers: Range<Int>) async throws {
    try await client.execute(
      """
      INSERT INTO user_task_state (user_id, task)
      SELECT 'user-' || n, 'film_tag' FROM generate_series(\(numbers.lowerBound)::bigint, \(numbers.upperBound - 1)::bigint) n
      """)
    try await client.execute("VACUUM ANALYZE user_task_state")
  }

  /// Some more events of each of the users that change.
  private func addEvents(_ client: PostgresClient, _ count: Int) async throws {
    try await client.withTransaction { connection in
      try await connection.execute(
        """
        INSERT INTO behavior_events (user_id, task, ordinal, event_id, kind, occurred_at, input, output,
          topic, partition, "offset")
        SELECT s.user_id, s.task, s.event_count + e, s.user_id || '-' || (s.event_count + e),
          'interaction', now(), jsonb_build_object('film',
            'The ' || (ARRAY['Paper', 'Winter', 'Distant', 'Silent'])[1 + (n + e) % 4] || ' '
            || (ARRAY['Harbour', 'Bridge', 'Piano', 'Orchard'])[1 + (n * e) % 4]),
          (ARRAY['funny', 'sad', 'nineties'])[1 + (n + s.event_count + e) % 3], 'bench', 0, n
        FROM generate_series(0, \(changed - 1)::bigint) n
        JOIN user_task_state s ON s.user_id = 'user-' || n AND s.task = 'film_tag'
        CROSS JOIN generate_series(1, \(count)::bigint) e
        """)
      try await connection.execute(
        """
        UPDATE user_task_state AS s SET event_count = event_count + \(count)::bigint, updated_at = now()
        FROM generate_series(0, \(changed - 1)::bigint) n
        WHERE s.user_id = 'user-' || n AND s.task = 'film_tag'
        """)
    }
  }
}
