// PostgreSQL as services run it for others: limits on what a session may do, and a standby that takes over.

import DevelopmentServers
import Foundation
import PostgresClient
import Testing

extension IntegrationTests {
  @Suite(.serialized) struct ManagedDatabases {
    private static func event(_ number: Int) -> String {
      #"{"event_id":"\#(number)","user_id":"kim","task":"film_tag","input":{"film":"F","n":\#(number)},"output":"funny"}"#
    }

    /// Expects each event once, in the order that it was sent in.
    private static func expect(_ count: Int, in client: PostgresClient) async throws {
      #expect(try await client.number("SELECT count(*) FROM behavior_events") == count)
      #expect(
        try await client.number(
          "SELECT count(*) FROM behavior_events WHERE (input->>'n')::bigint <> ordinal") == 0)
    }

    @Test(
      "locks, idle transactions and connections that are limited hold a worker up, and lose nothing"
    )
    func limits() async throws {
      try await Rig.with(partitions: 1) { rig in
        let role = "limited_" + (rig.database.split(separator: "/").last ?? "")
        for statement in [
          "CREATE ROLE \(role) LOGIN CONNECTION LIMIT 5",
          "ALTER ROLE \(role) SET lock_timeout = '300ms'",
          "ALTER ROLE \(role) SET idle_in_transaction_session_timeout = '500ms'",
          // A role that may use the tables, and owns none.
          "GRANT ALL ON SCHEMA public TO \(role)",
          "GRANT ALL ON ALL TABLES IN SCHEMA public TO \(role)",
          "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO \(role)",
        ] { try await rig.client.execute(PostgresQuery(unsafeSQL: statement)) }
        let worker = try await rig.startWorker([
          "OPPU_DATABASE_URL": rig.database.replacing("//oppu@", with: "//\(role)@"),
          "OPPU_DATABASE_MAXIMUM_CONNECTIONS": "10", "OPPU_SCHEDULE_LOSS_SIGNAL": "false",
          "OPPU_SCHEDULE_POLL_INTERVAL_MS": "100",
        ])
        var sent = 0
        func produce(_ count: Int) async throws {
          try await rig.produce(
            (sent + 1...sent + count).map(Self.event), key: "kim", partition: 0)
          sent += count
        }
        try await produce(20)
        try await rig.waitForIngest(messages: 20)
        // Somebody holds the tables for longer than a lock may be waited for.
        try await rig.client.withTransaction { connection in
          try await connection.execute(
            "LOCK TABLE behavior_events, user_task_state, ingest_partitions IN ACCESS EXCLUSIVE MODE"
          )
          try await produce(20)
          try await eventually("a lock is waited for in vain", state: rig.log()) {
            rig.log().contains("[55P03]")
          }
        }
        try await rig.waitForIngest(messages: 40)
        // A worker that stands still within a transaction loses its session.
        for _ in 0..<3 {
          try await produce(200)
          worker.signal(SIGSTOP)
          try await Task.sleep(for: .milliseconds(700))
          worker.signal(SIGCONT)
        }
        try await rig.produce(
          #"{"request_id":"r","user_id":"kim","task":"film_tag","input":{"film":"F"}}"#,
          key: "kim", to: rig.kafka.requestTopic)
        try await rig.waitForIngest(messages: sent)
        let reply = try #require(try await rig.read(rig.kafka.replyTopic, count: 1).first).json()
        #expect(reply["status"] == "ok")
        try await Self.expect(sent, in: rig.client)
        await rig.stop(worker)
      }
    }

    @Test("a standby that takes over without what was stored last gets it again, once and in order")
    func promotion() async throws {
      let primary = try await PrivatePostgres.start(
        folder: Servers.folder("primary"), isDurable: false, logger: Servers.logger)
      let standby = try await PrivatePostgres.start(
        folder: Servers.folder("standby"), isDurable: false, standbyOf: primary,
        logger: Servers.logger)
      let url =
        "postgresql://oppu@127.0.0.1:\(primary.port),127.0.0.1:\(standby.port)/oppu"
        + "?target_session_attrs=read-write"
      try await Rig.with(partitions: 1, database: url) { rig in
        let worker = try await rig.startWorker([
          "OPPU_ROLES": "ingest,infer,schedule", "OPPU_SCHEDULE_LOSS_SIGNAL": "false",
        ])
        func produce(_ numbers: ClosedRange<Int>) async throws {
          try await rig.produce(numbers.map(Self.event), key: "kim", partition: 0)
        }
        try await produce(1...50)
        try await rig.waitForIngest(messages: 50)
        try await withClient(standby.connectionString) { client in
          try await eventually("the standby has them") {
            try await client.number("SELECT count(*) FROM behavior_events") == 50
          }
        }
        // From here on the primary keeps what it stores to itself.
        let senders = try await rig.client.query(
          "SELECT pid::bigint AS pid FROM pg_stat_replication")
        try #require(senders.count == 1)
        for sender in senders { kill(pid_t(try sender.decode("pid", as: Int.self)), SIGSTOP) }
        try await produce(51...80)
        try await rig.waitForIngest(messages: 80)
        await primary.kill()
        for sender in senders { kill(pid_t(try sender.decode("pid", as: Int.self)), SIGKILL) }
        try await withClient(standby.connectionString) { client in
          #expect(try await client.number("SELECT count(*) FROM behavior_events") == 50)
          try await client.execute("SELECT pg_promote()")
        }
        try await produce(81...100)
        try await rig.waitForIngest(messages: 100)
        try await Self.expect(100, in: rig.client)
        try await rig.produce(
          #"{"request_id":"r","user_id":"kim","task":"film_tag","input":{"film":"F"}}"#,
          key: "kim", to: rig.kafka.requestTopic)
        let reply = try #require(try await rig.read(rig.kafka.replyTopic, count: 1).first).json()
        #expect(reply["status"] == "ok")
        await rig.stop(worker)
      }
      await standby.stop()
    }
  }
}
