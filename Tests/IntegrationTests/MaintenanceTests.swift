// What is looked after in a system: each task by one process at a time, none held up by another.

import Foundation
import JSON
import Personalization
import PostgresClient
import Testing

@testable import Storage
@testable import Worker

/// A whole step of the queue's upkeep, as the first one of a process does it.
func tendQueue(_ client: PostgresClient, maximumAttempts: Int = 3) async throws {
  var upkeep = QueueUpkeep(maximumAttempts: maximumAttempts)
  _ = try await upkeep.stepIfFree(client)
}

extension IntegrationTests {
  @Suite(.serialized) struct Maintenance {
    private static let kim = StreamID(userID: "kim", task: "film_tag")

    private static func catalogue(_ days: [String: Int?]) throws -> TaskCatalogue {
      TaskCatalogue(
        try days.map { name, days in
          var task = try TaskCatalogue.builtIn.task(named: "film_tag")
          task.name = name
          task.retentionDays = days
          return task
        })
    }

    private static func everyTask() throws -> [any MaintenanceTask] {
      [
        EventRetention(catalogue: try catalogue(["film_tag": 10])), AnswerRetention(days: 7),
        AdapterRetention(policy: RetentionPolicy()), RecordRetention(policy: RetentionPolicy()),
        QueueUpkeep(maximumAttempts: 3),
      ]
    }

    @Test("one process at a time does a step of a task, and no task holds up another")
    func locks() async throws {
      try await withDatabase { client in
        func step(_ task: some MaintenanceTask) async throws -> MaintenanceStep? {
          var task = task
          return try await task.stepIfFree(client)
        }
        let locks = try Self.everyTask().map { type(of: $0).lock }
        #expect(Set(locks).count == locks.count)
        for task in try Self.everyTask() {
          let (name, own) = (type(of: task).name, type(of: task).lock)
          let besideItself = try await client.withTransaction { other in
            guard try await own.isTaken(inTransaction: other) else { throw LockHeld() }
            return try await step(task)
          }
          #expect(besideItself == nil, "\(name): another process is at it")
          let besideOthers = try await client.withTransaction { others in
            for lock in AdvisoryLock.allCases where lock != own {
              guard try await lock.isTaken(inTransaction: others) else { throw LockHeld() }
            }
            return try await step(task)
          }
          #expect(besideOthers == MaintenanceStep([:]), "\(name)")
        }
      }
    }

    private struct LockHeld: Error {}

    @Test("a worker looks after what its roles make or use, and needs no more connections for it")
    func roles() throws {
      func names(_ roles: Set<Role>) -> Set<String> {
        var configuration = WorkerConfiguration()
        configuration.roles = roles
        return Set(configuration.maintenance(.builtIn).map { type(of: $0).name })
      }
      let everyName = Set(try Self.everyTask().map { type(of: $0).name })
      #expect(names([.ingest]) == ["retention of events", "retention of answers"])
      #expect(names([.infer]) == ["retention of answers"])
      #expect(names([.train]) == ["upkeep of the queue"])
      #expect(
        names([.schedule])
          == ["retention of adapters", "retention of records"])
      #expect(
        names(Set(Role.allCases)) == everyName)
    }

    @Test("events are kept for their task's own days, or for ever")
    func events() async throws {
      try await withDatabase { client in
        for name in ["short", "kept"] {
          try await client.addStream(StreamID(userID: "kim", task: name), events: 4)
        }
        try await client.execute(
          "UPDATE behavior_events SET occurred_at = now() - ordinal * interval '4 days'")
        try await client.execute(
          "UPDATE user_task_state SET oldest_at = now() - interval '16 days'")
        var task = EventRetention(catalogue: try Self.catalogue(["short": 10, "kept": nil]))
        #expect(try await task.stepIfFree(client) == MaintenanceStep(["events": 2]))
        #expect(
          try await client.number("SELECT count(*) FROM behavior_events WHERE task = 'kept'") == 4)
        #expect(
          try await client.number("SELECT max(ordinal) FROM behavior_events WHERE task = 'short'")
            == 2)
        #expect(try await task.stepIfFree(client) == MaintenanceStep([:]))
      }
    }

    @Test("answers wait for feedback for their days")
    func answers() async throws {
      try await withDatabase { client in
        let repository = AnswerRepository(client)
        let marks = try await repository.marks(of: ["kim"])
        let answers = ["old", "new"].map {
          RecordedAnswer(
            requestID: $0, stream: Self.kim, input: JSONText(["film": "F"]), output: "funny",
            adapterVersion: 3)
        }
        #expect(try await repository.record(answers.map { ($0, marks) }).isEmpty)
        try await client.execute(
          """
          UPDATE answers SET answered_at = now() -
            CASE request_id WHEN 'old' THEN interval '8 days' ELSE interval '6 days' END
          """)
        var task = AnswerRetention(days: 7)
        #expect(try await task.stepIfFree(client) == MaintenanceStep(["answers": 1]))
        #expect(
          try await client.number("SELECT count(*) FROM answers WHERE request_id = 'new'") == 1)
      }
    }

    @Test("jobs that are done and decisions are kept for the days of records")
    func records() async throws {
      try await withDatabase { client in
        try await client.addStream(Self.kim)
        let jobs = JobRepository(client)
        for days in [10, 30] {
          _ = try await JobQueue(client).enqueue([
            JobRequest(stream: Self.kim, reason: .newEvents)
          ])
          let lease = try #require(try await jobs.lease(owner: "w", duration: .seconds(60)).first)
          try await jobs.finish(lease, adapter: nil)
          try await client.execute(
            """
            UPDATE training_jobs_done SET finished_at = now() - make_interval(days => \(days)::integer)
            WHERE job_id = \(lease.jobID)
            """)
          try await client.addDecision(Self.kim, daysAgo: days)
        }
        var policy = RetentionPolicy()
        policy.recordDays = 20
        var task = RecordRetention(policy: policy)
        #expect(
          try await task.stepIfFree(client) == MaintenanceStep(["jobs": 1, "decisions": 1]))
        #expect(try await client.number("SELECT count(*) FROM training_jobs_done") == 1)
        #expect(try await client.number("SELECT count(*) FROM shift_decisions") == 1)
        // In bounded pieces: there may be more.
        policy.recordDays = 5
        policy.limit = 1
        task = RecordRetention(policy: policy)
        #expect(try await task.stepIfFree(client)?.isFull == true)
        #expect(try await task.stepIfFree(client) == MaintenanceStep([:]))
      }
    }

    @Test("a job whose trainer is gone comes back though no trainer asks for one")
    func rescue() async throws {
      try await withDatabase { client in
        try await client.addStream(Self.kim)
        _ = try await JobQueue(client).enqueue([JobRequest(stream: Self.kim, reason: .newEvents)])
        let jobs = JobRepository(client)
        #expect(try await jobs.lease(owner: "w", duration: .seconds(60)).count == 1)
        try await client.execute(
          "UPDATE training_jobs_open SET lease_expires_at = now() - interval '1 second'")
        let service = MaintenanceService(
          tasks: try Self.everyTask(), client: client, logger: Servers.logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
          group.addTask { try await service.run() }
          try await eventually("it waits again") {
            try await jobs.counts() == [.queued: 1]
          }
          group.cancelAll()
        }
        #expect(try await jobs.lease(owner: "v", duration: .seconds(60)).map(\.attempt) == [2])
      }
    }
  }
}
