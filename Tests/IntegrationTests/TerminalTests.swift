// What users wrote, on an operator's terminal: shown, never obeyed.

import DevelopmentServers
import Foundation
import PostgresClient
import Storage
import TestSupport
import Testing

extension IntegrationTests {
  @Suite struct Terminals {
    private static let user = "kim\u{1B}[31m\nroot  film_tag  999\u{202E}"

    private func admin(_ rig: Rig, _ arguments: [String]) async throws -> (String, Int32) {
      let log = rig.folder.appending(path: "admin-\(UUID().uuidString)").path
      let child = try await ChildProcess.start(
        ChildProcess.Launch(
          executable: Paths.worker, arguments: ["admin"] + arguments,
          environment: rig.environment([:]), logFile: log))
      let status = await child.waitForEnd()
      return (try String(contentsOfFile: log, encoding: .utf8), status)
    }

    @Test("a user id with escape codes and newlines rules no terminal and makes no line of its own")
    func escaped() async throws {
      try await Rig.with { rig in
        let stream = StreamID(userID: Self.user, task: "film_tag")
        try await rig.client.addStream(stream, events: 2)
        _ = try await JobQueue(rig.client).enqueue([.init(stream: stream, reason: .operator)])
        for arguments in [
          ["users", "list"], ["users", "show", Self.user], ["users", "erase", Self.user],
          ["events", "list", Self.user], ["jobs", "list"], ["jobs", "show", "1"],
          ["jobs", "enqueue", Self.user, "film_tag"], ["adapters", "list"],
          ["adapters", "promote", Self.user, "film_tag", "7"], ["status"],
        ] {
          let (text, _) = try await admin(rig, arguments)
          #expect(!text.contains("\u{1B}") && !text.contains("\u{202E}"), "\(arguments)")
          #expect(!text.split(separator: "\n").contains { $0.hasPrefix("root") }, "\(text)")
        }
        let (json, status) = try await admin(rig, ["users", "list", "-o", "json"])
        #expect(status == 0)
        #expect(!json.contains("\u{1B}"))
        let rows = try #require(
          (try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])?["rows"]
            as? [[String: Any]])
        #expect(rows.contains { $0.values.contains { $0 as? String == Self.user } })
      }
    }
  }
}
