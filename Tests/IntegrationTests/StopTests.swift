// The real binary told to stop: it drains, ends at once, passes on the first failure, and does not wait for ever
// for what hangs.

import DevelopmentServers
import Foundation
import PostgresClient
import Testing

extension IntegrationTests {
  @Suite(.serialized) struct Stops {
    private static let settings = [
      "OPPU_ROLES": "ingest,schedule", "OPPU_SCHEDULE_LOSS_SIGNAL": "false",
      "OPPU_SCHEDULE_POLL_INTERVAL_MS": "100",
    ]

    private static func role(of rig: Rig) -> String {
      "worker_" + (rig.database.split(separator: "/").last ?? "")
    }

    /// A worker that leads, so that its way down goes through PostgreSQL.
    private func withLeader(
      _ changes: [String: String] = [:], _ body: (Rig, ChildProcess) async throws -> Void
    ) async throws {
      try await Rig.with { rig in
        // A role of its own tells the worker's sessions from the test's.
        let role = Self.role(of: rig)
        try await rig.client.execute(
          PostgresQuery(unsafeSQL: "CREATE ROLE \(role) LOGIN SUPERUSER"))
        var settings = Self.settings.merging(changes) { $1 }
        settings["OPPU_DATABASE_URL"] = rig.database.replacing("//oppu@", with: "//\(role)@")
        let worker = try await rig.startWorker(settings)
        try await eventually("the worker leads", state: rig.log()) {
          let hasPartitions =
            try await rig.client.number("SELECT count(*) FROM ingest_partitions") == 2
          return hasPartitions && rig.log().contains("this process leads")
        }
        try await body(rig, worker)
      }
    }

    /// Stops the server's side of the worker's connections while the body runs, as a database does that hangs.
    private func withHungDatabase(_ rig: Rig, _ body: () async throws -> Void) async throws {
      let rows = try await rig.client.query(
        "SELECT pid::bigint AS pid FROM pg_stat_activity WHERE usename = \(Self.role(of: rig))")
      let backends = try rows.map { pid_t(try $0.decode("pid", as: Int.self)) }
      try #require(!backends.isEmpty)
      for backend in backends { kill(backend, SIGSTOP) }
      let result: Result<Void, any Error>
      do { result = .success(try await body()) } catch { result = .failure(error) }
      for backend in backends { kill(backend, SIGCONT) }
      try result.get()
    }

    private func end(of worker: ChildProcess, _ rig: Rig) async throws -> String {
      try await eventually("the worker has ended", state: rig.log()) { !worker.isRunning }
      return ChildProcess.describe(worker.endStatus ?? -1)
    }

    @Test("SIGTERM drains: the roles stop in reverse order, and the process ends with 0")
    func drains() async throws {
      try await withLeader { rig, worker in
        worker.signal(SIGTERM)
        #expect(try await end(of: worker, rig) == "exit code 0")
        let log = rig.log()
        let schedule = try #require(log.range(of: "schedule stopped"), "\(log)")
        let ingest = try #require(log.range(of: "ingest stopped"), "\(log)")
        #expect(schedule.lowerBound < ingest.lowerBound)
        #expect(log.contains("worker stopped"))
      }
    }

    @Test("a second SIGINT ends a process at once that the first one could not stop")
    func twice() async throws {
      try await withLeader { rig, worker in
        try await withHungDatabase(rig) {
          worker.signal(SIGINT)
          try await eventually("the first signal is seen", state: rig.log()) {
            rig.log().contains("SIGINT")
          }
          try #require(worker.isRunning)
          worker.signal(SIGINT)
          #expect(try await end(of: worker, rig) == "exit code 130")
        }
      }
    }

    @Test("a role that fails stops the others, and its error is the last line and exit code 1")
    func failure() async throws {
      try await withLeader { rig, worker in
        try await rig.client.execute("ALTER TABLE user_task_state RENAME TO elsewhere")
        #expect(try await end(of: worker, rig) == "exit code 1")
        let log = rig.log()
        #expect(log.contains("ingest stopped"))
        let last = try #require(log.split(separator: "\n").last)
        #expect(last.hasPrefix("oppu-worker: ") && last.contains("user_task_state"), "\(last)")
      }
    }

    @Test(
      "with the least connections that the roles need all goes on; with fewer they say the number")
    func leastConnections() async throws {
      try await withLeader(["OPPU_DATABASE_MAXIMUM_CONNECTIONS": "3"]) { rig, worker in
        try await rig.produce(
          #"{"event_id":"1","user_id":"kim","task":"film_tag","input":{"film":"F"},"output":"funny"}"#,
          key: "kim")
        try await rig.waitForIngest(messages: 1)
        try await eventually("the scheduler has seen it", state: rig.log()) {
          try await rig.client.number(
            "SELECT count(*) FROM user_task_state WHERE event_count = scheduled_through") == 1
        }
        worker.signal(SIGTERM)
        #expect(try await end(of: worker, rig) == "exit code 0")
      }
      try await Rig.with { rig in
        let worker = try await rig.startWorker(
          Self.settings.merging(["OPPU_DATABASE_MAXIMUM_CONNECTIONS": "2"]) { $1 })
        #expect(try await end(of: worker, rig) == "exit code 1")
        #expect(rig.log().contains("maximumConnections is 2, but these roles need at least 3"))
      }
    }

    @Test("a database that turns read-only, or gives statements no time, is waited out")
    func waitedOut() async throws {
      try await withLeader { rig, worker in
        for (number, setting) in ["default_transaction_read_only = on", "statement_timeout = 1"]
          .enumerated()
        {
          func set(_ change: String) async throws {
            let role = Self.role(of: rig)
            try await rig.client.execute(
              PostgresQuery(unsafeSQL: "ALTER ROLE \(role) \(change)"))
            // The worker's sessions come again with the new setting.
            try await rig.client.execute(
              "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = \(role)")
          }
          try await set("SET \(setting)")
          let before = rig.log().components(separatedBy: "trying again").count
          try await rig.produce(
            #"{"event_id":"\#(number)","user_id":"kim","task":"film_tag","input":{"film":"F"},"output":"funny"}"#,
            key: "kim")
          try await eventually("the worker tries again", state: rig.log()) {
            rig.log().components(separatedBy: "trying again").count > before + 2
          }
          #expect(worker.isRunning)
          try await set("RESET ALL")
          try await rig.waitForIngest(messages: number + 1)
        }
        worker.signal(SIGTERM)
        #expect(try await end(of: worker, rig) == "exit code 0")
      }
    }

    @Test("what will not stop is named at the deadline, and the process ends with 1")
    func hangs() async throws {
      try await withLeader(["OPPU_SHUTDOWN_DEADLINE_MS": "2000"]) { rig, worker in
        try await withHungDatabase(rig) {
          worker.signal(SIGTERM)
          #expect(try await end(of: worker, rig) == "exit code 1")
          let last = try #require(rig.log().split(separator: "\n").last)
          #expect(last.hasPrefix("oppu-worker: would not stop: "), "\(last)")
          #expect(last.contains("SchedulerService"), "\(last)")
        }
      }
    }
  }
}
