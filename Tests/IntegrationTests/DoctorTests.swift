// What `admin doctor` finds, and what a worker does not start with.

import DevelopmentServers
import Foundation
import JSON
import Personalization
import PostgresClient
import Storage
import Testing

extension IntegrationTests {
  @Suite(.serialized) struct Doctor {
    /// The check's row.
    private func check(_ name: String, in output: String) throws -> JSONValue {
      let rows = try output.split(separator: "\n").filter { $0.hasPrefix("{") }.map {
        try JSONDecoder().decode(JSONValue.self, from: Data($0.utf8))
      }
      return try #require(rows.first { $0["check"]?.string == name })
    }

    @Test("a pending migration is a finding, with its number and exit code 3")
    func pendingMigration() async throws {
      try await Rig.with { rig in
        let complete = try await rig.admin(["doctor", "-o", "jsonl"])
        #expect(complete.code == 0, "\(complete.output)")
        #expect(try check("database", in: complete.output)["ok"]?.bool == true)
        let last = try #require(Migration.all.last?.number)
        try await rig.client.execute("DELETE FROM schema_migrations WHERE number = \(last)")
        let pending = try await rig.admin(["doctor", "-o", "jsonl"])
        #expect(pending.code == 3)
        let found = try check("database", in: pending.output)
        #expect(found["ok"]?.bool == false)
        #expect(found["detail"]?.string?.contains("lacks migration \(last)") == true)
      }
    }

    @Test("a pooler that lends sessions for a transaction is found, and no worker starts with it")
    func pooler() async throws {
      try await Rig.with { rig in
        let pooler = try TransactionPooler(to: try rig.databasePort)
        defer { pooler.stop() }
        let pooled = try rig.database(by: pooler.port)
        try await withClient(pooled) { client in
          // It is a way to the database like any other, but for its sessions.
          let events = try await client.number("SELECT count(*) FROM behavior_events")
          #expect(events == 0)
          await #expect(throws: PooledSessionsError.self) { try await SessionCheck.run(client) }
        }
        try await SessionCheck.run(rig.client)

        let url = ["OPPU_DATABASE_URL": pooled]
        let doctor = try await rig.admin(["doctor", "-o", "jsonl"], settings: url)
        #expect(doctor.code == 3)
        #expect(try check("sessions", in: doctor.output)["ok"]?.bool == false)
        _ = try await rig.startWorker(
          url.merging(["OPPU_ROLES": "schedule", "OPPU_SCHEDULE_LOSS_SIGNAL": "false"]) { $1 })
        try await eventually("the worker says why it does not start", state: rig.log()) {
          rig.log().contains("pool_mode = session")
        }
      }
    }
  }
}
