// The real binary, killed twice in the middle of the stream: no event lost or doubled, the half-done job done
// by someone else, nothing promoted twice, and the adapters it made served.

import DevelopmentServers
import Foundation
import JSON
import KafkaClient
import Personalization
import PostgresClient
import Storage
import TestSupport
import Testing
import Worker

extension IntegrationTests {
  @Suite(.serialized) struct Kills {
    /// Small trainings and short pauses: what is tested is who does what, not how well.
    private static let settings = [
      "OPPU_SCHEDULE_FIRST_ADAPTER_EVENTS": "16", "OPPU_SCHEDULE_POLL_INTERVAL_MS": "250",
      "OPPU_SCHEDULE_LOSS_SIGNAL": "false", "OPPU_TRAIN_LEASE_MS": "5000",
      "OPPU_TRAIN_EPOCHS": "1", "OPPU_TRAIN_POLL_INTERVAL_MS": "250", "OPPU_TRAIN_RANK": "4",
      "OPPU_TRAIN_TARGETS": "q_proj,v_proj", "OPPU_TRAIN_LEARNING_RATE": "0.005",
      "OPPU_TRAIN_MINIMUM_GAIN": "0", "OPPU_TRAIN_GATE_CONFIDENCE": "0.5",
      // The whole model: a job lasts long enough to be met at work.
      "OPPU_MODEL": Paths.model,
    ]

    private struct SampleEvent: Sendable {
      let line: String
      let id: String
      let stream: StreamID
    }

    private static func sample() throws -> [SampleEvent] {
      let file = Paths.root.appendingPathComponent("examples/sample/events.jsonl")
      return try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map { line in
        let event = try JSONValue(text: String(line))
        return SampleEvent(
          line: String(line), id: event["event_id"]?.string ?? "",
          stream: StreamID(
            userID: event["user_id"]?.string ?? "", task: event["task"]?.string ?? ""))
      }
    }

    /// A job under way at the moment of a kill.
    private struct RunningJob: Sendable, Equatable {
      let id: Int64
      let token: Int64
    }

    private static func runningJob(_ client: PostgresClient) async throws -> RunningJob? {
      try await client.query(
        "SELECT job_id, lease_token FROM training_jobs WHERE state = 'running'"
      ).first.map {
        RunningJob(id: try $0.decode("job_id"), token: try $0.decode("lease_token"))
      }
    }

    private static func stored(_ client: PostgresClient) async throws -> Int {
      try await client.number("SELECT count(*) FROM behavior_events")
    }

    @Test("killed twice in the middle of the stream, the worker loses and doubles nothing")
    func killedTwice() async throws {
      let events = try Self.sample()
      try await Rig.with { rig in
        let client = rig.client
        var worker = try await rig.startWorker(Self.settings)
        try await eventually("the worker owns its partitions", state: rig.log()) {
          try await client.number("SELECT count(*) FROM ingest_partitions") == 2
        }
        // One event after the other, each acknowledged, while the worker reads.
        func produce(_ part: ArraySlice<SampleEvent>) async throws {
          for event in part { try await rig.produce(event.line, key: event.stream.userID) }
        }
        let half = events.count / 2
        async let firstHalf: Void = produce(events[..<half])
        try await eventually("a part of the stream stored", every: .milliseconds(2)) {
          try await Self.stored(client) >= 30
        }
        await worker.stop(SIGKILL)
        let atFirstKill = try await Self.stored(client)
        worker = try await rig.startWorker(Self.settings)

        // The second time while a job is under way and the rest of the stream is coming in.
        try await firstHalf
        try await eventually("a job is running", state: rig.log()) {
          try await Self.runningJob(client) != nil
        }
        let most = half + half / 2
        try await produce(events[half..<most])
        var halfDone: RunningJob?
        try await eventually(
          "a job is running in mid-stream", every: .milliseconds(2), state: rig.log()
        ) {
          halfDone = try await Self.runningJob(client)
          return try await Self.stored(client) > half && halfDone != nil
        }
        // The last quarter begins with the kill, so that the stream is always under way then.
        async let rest: Void = produce(events[most...])
        await worker.stop(SIGKILL)
        let killed = try #require(halfDone)
        let atSecondKill = try await Self.stored(client)
        let left = try #require(try await Self.runningJob(client))
        #expect(left == killed, "the job was under way when its worker was killed")
        #expect(atSecondKill < events.count, "the stream was under way too")
        worker = try await rig.startWorker(Self.settings)
        try await rest
        try await waitUntilSettled(rig, events: events.count)
        // A stream's alarm may have waited for its job: one more may be asked for any moment, and is cut off.
        let done = try await JobRepository(client).list().filter { $0.state == .succeeded }

        try await checkEvents(events, in: client)
        try await checkJobs(killed, in: client)
        let figures = try await figures(client)
        print(
          "kill test: produced \(events.count); stored \(atFirstKill) at the first kill, "
            + "\(atSecondKill) at the second; \(figures)")

        try await checkServing(rig)
        await rig.stop(worker)
        try await checkAdapterEvents(rig, of: done)
      }
    }

    private func waitUntilSettled(_ rig: Rig, events: Int) async throws {
      try await eventually(
        "every event is stored and looked at, and no job is open",
        every: .milliseconds(200), state: rig.log()
      ) {
        let client = rig.client
        // Everything that may be left to do, in one number.
        let open = try await client.number(
          """
          SELECT (SELECT count(*) FROM user_task_state WHERE scheduled_through < event_count)
            + (SELECT count(*) FROM training_jobs WHERE state IN ('queued', 'running'))
            + (SELECT count(*) FROM outbox)
          """)
        let stored = try await Self.stored(client)
        return stored == events && open == 0
      }
    }

