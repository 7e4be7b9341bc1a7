// What operators' commands print for programs: one document a call, complete, its keys of one form; pages of lists;
// and plans that refuse what the act itself would.

import DevelopmentServers
import Foundation
import JSON
import KafkaClient
import Personalization
import PostgresClient
import Testing

@testable import Storage
@testable import Worker

extension IntegrationTests {
  @Suite(.serialized) struct AdminOutput {
    private static let kim = StreamID(userID: "kim", task: "film_tag")

    private func addAdapter(
      _ stream: StreamID, _ client: PostgresClient, promoted: Bool = true
    ) async throws {
      try await client.withTransaction { connection in
        let job = try await connection.query("SELECT nextval('training_job_ids') AS id").first?
          .decode("id", as: Int64.self)
        _ = try await AdapterRepository(connection).insert(
          Self.adapter(stream, promoted: promoted), jobID: try #require(job))
      }
    }

    private static func adapter(_ stream: StreamID, promoted: Bool = true) -> NewAdapter {
      NewAdapter(
        stream: stream, parentVersion: nil, baseFingerprint: "f", configuration: [:],
        weights: Data([1, 2, 3]), trainedThrough: 3, training: .imported(from: "a test"),
        gate: GateRecord(
          heldOutExamples: 0, parentLoss: nil, candidateLoss: 1, difference: nil,
          differenceUpperBound: nil, promoted: promoted, verdict: "for a test"))
    }

    /// A job that is over.
    private func addJob(
      _ stream: StreamID, _ state: JobState, _ client: PostgresClient
    ) async throws -> Int64 {
      try #require(
        try await client.query(
          """
          INSERT INTO training_jobs (user_id, task, reason, state, started_at, finished_at)
          VALUES (\(stream.userID), \(stream.task), 'new_events', \(state.rawValue), now(), now())
          RETURNING job_id
          """
        ).first?.decode("job_id", as: Int64.self))
    }

    /// What a command prints on standard output, all of it one document.
    private func document(_ rig: Rig, _ arguments: [String]) async throws -> JSONValue {
      let (_, output) = try await rig.admin(arguments + ["-o", "json"])
      // The rest is remarks, progress and the log, which go to standard error.
      let text = output.split(separator: "\n").filter {
        $0.prefixMatch(of: /oppu-worker: |20\d\d-\d\d-\d\dT|[█░]/) == nil
      }.joined(separator: "\n")
      do { return try JSONValue(text: text) } catch {
        throw Timeout(description: "\(arguments): no one document: \(output)")
      }
    }

    /// The keys of a document that are not as they should be; what users wrote is theirs.
    private func oddKeys(_ value: JSONValue) -> [String] {
      switch value {
      case .array(let values): values.flatMap(oddKeys)
      case .object(let fields):
        fields.flatMap { key, value in
          (key.wholeMatch(of: /[a-z][a-z0-9_]*/) == nil ? [key] : [])
            + (["input", "headers", "configuration"].contains(key) ? [] : oddKeys(value))
        }
      default: []
      }
    }

