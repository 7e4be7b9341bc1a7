// Training jobs as leases, and adapters behind them, on a real PostgreSQL.

import Foundation
import Personalization
import PostgresClient
import Testing

@testable import Storage

extension IntegrationTests {
  @Suite(.serialized) struct Jobs {
    private static let kim = StreamID(userID: "kim", task: "film_tag")

    /// A stream with some events, as the ingest would leave it.
    private func addStream(_ stream: StreamID, to client: PostgresClient) async throws {
      let repository = IngestRepository(client)
      let topic = "topic-\(stream.userID)"
      let claim = try #require(try await repository.claim(topic: topic, partitions: [0]).first)
      let events = (1...3).map { number in
        IncomingEvent(
          eventID: "\(stream)-\(number)", stream: stream, kind: "interaction", occurredAt: Date(),
          input: ["film": "A"], output: "funny", requestID: nil, extra: nil, offset: Int64(number))
      }
      _ = try await repository.write(
        IngestBatch(
          topic: topic, partition: 0, expectedOffset: -1, nextOffset: 3, epoch: claim.epoch,
          steps: [.events(events)], deadLetters: 0))
    }

    private func enqueue(_ stream: StreamID, in client: PostgresClient) async throws {
      _ = try await JobQueue(client).enqueue([JobRequest(stream: stream, reason: .firstAdapter)])
    }

    private func adapter(_ stream: StreamID, promoted: Bool = true) -> NewAdapter {
      NewAdapter(
        stream: stream, parentVersion: nil, baseFingerprint: "f", configuration: ["r": 8],
        weights: Data([1, 2, 3, 0, 255]), trainedThrough: 3, training: .imported(from: "a test"),
        gate: GateRecord(
          heldOutExamples: 2, parentLoss: 2, candidateLoss: 1, difference: -1,
          differenceUpperBound: -0.5, promoted: promoted, verdict: "for a test"))
    }

    private func withJob(
      _ body: (PostgresClient, JobRepository) async throws -> Void
    ) async throws {
      try await withDatabase { client in
        try await addStream(Self.kim, to: client)
        try await enqueue(Self.kim, in: client)
        try await body(client, JobRepository(client))
      }
    }

    private func lease(
      _ jobs: JobRepository, _ owner: String = "a", duration: Duration = .seconds(60),
      attempts: Int = 3
    ) async throws -> JobLease? {
      // As a trainer does it: first whatever is to be rescued or let in, then the next job.
      try await tendQueue(jobs.client, maximumAttempts: attempts)
      return try await jobs.lease(owner: owner, duration: duration).first
    }