    private func checkEvents(_ events: [SampleEvent], in client: PostgresClient) async throws {
      #expect(try await Self.stored(client) == events.count)
      #expect(
        try await client.number("SELECT count(DISTINCT event_id) FROM behavior_events")
          == events.count)
      let rows = try await client.query(
        "SELECT user_id, task, ordinal, event_id FROM behavior_events ORDER BY user_id, task, ordinal"
      )
      var stored: [StreamID: [String]] = [:]
      for row in rows {
        let stream = StreamID(userID: try row.decode("user_id"), task: try row.decode("task"))
        stored[stream, default: []].append(try row.decode("event_id"))
        #expect(try row.decode("ordinal", as: Int.self) == stored[stream]?.count, "a gap")
      }
      // Each stream in the order it was produced in.
      #expect(stored == Dictionary(grouping: events, by: \.stream).mapValues { $0.map(\.id) })
    }

    private func checkJobs(_ killed: RunningJob, in client: PostgresClient) async throws {
      let row = try #require(
        try await client.query(
          "SELECT state, attempts, lease_token FROM training_jobs WHERE job_id = \(killed.id)"
        ).first)
      #expect(try row.decode("state", as: String.self) == "succeeded")
      #expect(try row.decode("lease_token", as: Int64.self) > killed.token)
      #expect(try row.decode("attempts", as: Int.self) >= 2)
      #expect(
        try await client.number(
          "SELECT count(*) FROM training_jobs WHERE state NOT IN ('succeeded')") == 0)
      // One adapter for each job, versions without gaps, at most one active in a stream.
      #expect(
        try await client.number(
          """
          SELECT count(*) FROM training_jobs j
          WHERE (SELECT count(*) FROM adapters a WHERE a.job_id = j.job_id) <> 1
          """) == 0)
      #expect(
        try await client.number(
          """
          SELECT count(*) FROM (
            SELECT 1 FROM adapters GROUP BY user_id, task
            HAVING count(*) FILTER (WHERE state = 'active') > 1 OR max(version) <> count(*)
              OR count(*) FILTER (WHERE promoted_at IS NOT NULL)
                 <> count(*) FILTER (WHERE state IN ('active', 'retired'))) AS wrong
          """) == 0)
      #expect(
        try await client.number("SELECT count(DISTINCT (user_id, task)) FROM adapters") == 6,
        "every stream got an adapter version")
    }

    private func figures(_ client: PostgresClient) async throws -> String {
      let row = try #require(
        try await client.query(
          """
          SELECT (SELECT count(*) FROM behavior_events) AS events,
            (SELECT count(DISTINCT event_id) FROM behavior_events) AS distinct_events,
            (SELECT sum(duplicates)::bigint FROM ingest_partitions) AS duplicates,
            (SELECT max(epoch) FROM ingest_partitions) AS epoch,
            (SELECT count(*) FROM training_jobs) AS jobs,
            (SELECT count(*) FROM training_jobs WHERE attempts > 1) AS again,
            (SELECT count(*) FROM adapters) AS adapters,
            (SELECT count(*) FROM adapters WHERE state = 'active') AS active
          """
        ).first)
      func number(_ name: String) throws -> Int { try row.decode(name, as: Int.self) }
      return try "events \(number("events")), distinct \(number("distinct_events")), "
        + "duplicates dropped \(number("duplicates")), partition epoch \(number("epoch")); "
        + "jobs \(number("jobs")), done by a second attempt \(number("again")), "
        + "adapters \(number("adapters")), active \(number("active"))"
    }

    /// What was trained is served: the reply names the active version.
    private func checkServing(_ rig: Rig) async throws {
      let active = try #require(
        try await AdapterRepository(rig.client).list().first { $0.state == .active },
        "no candidate was promoted")
      let field = active.task == "email_subject" ? "message" : "film"
      let request: JSONValue = .object([
        "request_id": "served", "user_id": .string(active.userID), "task": .string(active.task),
        "input": .object([field: "The Winter Bridge (1995): a last farewell"]),
        "options": ["retrieve": 3],
      ])
      try await rig.produce(request.canonical, key: active.userID, to: rig.kafka.requestTopic)
      let reply = try await rig.read(rig.kafka.replyTopic, count: 1)[0].json()
      #expect(reply["status"] == "ok", "\(reply.canonical)")
      let personalization = reply["personalization"]
      #expect(personalization?["adapter_version"]?.number == Double(active.version))
      #expect(personalization?["note"] == .null)
      let retrieved = personalization?["retrieved"]?.array ?? []
      #expect(retrieved.count == 3)
      #expect(retrieved.allSatisfy { $0.string?.contains(active.userID) == true })
    }

    /// Everything that was told is valid, and told of each job's outcome at least once.
    private func checkAdapterEvents(_ rig: Rig, of jobs: [JobRecord]) async throws {
      let count = try await rig.messageCount(rig.kafka.adapterEventTopic)
      let messages = try await rig.read(rig.kafka.adapterEventTopic, count: count)
      let contract = try AsyncAPI(root: Paths.root)
      var told: [Double: Set<String>] = [:]
      for message in messages {
        let event = try message.json()
        #expect(try contract.findings(message, in: "adapterEvents") == [])
        #expect(message.key == event["user_id"]?.string.map { Data($0.utf8) })
        if let job = event["job_id"]?.number, let kind = event["kind"]?.string {
          told[job, default: []].insert(kind)
        }
      }
      #expect(!jobs.isEmpty)
      for job in jobs {
        let kinds = told[Double(job.jobID)] ?? []
        #expect(kinds.contains("training_started"))
        // Either, and never both: a job has one outcome.
        #expect(kinds.contains("promoted") != kinds.contains("rejected"))
      }
    }
  }
}