    @Test(
      "every verb gives one JSON document whose keys are in snake_case, zeros and nulls included")
    func documents() async throws {
      try await Rig.with { rig in
        for task in ["film_tag", "film_rating"] {
          try await rig.client.addStream(StreamID(userID: "kim", task: task), events: 2)
        }
        try await addAdapter(Self.kim, rig.client)
        try await addAdapter(Self.kim, rig.client)
        let dead = try await addJob(Self.kim, .dead, rig.client)
        try await rig.client.addDecision(Self.kim)
        try await rig.produce("no JSON", key: "kim", partition: 0)
        try await rig.withIngest { try await rig.waitForIngest(messages: 1) }
        let tasks = rig.folder.appendingPathComponent("tasks.yaml")
        try Data("tasks: [".utf8).write(to: tasks)
        let file = rig.folder.appendingPathComponent("events.jsonl")
        try Data(
          #"{"user_id":"lee","task":"film_tag","input":{"film":"A"},"output":"funny"}"#.utf8
        ).write(to: file)

        let commands: [[String]] = [
          ["status"], ["migrate"], ["topics", "list"], ["topics", "create"], ["users", "list"],
          ["users", "show", "kim"], ["users", "erase", "lee"], ["users", "receipts"],
          ["adapters", "list"], ["adapters", "show", "kim", "film_tag", "2"],
          ["adapters", "promote", "kim", "film_tag", "1"],
          ["adapters", "rollback", "kim", "film_tag"], ["jobs", "list"],
          ["jobs", "show", "\(dead)"], ["jobs", "enqueue", "kim", "film_tag"],
          ["jobs", "retry", "\(dead)"], ["queue", "show"], ["queue", "pause"], ["queue", "resume"],
          ["shifts", "list"], ["shifts", "show", "1"], ["tasks", "list"],
          ["tasks", "show", "film_tag"], ["tasks", "validate", tasks.path], ["doctor"],
          ["events", "list", "kim"], ["events", "replay", "kim"], ["events", "import", file.path],
          ["events", "import", file.path, "--execute"], ["dlq", "list"], ["dlq", "show", "0-0"],
          ["dlq", "replay", "--all"], ["dlq", "purge", "--all"], ["offsets", "show"],
          ["offsets", "reset", "--to", "end"], ["lag"],
          ["jobs", "retry", "\(dead)", "--execute"], ["jobs", "cancel", "\(dead)", "--execute"],
        ]
        for command in commands {
          let document = try await document(rig, command)
          #expect(oddKeys(document) == [], "\(command)")
        }

        #expect(try await document(rig, ["users", "show", "kim"]).array?.count == 2)
        let version = try await document(rig, ["adapters", "show", "kim", "film_tag", "1"])
        #expect(version["lineage"] == [1] && version["parent_version"] == .null)
        #expect(version["gate"]?["parent_loss"] == .null)
        #expect(version["gate"]?["held_out_examples"] == 0)
        #expect(try await document(rig, ["status"])["jobs"]?["running"] == 0)
        let letters = try await document(rig, ["dlq", "list"])
        #expect(letters["rows"]?.array?.first?["letter"] == "0-0")
        #expect(letters["rows"]?.array?.first?["replayed_at"] == .null)
        let decision = try await document(rig, ["shifts", "show", "1"])
        #expect(decision["signals"]?.array?.first?["is_alarm"] == true)
        #expect(decision["numbers"]?["hours_since_training"] == .null)
        #expect(decision["numbers"]?["shift_patience_s"] == 300)
        let list = try await rig.admin(["shifts", "list"])
        #expect(list.output.contains("the loss rose from 0.5 to 2.5"), "what alarmed is named")
        let imported = try await document(rig, ["events", "import", file.path, "--execute"])
        #expect(imported["sent"] == 1)
        let asked = try await document(rig, ["jobs", "enqueue", "kim", "film_tag", "--execute"])
        #expect(asked["executed"] == true && (asked["job_id"]?.number ?? 0) > 0)
        let invalid = try await rig.admin(["tasks", "validate", tasks.path, "-o", "json"])
        #expect(invalid.code == 3)
      }
    }

    @Test("a plan refuses what the act refuses, in the same words, and changes nothing")
    func plans() async throws {
      try await Rig.with { rig in
        let lee = StreamID(userID: "lee", task: "film_tag")
        for stream in [Self.kim, lee] { try await rig.client.addStream(stream) }
        try await addAdapter(Self.kim, rig.client)
        try await addAdapter(Self.kim, rig.client, promoted: false)
        let done = try await addJob(lee, .succeeded, rig.client)
        let dead = try await addJob(lee, .dead, rig.client)
        _ = try await JobQueue(rig.client).enqueue([.init(stream: lee, reason: .newEvents)])

        for refused in [
          ["adapters", "promote", "kim", "film_tag", "2"],
          ["adapters", "promote", "kim", "film_tag", "1"],
          ["adapters", "promote", "kim", "film_tag", "9"],
          ["adapters", "rollback", "lee", "film_tag"],
          ["jobs", "retry", "\(done)"], ["jobs", "retry", "\(dead)"], ["jobs", "retry", "999"],
          ["jobs", "cancel", "\(done)"], ["jobs", "cancel", "999"],
          ["jobs", "enqueue", "mara", "film_tag"],
        ] {
          let plan = try await rig.admin(refused)
          let act = try await rig.admin(refused + ["--execute"])
          #expect(plan.code == 1 && act.code == 1, "\(refused)")
          #expect(plan.output == act.output, "\(refused)")
        }
        // An adapter for nobody, without its file: the part that the plan once left out.
        for isRehearsal in [true, false] {
          await #expect(throws: UnknownStreamError.self) {
            try await AdapterImport(rig.client).store(
              Self.adapter(.init(userID: "mara", task: "film_tag")), isRehearsal: isRehearsal)
          }
        }

        func state() async throws -> [String] {
          try await rig.client.query(
            """
            SELECT 'a' || version || state AS s FROM adapters UNION ALL
            SELECT 'j' || job_id || state || reason FROM training_jobs UNION ALL
            SELECT 'o' || count(*) FROM outbox UNION ALL
            SELECT 'd' || count(*) FROM shift_decisions ORDER BY 1
            """
          ).map { try $0.decode("s") }
        }
        let before = try await state()
        let version = try await AdapterImport(rig.client).store(
          Self.adapter(Self.kim), isRehearsal: true)
        #expect(version == 3)
        let queued = try #require(try await JobRepository(rig.client).list(state: .queued).first)
        for allowed in [
          ["adapters", "promote", "kim", "film_tag", "2", "--force"],
          ["adapters", "rollback", "kim", "film_tag"], ["jobs", "cancel", "\(queued.jobID)"],
          ["jobs", "enqueue", "kim", "film_tag"], ["queue", "pause"],
        ] {
          let plan = try await rig.admin(allowed)
          #expect(plan.code == 0 && plan.output.contains("Nothing was changed"), "\(allowed)")
        }
        #expect(try await state() == before)
        let act = try await rig.admin(["adapters", "rollback", "kim", "film_tag", "--execute"])
        #expect(act.code == 0 && act.output.contains("answered by no adapter again"))
      }
    }

