// The training queue on a real PostgreSQL: one job of a stream, fair places, pause, cancel, retry, rescue.

import Foundation
import Personalization
import PostgresClient
import Testing

@testable import Storage

extension IntegrationTests {
  @Suite(.serialized) struct Queue {
    private static let kim = StreamID(userID: "kim", task: "film_tag")

    private func request(_ user: String, _ task: String, _ reason: TrainingReason) -> JobRequest {
      JobRequest(stream: StreamID(userID: user, task: task), reason: reason)
    }

    @Test("16 connections that enqueue one user 1,000 times leave one running and one queued job")
    func manyRequests() async throws {
      let url = try await Servers.makeDatabase()
      try await withClient(url, connections: 17) { client in
        try await Migrator(client: client).migrate()
        let jobs = JobRepository(client)
        let most = try await withThrowingTaskGroup(of: Int.self) { group in
          for worker in 0..<16 {
            group.addTask {
              var most = 0
              for number in 0..<1_000 / 16 + (worker < 1_000 % 16 ? 1 : 0) {
                _ = try await JobQueue(client).enqueue([
                  JobRequest(stream: Self.kim, reason: .newEvents)
                ])
                // Meanwhile the queued ones are leased, and some are finished.
                if number % 5 == worker % 5 {
                  for lease in try await jobs.lease(owner: "w\(worker)", duration: .seconds(60))
                  where number % 2 == 0 {
                    try await jobs.finish(lease, adapter: nil)
                  }
                }
                most = max(
                  most,
                  try await client.number(
                    """
                    SELECT coalesce(max(n), 0)::int FROM (
                      SELECT count(*) AS n FROM training_jobs_open GROUP BY state) AS counts
                    """))
              }
              return most
            }
          }
          return try await group.reduce(0) { max($0, $1) }
        }
        #expect(most == 1, "never two queued, never two running")
        let counts = try await jobs.counts()
        #expect((counts[.queued] ?? 0) <= 1 && (counts[.running] ?? 0) <= 1)
        let folded = try await client.number("SELECT sum(folded + 1)::int FROM training_jobs")
        #expect(folded == 1_000, "each request is in a job")
      }
    }

    @Test("a task with many jobs does not keep another's waiting, and shifts come before routine")
    func fairness() async throws {
      try await withDatabase { client in
        let queue = JobQueue(client)
        _ = try await queue.enqueue((0..<200).map { request("a\($0)", "busy", .newEvents) })
        _ = try await queue.enqueue((0..<3).map { request("b\($0)", "rare", .newEvents) })
        _ = try await queue.enqueue((0..<8).map { request("c\($0)", "busy", .shift) })
        _ = try await queue.enqueue([request("zoe", "busy", .operator)])
        let jobs = JobRepository(client)
        let first = try await jobs.lease(owner: "w", duration: .seconds(60), limit: 16)
        let order = first.sorted { $0.jobID < $1.jobID }.map(\.stream.userID)
        #expect(order.filter { $0.hasPrefix("b") }.count == 3, "\(order)")
        #expect(order.filter { $0.hasPrefix("c") }.count == 8, "\(order)")
        #expect(order.contains("zoe"))
        // What comes later to a flow that was idle does not wait behind the old ones either.
        _ = try await queue.enqueue([request("late", "rare", .newEvents)])
        let next = try await jobs.lease(owner: "w", duration: .seconds(60), limit: 3)
        #expect(next.contains { $0.stream.userID == "late" })
      }
    }

    @Test("a request of a stronger reason moves the queued job forward")
    func stronger() async throws {
      try await withDatabase { client in
        let queue = JobQueue(client)
        _ = try await queue.enqueue((0..<50).map { request("a\($0)", "t", .newEvents) })
        let folded = try await queue.enqueue([request("a49", "t", .operator)])
        #expect(folded.values.first?.isFolded == true)
        let first = try await JobRepository(client).lease(
          owner: "w", duration: .seconds(60), limit: 2)
        #expect(first.contains { $0.stream.userID == "a49" && $0.reason == .operator })
      }
    }

    @Test("a paused or closed queue gives out nothing, and goes on where it stood")
    func pause() async throws {
      try await withDatabase { client in
        let queue = JobQueue(client)
        let jobs = JobRepository(client)
        _ = try await queue.enqueue([request("a", "t", .shift)])
        try await queue.pause(note: "maintenance")
        #expect(try await jobs.lease(owner: "w", duration: .seconds(60)).isEmpty)
        #expect(try await queue.control()?.pauseNote == "maintenance")
        try await queue.resume()
        try await queue.close(for: .seconds(60), note: "used up")
        #expect(try await jobs.lease(owner: "w", duration: .seconds(60)).isEmpty)
        try await queue.close(for: nil, note: nil)
        #expect(try await jobs.lease(owner: "w", duration: .seconds(60)).count == 1)
      }
    }

