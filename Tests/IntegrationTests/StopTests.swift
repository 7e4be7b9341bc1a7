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

    /// A worker that leads, so that its way down goes through PostgreSQL.
    private func withLeader(
      _ changes: [String: String] = [:], _ body: (Rig, ChildProcess) async throws -> Void
    ) async throws {
      try await Rig.with { rig in
        let worker = try await rig.startWorker(Self.settings.merging(changes) { $1 })
        try await eventually("the worker leads", seconds: 60, state: rig.log()) {
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
        """
        SELECT pid::bigint AS pid FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND application_name LIKE 'oppu-worker%'
        """)
      let backends = try rows.map { pid_t(try $0.decode("pid", as: Int.self)) }
      try #require(!backends.isEmpty)
      for backend in backends { kill(backend, SIGSTOP) }
      let result: Result<Void, any Error>
      do { result = .success(try await body()) } catch { result = .failure(error) }
      for backend in backends { kill(backend, SIGCONT) }
      try result.get()
    }

    private func end(of worker: ChildProcess, _ rig: Rig, seconds: Int = 60) async throws -> String
    {
      try await eventually("the worker has ended", seconds: seconds, state: rig.log()) {
        !worker.isRunning
      }
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
          #expect(try await end(of: worker, rig, seconds: 20) == "exit code 130")
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