    @Test(
      "a list goes on where a page ended, tells how many rows there are, and no row comes twice")
    func pages() async throws {
      try await Rig.with { rig in
        let users = ["a", "b/c", "d\"e", "f", "ü"].map {
          StreamID(userID: $0, task: "film_tag")
        }
        for user in users {
          try await rig.client.addStream(user, events: 5)
          try await addAdapter(user, rig.client)
          _ = try await addJob(user, .dead, rig.client)
          try await rig.client.addDecision(user)
          try await rig.client.withTransaction {
            _ = try await ErasureRepository($0).erase(userID: "gone-\(user.userID)")
          }
        }
        for number in 0..<5 {
          try await rig.produce("no JSON \(number)", key: "kim", partition: Int32(number % 2))
        }
        try await rig.withIngest { try await rig.waitForIngest(messages: 5) }

        for (list, name) in [
          (["users", "list"], "user_id"), (["adapters", "list"], "user_id"),
          (["adapters", "list", "--newest"], "user_id"), (["jobs", "list"], "job_id"),
          (["shifts", "list"], "decision_id"), (["users", "receipts"], "receipt_id"),
          (["events", "list", "f"], "event_id"), (["events", "list", "f", "--newest"], "event_id"),
          (["dlq", "list"], "letter"), (["dlq", "list", "--newest"], "letter"),
        ] {
          var seen: [String] = []
          var after: [String] = []
          var pages = 0
          repeat {
            let page = try await document(rig, list + ["--limit", "2"] + after)
            #expect(page["total"] == 5, "\(list): \(page)")
            seen += (page["rows"]?.array ?? []).compactMap { $0[name]?.plainText }
            after = page["next"]?.string.map { ["--after", $0] } ?? []
            pages += 1
          } while !after.isEmpty && pages < 5
          #expect(pages == 3 && seen.count == 5 && Set(seen).count == 5, "\(list): \(seen)")
        }
        let newest = try await document(rig, ["events", "list", "f", "--newest"])
        let oldest = try await document(rig, ["events", "list", "f"])
        #expect(newest["rows"]?.array?.first == oldest["rows"]?.array?.last)

        // People are told on stderr where the next page begins.
        let cut = try await rig.admin(["jobs", "list", "--limit", "2"])
        #expect(cut.output.contains("2 of 5 shown; the next: --after '"))
        for wrong in [["--limit", "0"], ["--limit", "-3"], ["--after", "nonsense"]] {
          let (code, output) = try await rig.admin(["users", "list"] + wrong)
          #expect(code == 2 && output.contains("Usage: oppu-worker admin users list"), "\(output)")
        }
      }
    }

    @Test("an import into a pipe tells of its progress in a few lines")
    func quietImport() async throws {
      try await Rig.with { rig in
        let file = rig.folder.appendingPathComponent("events.jsonl")
        try Data(
          (0..<5_000).map {
            #"{"user_id":"u\#($0 % 7)","task":"film_tag","input":{"film":"A"},"output":"funny"}"#
          }.joined(separator: "\n").utf8
        ).write(to: file)
        let (code, output) = try await rig.admin(["events", "import", file.path, "--execute"])
        #expect(code == 0 && output.contains("5000 events sent."))
        #expect(output.split(separator: "\n").count < 20)
      }
    }

    @Test(
      "commands against a broker that is away end within seconds, with its address in a sentence")
    func noBroker() async throws {
      try await Rig.with { rig in
        try await rig.client.addStream(Self.kim)
        let file = rig.folder.appendingPathComponent("events.jsonl")
        try Data(
          #"{"user_id":"lee","task":"film_tag","input":{"film":"A"},"output":"funny"}"#.utf8
        ).write(to: file)
        let away = ["OPPU_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"]
        try await withThrowingTaskGroup(of: Void.self) { group in
          for command in [
            ["events", "import", file.path, "--execute"], ["events", "replay", "kim", "--execute"],
            ["dlq", "list"], ["dlq", "replay", "--all", "--execute"], ["lag"],
            ["topics", "list"], ["offsets", "show"], ["doctor"],
          ] {
            group.addTask {
              let begin = ContinuousClock.now
              let (code, output) = try await rig.admin(command, settings: away)
              #expect(code == (command == ["doctor"] ? 3 : 1), "\(command)")
              #expect(output.contains("no broker answered at 127.0.0.1:1"), "\(command): \(output)")
              // Ten seconds, and what a busy machine takes for eight programs.
              #expect(ContinuousClock.now - begin < .seconds(60), "\(command)")
            }
          }
          try await group.waitForAll()
        }
      }
    }
  }
}