    @Test("workers that lease at the same time each get jobs of their own")
    func concurrentLeases() async throws {
      try await withDatabase { client in
        for number in 0..<40 {
          try await enqueue(StreamID(userID: "user-\(number)", task: "t"), in: client)
        }
        let jobs = JobRepository(client)
        let leases = try await withThrowingTaskGroup(of: [JobLease].self) { group in
          for worker in 0..<8 {
            group.addTask {
              var mine: [JobLease] = []
              // A worker that meets only locked rows may get nothing while others still look.
              while try await client.number(
                "SELECT count(*) FROM training_jobs WHERE state = 'queued'") > 0
              {
                if let lease = try await self.lease(jobs, "worker-\(worker)") { mine.append(lease) }
              }
              return mine
            }
          }
          return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(leases.count == 40)
        #expect(Set(leases.map(\.jobID)).count == 40)
        #expect(leases.allSatisfy { $0.attempt == 1 && $0.token == 1 })
        #expect(try await jobs.counts() == [.running: 40])
      }
    }

    @Test("a lease that ran out goes to another, and the late owner can write nothing")
    func takeover() async throws {
      try await withJob { client, jobs in
        let late = try #require(try await lease(jobs, "late", duration: .milliseconds(1)))
        var taken: JobLease?
        try await eventually("the job is leased again") {
          taken = try await lease(jobs, "next")
          return taken != nil
        }
        let next = try #require(taken)
        #expect(next.jobID == late.jobID)
        #expect(next.token == late.token + 1)
        #expect(next.attempt == 2)

        await #expect(throws: LostLeaseError.self) {
          try await jobs.heartbeat(
            late, duration: .seconds(60), progress: JobProgress(step: 1, steps: 9))
        }
        await #expect(throws: LostLeaseError.self) {
          try await jobs.finish(late, adapter: adapter(Self.kim))
        }
        await #expect(throws: LostLeaseError.self) {
          try await jobs.fail(late, error: "late", retryAfter: nil)
        }
        try await jobs.fail(next, error: "probe", retryAfter: .seconds(3600))
        await #expect(throws: LostLeaseError.self) {
          try await jobs.fail(late, error: "late", retryAfter: .seconds(1))
        }
        try await jobs.release(late)
        let record = try #require(try await jobs.get(next.jobID))
        #expect(record.state == .queued && record.error == "probe" && record.attempts == 2)
        #expect(record.progress == nil)
        #expect(try await client.number("SELECT count(*) FROM adapters") == 0)
      }
    }

    @Test("a job is finished once: version, weights and event come in one transaction")
    func finish() async throws {
      try await withJob { client, jobs in
        let lease = try #require(try await lease(jobs))
        try await jobs.heartbeat(
          lease, duration: .seconds(60), progress: JobProgress(step: 1, steps: 9))
        #expect(try await jobs.finish(lease, adapter: adapter(Self.kim)) == 1)
        await #expect(throws: LostLeaseError.self) {
          try await jobs.finish(lease, adapter: adapter(Self.kim))
        }
        let adapters = AdapterRepository(client)
        let active = try #require(try await adapters.active(Self.kim))
        #expect(active.version == 1 && active.jobID == lease.jobID)
        #expect(try await adapters.weights(Self.kim, version: 1) == Data([1, 2, 3, 0, 255]))
        #expect(try await adapters.list().count == 1)
        let events = try await OutboxRepository(client).waiting()
        #expect(events.map(\.event.kind) == [.promoted])
        #expect(try await jobs.get(lease.jobID)?.state == .succeeded)
      }
    }

    @Test("of several finishes of one lease at once, one counts")
    func concurrentFinish() async throws {
      try await withJob { client, jobs in
        let lease = try #require(try await lease(jobs))
        let versions = try await withThrowingTaskGroup(of: Int?.self) { group in
          for _ in 0..<4 {
            group.addTask {
              do {
                return try await jobs.finish(
                  lease, adapter: self.adapter(Self.kim))
              } catch is LostLeaseError {
                return nil
              }
            }
          }
          return try await group.reduce(into: [Int]()) { if let one = $1 { $0.append(one) } }
        }
        #expect(versions == [1])
        #expect(try await client.number("SELECT count(*) FROM adapters") == 1)
      }
    }

    @Test("the next version retires the active one; a rejected one leaves it")
    func promotion() async throws {
      try await withJob { client, jobs in
        for (number, promoted) in [(1, true), (2, false), (3, true)] {
          if number > 1 { try await enqueue(Self.kim, in: client) }
          let lease = try #require(try await lease(jobs))
          let version = try await jobs.finish(
            lease, adapter: adapter(Self.kim, promoted: promoted))
          #expect(version == number)
        }
        let states = try await AdapterRepository(client).list().map(\.state)
        #expect(states == [.retired, .rejected, .active])
      }
    }

    @Test("an imported adapter becomes the active version, beside a finished job and an event")
    func imported() async throws {
      try await withJob { client, jobs in
        let lease = try #require(try await lease(jobs))
        #expect(try await jobs.finish(lease, adapter: adapter(Self.kim)) == 1)
        var foreign = adapter(Self.kim)
        foreign.weights = Data([7, 8])
        #expect(try await AdapterImport(client).store(foreign) == 2)
        let repository = AdapterRepository(client)
        #expect(try await repository.active(Self.kim)?.version == 2)
        #expect(try await repository.weights(Self.kim, version: 2) == Data([7, 8]))
        #expect(try await jobs.counts() == [.succeeded: 2])
        let events = try await client.number(
          "SELECT count(*) FROM outbox WHERE message->>'reason' = 'import'")
        #expect(events == 1)
        await #expect(throws: UnknownStreamError.self) {
          try await AdapterImport(client).store(
            adapter(StreamID(userID: "nobody", task: "film_tag")))
        }
        #expect(try await jobs.counts() == [.succeeded: 2])
      }
    }

    @Test("the schema itself refuses a second adapter of a job and a second active one")
    func promotionTwice() async throws {
      try await withJob { client, jobs in
        let lease = try #require(try await lease(jobs))
        try await jobs.finish(lease, adapter: adapter(Self.kim))
        let twice = await #expect(throws: PostgresError.self) {
          try await client.withTransaction { connection in
            _ = try await AdapterRepository(connection).insert(
              adapter(Self.kim), jobID: lease.jobID)
          }
        }
        #expect(twice?.constraint == "adapters_one_per_job")
        try await client.withTransaction { connection in
          _ = try await AdapterRepository(connection).insert(
            adapter(Self.kim, promoted: false), jobID: 999)
        }
        let active = await #expect(throws: PostgresError.self) {
          try await client.execute("UPDATE adapters SET state = 'active' WHERE version = 2")
        }
        #expect(active?.constraint == "adapters_one_active")
        #expect(
          try await client.number("SELECT version FROM adapters WHERE state = 'active'") == 1)
      }
    }

    @Test("a stream has at most one queued and one running job")
    func oneOfEach() async throws {
      try await withJob { client, jobs in
        try await enqueue(Self.kim, in: client)
        #expect(
          try await jobs.list().map(\.folded) == [1], "the second request is in the first job")
        #expect(try await jobs.counts() == [.queued: 1])
        let running = try #require(try await lease(jobs))
        try await enqueue(Self.kim, in: client)
        #expect(
          try await lease(jobs, "b") == nil, "the stream's queued job waits for the running one")
        #expect(try await jobs.counts() == [.running: 1, .queued: 1])
        try await jobs.finish(running, adapter: nil)
        #expect(try await lease(jobs, "b") != nil)
      }
    }

    @Test("a job that was begun too often and never finished is dead, with the reason")
    func attempts() async throws {
      try await withJob { client, jobs in
        for attempt in 1...3 {
          var taken: JobLease?
          try await eventually("attempt \(attempt)") {
            taken = try await lease(jobs, duration: .milliseconds(1))
            return taken != nil
          }
          #expect(taken?.attempt == attempt)
        }
        try await eventually("the job is dead") {
          // The lease runs out while this looks; what must not come is a fourth attempt.
          #expect(try await lease(jobs, duration: .milliseconds(1))?.attempt == nil)
          return try await jobs.counts() == [.dead: 1]
        }
        #expect(try await jobs.list().first?.error?.contains("after 3 attempts") == true)
        let failures = try #require(try await jobs.list().first?.failures)
        #expect(failures.map(\.attempt) == [1, 2, 3])
        #expect(failures.allSatisfy { $0.error.contains("was silent") })
        #expect(
          try await OutboxRepository(client).waiting().map(\.event.kind) == [.trainingFailed])
      }
    }

    @Test("a failed job is tried again after its pause, and dead after its last attempt")
    func failures() async throws {
      try await withJob { client, jobs in
        let first = try #require(try await lease(jobs))
        try await jobs.fail(first, error: "no", retryAfter: .seconds(3600))
        #expect(try await lease(jobs) == nil, "not before its pause is over")
        _ = try await client.execute("UPDATE training_jobs SET run_at = now()")
        let second = try #require(try await lease(jobs))
        #expect(second.attempt == 2)
        try await jobs.fail(second, error: "never", retryAfter: nil)
        let record = try #require(try await jobs.get(second.jobID))
        #expect(record.state == .dead && record.error == "given up after 2 attempts: never")
        let events = try await OutboxRepository(client).waiting()
        #expect(events.map(\.event.kind) == [.trainingFailed])
        // Dead is not the end: a new job of the stream can come.
        try await enqueue(Self.kim, in: client)
        #expect(try await lease(jobs) != nil)
      }
    }

    @Test("a job that is given back does not count as an attempt")
    func release() async throws {
      try await withJob { _, jobs in
        let first = try #require(try await lease(jobs))
        try await jobs.release(first)
        let second = try #require(try await lease(jobs))
        #expect(second.attempt == 1 && second.token == first.token + 1)
      }
    }

    @Test("erasing a user takes the running job, and its trainer can write nothing")
    func eraseWhileRunning() async throws {
      try await withJob { client, jobs in
        try await jobs.finish(
          try #require(try await lease(jobs)), adapter: adapter(Self.kim))
        try await enqueue(Self.kim, in: client)
        let running = try #require(try await lease(jobs))
        try await client.withTransaction { connection in
          try await ErasureRepository(connection).erase(userID: "kim")
        }
        await #expect(throws: LostLeaseError.self) {
          try await jobs.heartbeat(running, duration: .seconds(60), progress: nil)
        }
        await #expect(throws: LostLeaseError.self) {
          try await jobs.finish(running, adapter: adapter(Self.kim))
        }
        for table in [
          "behavior_events", "user_task_state", "training_jobs", "adapters", "shift_decisions",
          "stream_training",
        ] {
          #expect(
            try await client.number(PostgresQuery(unsafeSQL: "SELECT count(*) FROM \(table)")) == 0)
        }
        let receipt = try #require(try await client.query("SELECT * FROM erasure_receipts").first)
        let hash = try await ReceiptKey.stored.hash(on: client)
        #expect(try receipt.decode("user_hash", as: String.self) == hash("kim"))
        #expect(try receipt.decode("events", as: Int.self) == 3)
        #expect(try receipt.decode("adapters", as: Int.self) == 1)
        #expect(try receipt.decode("jobs", as: Int.self) == 2)
      }
    }

    @Test("a look that began before the user was erased writes nothing of it to whoever comes back")
    func lookOverErasure() async throws {
      try await withDatabase { client in
        try await client.addStream(Self.kim)
        let repository = ScheduleRepository(client)
        let seen = try #require(try await repository.dirty(limit: 1).first)
        try await client.withTransaction { connection in
          _ = try await ErasureRepository(connection).erase(userID: Self.kim.userID)
        }
        try await client.addStream(Self.kim)
        let look = ScheduleOutcome(
          stream: Self.kim, incarnation: seen.incarnation, from: 0, through: 3,
          monitor: Data("told of the erased".utf8), monitorVersion: nil, evaluation: nil,
          pendingShift: nil, decisions: [], job: .firstAdapter, announceShift: false)
        #expect(try await repository.record(look) == nil)
        let now = try #require(try await repository.dirty(limit: 1).first)
        #expect(now.scheduledThrough == 0 && now.monitor == nil)
        #expect(now.incarnation != seen.incarnation)
        #expect(try await client.number("SELECT count(*) FROM training_jobs") == 0)
      }
    }

    @Test("two leaders that looked at the same events enqueue one job and decide once")
    func twoLeaders() async throws {
      try await withDatabase { client in
        try await addStream(Self.kim, to: client)
        let repository = ScheduleRepository(client)
        let outcome = ScheduleOutcome(
          stream: Self.kim,
          incarnation: try #require(try await repository.dirty(limit: 1).first).incarnation,
          from: 0, through: 3, monitor: nil, monitorVersion: nil,
          evaluation: nil, pendingShift: nil,
          decisions: [
            Decision(
              action: .train, reason: "first_adapter", ordinal: 3, numbers: .unknownTask(known: []))
          ], job: .firstAdapter, announceShift: false)
        let jobs = try await withThrowingTaskGroup(of: Int64?.self) { group in
          for _ in 0..<4 { group.addTask { try await repository.record(outcome) } }
          return try await group.reduce(into: [Int64]()) { if let one = $1 { $0.append(one) } }
        }
        #expect(jobs.count == 1)
        #expect(try await client.number("SELECT count(*) FROM training_jobs") == 1)
        #expect(try await repository.decisions().map(\.jobID) == jobs)
        #expect(try await repository.dirty(limit: 10).isEmpty)
      }
    }
  }
}