    @Test("a cancelled job is over at once, and what its trainer still does is lost")
    func cancel() async throws {
      try await withDatabase { client in
        let jobs = JobRepository(client)
        try await client.addStream(Self.kim)
        _ = try await JobQueue(client).enqueue([request("kim", "film_tag", .shift)])
        let lease = try #require(try await jobs.lease(owner: "w", duration: .seconds(60)).first)
        try await jobs.cancel(lease.jobID, note: "no more")
        #expect(try await !jobs.holds(lease))
        await #expect(throws: LostLeaseError.self) {
          try await jobs.heartbeat(lease, duration: .seconds(60), progress: nil)
        }
        await #expect(throws: LostLeaseError.self) {
          try await jobs.finish(lease, adapter: nil)
        }
        await #expect(throws: JobStateError.self) { try await jobs.cancel(lease.jobID, note: "") }
        // It can be tried again, with all its attempts, unless a newer job does the work.
        try await jobs.retry(lease.jobID)
        try await tendQueue(client, maximumAttempts: 3)
        let again = try #require(try await jobs.lease(owner: "w", duration: .seconds(60)).first)
        #expect(again.jobID == lease.jobID && again.attempt == 1 && again.token > lease.token)
        try await jobs.cancel(again.jobID, note: "no more")
        _ = try await JobQueue(client).enqueue([request("kim", "film_tag", .shift)])
        await #expect(throws: JobStateError.self) { try await jobs.retry(again.jobID) }
        let newer = try #require(try await jobs.lease(owner: "w", duration: .seconds(60)).first)
        try await jobs.finish(newer, adapter: nil)
        await #expect(throws: JobStateError.self) { try await jobs.retry(newer.jobID) }
      }
    }

    @Test("of a batch that is finished together, only the leases that are still held count")
    func batches() async throws {
      try await withDatabase { client in
        let jobs = JobRepository(client)
        _ = try await JobQueue(client).enqueue((0..<20).map { request("u\($0)", "t", .newEvents) })
        let leases = try await jobs.lease(owner: "w", duration: .seconds(60), limit: 20)
        #expect(leases.count == 20)
        let lost = leases[7]
        try await jobs.release(lost)
        let done = try await jobs.finish(leases, note: "nothing")
        #expect(done == Set(leases.map(\.jobID)).subtracting([lost.jobID]))
        #expect(try await jobs.counts() == [.succeeded: 19, .queued: 1])
      }
    }

    @Test("a job that fell behind the queue's position is found by the claimer all the same")
    func stragglers() async throws {
      try await withDatabase { client in
        _ = try await JobQueue(client).enqueue((0..<9).map { request("u\($0)", "t", .newEvents) })
        let jobs = JobRepository(client)
        #expect(try await jobs.lease(owner: "w", duration: .seconds(60), limit: 8).count == 8)
        // The last one's place is passed, as by a claim that was rolled back.
        try await client.execute("UPDATE training_jobs_open SET place = 0 WHERE place IS NOT NULL")
        #expect(
          try await jobs.lease(owner: "w", duration: .seconds(60), from: .virtualTime).isEmpty)
        let claimer = JobClaimer(client: client, owner: "w")
        #expect(try await claimer.claim(limit: 5).map(\.stream.userID) == ["u8"])
      }
    }

    @Test("a trainer that asks for one job leases one, also where it looks for stragglers")
    func oneEach() async throws {
      try await withDatabase { client in
        _ = try await JobQueue(client).enqueue((0..<6).map { request("u\($0)", "t", .newEvents) })
        let jobs = JobRepository(client)
        for trainer in 1...4 {
          let claimer = JobClaimer(client: client, owner: "w\(trainer)")
          #expect(try await claimer.claim().count == 1)
          #expect(try await jobs.counts()[.running] == trainer, "a lease nobody works on runs out")
        }
        let last = JobClaimer(client: client, owner: "last")
        #expect(try await last.claim(limit: 5).count == 2)
        #expect(try await last.claim(limit: 5).isEmpty)
      }
    }

    @Test("two schemas of one database have a leader each, one schema has one")
    func schemas() async throws {
      let url = try await Servers.makeDatabase()
      try await withClient(url) { here in
        try await here.execute("CREATE SCHEMA elsewhere")
        try await withClient(url + "?options=-csearch_path%3Delsewhere") { there in
          try await here.withTransaction { first in
            try await there.withTransaction { other in
              for lock in AdvisoryLock.allCases {
                #expect(try await lock.isTaken(inTransaction: first))
                #expect(try await lock.isTaken(inTransaction: other))
                for client in [here, there] {
                  let isFree = try await client.withTransaction {
                    try await lock.isTaken(inTransaction: $0)
                  }
                  #expect(!isFree)
                }
              }
            }
          }
        }
      }
    }

    @Test("seconds of training within the hour are those of finished and of running jobs")
    func budget() async throws {
      try await withDatabase { client in
        let queue = JobQueue(client)
        let jobs = JobRepository(client)
        _ = try await queue.enqueue((0..<3).map { request("u\($0)", "t", .newEvents) })
        let leases = try await jobs.lease(owner: "w", duration: .seconds(60), limit: 3)
        try await client.execute(
          "UPDATE training_jobs_open SET started_at = now() - interval '100 seconds'")
        try await jobs.finish(leases[0], adapter: nil)
        try await client.execute(
          """
          UPDATE training_jobs_open SET started_at = now() - interval '90 minutes'
          WHERE job_id = \(leases[1].jobID)
          """)
        // 100 s done, 100 s running, and of the long one the hour.
        #expect(abs(try await queue.secondsOfLastHour() - 3_800) < 20)
      }
    }
  }
}
