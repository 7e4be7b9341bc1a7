// `oppu-worker dev`, which runs servers of its own in a folder.

import DevelopmentServers
import Foundation
import PostgresClient
import TestSupport
import Testing

extension IntegrationTests {
  @Suite(.serialized) struct Dev {
    private func start(_ arguments: [String], log: String) async throws -> ChildProcess {
      try await ChildProcess.start(
        ChildProcess.Launch(
          executable: Paths.worker, arguments: ["dev"] + arguments,
          environment: ProcessInfo.processInfo.environment.merging(["OPPU_ROLES": "ingest"]) { $1 },
          logFile: log))
    }

    private func said(_ log: String) throws -> String {
      try String(contentsOfFile: log, encoding: .utf8)
    }

    @Test("dev refuses a broker or database of somebody else's instead of ignoring it")
    func startsItsOwn() async throws {
      let log = Servers.folder("dev-log").path
      let child = try await start(["--kafka", "elsewhere:9092"], log: log)
      #expect(ChildProcess.describe(await child.waitForEnd()) == "exit code 2")
      #expect(try said(log).contains("--kafka does not go with dev"))
    }

    @Test("a second dev in a folder names the process that has it, which goes on with its servers")
    func folderInUse() async throws {
      let log = Servers.folder("dev-log").path
      let arguments = [
        "--folder", Servers.folder("dev").path, "--kafka-port", "0", "--postgres-port", "0",
        "--broker", Paths.broker.path,
      ]
      let first = try await start(arguments, log: log)
      defer { first.signal(SIGKILL) }
      try await eventually("dev is ready", state: (try? said(log)) ?? "") {
        // From here on it drains when it is told to stop; before, it has nothing to drain and just ends.
        try said(log).contains("ingest assigned")
      }
      let secondLog = Servers.folder("dev-log").path
      let second = try await start(arguments, log: secondLog)
      #expect(ChildProcess.describe(await second.waitForEnd()) == "exit code 1")
      let refusal = try said(secondLog)
      #expect(refusal.contains("a server of process \(first.processID) runs there"), "\(refusal)")

      let url = try #require(try said(log).firstMatch(of: /PostgreSQL at (postgresql:\S+)/)).1
      let client = PostgresClient(PostgresConfiguration(String(url)), logger: Servers.logger)
      #expect(try await client.number("SELECT 1") == 1)
      await client.close()
      first.signal(SIGTERM)
      #expect(ChildProcess.describe(await first.waitForEnd()) == "exit code 0")
    }
  }
}
