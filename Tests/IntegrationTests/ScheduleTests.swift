// The scheduler on a real PostgreSQL: it reads what changed, one process leads, decisions follow from time alone.

import Foundation
import Personalization
import PostgresClient
import Testing

@testable import Storage
@testable import Worker

extension IntegrationTests {
  @Suite(.serialized) struct Schedules {
    private func round(
      _ client: PostgresClient, _ change: (inout WorkerConfiguration) -> Void = { _ in }
    ) -> SchedulerRound {
      var configuration = WorkerConfiguration()
      configuration.schedule.lossSignal = false
      change(&configuration)
      return SchedulerRound(
        configuration: configuration, catalogue: .builtIn, model: nil, client: client,
        logger: Servers.logger)
    }

    @Test(
      "a round looks at the streams that changed, writes them together, and finds nothing twice")
    func whatChanged() async throws {
      try await withDatabase { client in
        for number in 0..<30 {
          try await client.addStream(
            StreamID(userID: "u\(number)", task: "film_tag"), events: number < 10 ? 20 : 3)
        }
        try await client.addStream(StreamID(userID: "x", task: "forgotten"), events: 30)
        let round = round(client)
        try await client.withConnection { connection in
          let first = try await round.run(on: connection)
          #expect(first.streams == 31 && first.jobs == 10 && first.failures == 0)
          #expect(try await round.run(on: connection) == SchedulerRound.Report())
          try await client.addEvents(
            [(input: ["film": "B"], output: "sad")],
            to: StreamID(userID: "u3", task: "film_tag"))
          #expect(try await round.run(on: connection).streams == 1)
        }
        let decisions = try await ScheduleRepository(client).decisions()
        #expect(decisions.count { $0.reason == "first_adapter" && $0.jobID != nil } == 10)
        #expect(decisions.count { $0.reason == "unknown_task" } == 1)
        #expect(try await client.number("SELECT count(*) FROM training_jobs_open") == 10)
      }
    }

    @Test("the leader closes the queue while the hour's trainings took as long as they may")
    func trainingBudget() async throws {
      try await Rig.with { rig in
        let queue = JobQueue(rig.client)
        let jobs = JobRepository(rig.client)
        _ = try await queue.enqueue(
          ["kim", "mara"].map {
            JobRequest(stream: StreamID(userID: $0, task: "film_tag"), reason: .newEvents)
          })
        let lease = try #require(
          try await jobs.lease(owner: "w", duration: .seconds(60), limit: 1).first)
        try await rig.client.execute(
          "UPDATE training_jobs_open SET started_at = now() - interval '100 seconds' WHERE state = 'running'"
        )
        try await jobs.finish(lease, adapter: nil)

        func withLeader(limit: Int, _ body: () async throws -> Void) async throws {
          var configuration = WorkerConfiguration()
          configuration.kafka = rig.kafka
          configuration.schedule.trainingSecondsPerHour = limit
          configuration.schedule.pollInterval = .milliseconds(20)
          let leader = SchedulerService(
            configuration: configuration, catalogue: .builtIn, model: nil, client: rig.client,
            producer: rig.producer, logger: Servers.logger)
          try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { do { try await leader.run() } catch is CancellationError {} }
            defer { group.cancelAll() }
            try await body()
          }
        }
        try await withLeader(limit: 60) {
          try await eventually("the queue is closed") {
            try await queue.control()?.closedUntil != nil
          }
        }
        #expect(try await queue.control()?.closedNote?.contains("is 60") == true)
        #expect(try await jobs.lease(owner: "w", duration: .seconds(60), limit: 1).isEmpty)
        try await withLeader(limit: 600) {
          try await eventually("the queue is open again") {
            try await queue.control()?.closedUntil == nil
          }
        }
        #expect(try await jobs.lease(owner: "w", duration: .seconds(60), limit: 1).count == 1)
      }
    }

    @Test("a budget of false alarms makes every user's detection stricter, and outlives the leader")
    func alarmBudget() async throws {
      try await withDatabase { client in
        func rates() async throws -> [Double] {
          try await ScheduleRepository(client).decisions().map {
            if case .schedule(let numbers) = $0.numbers { numbers.falseAlarmEvents } else { 0 }
          }
        }
        func streams(_ names: Range<Int>) async throws {
          for number in names {
            try await client.addStream(
              StreamID(userID: "u\(number)", task: "film_tag"), events: 20)
          }
        }
        try await streams(0..<20)
        // Nothing is known of the population yet.
        try await client.withConnection { connection in
          let first = round(client) { $0.schedule.falseAlarmsPerDay = 2 }
          let report = try await first.run(on: connection)
          #expect(report.jobs == 20)
        }
        #expect(Set(try await rates()) == [1_000])
        // Of another leader: 400 events in the first hour count as 9,800 a day; two false alarms a day are one in
        // some 4,900 events.
        try await streams(20..<21)
        try await client.withConnection { connection in
          let second = round(client) { $0.schedule.falseAlarmsPerDay = 2 }
          let report = try await second.run(on: connection)
          #expect(report.jobs == 1)
        }
        let newest = try #require(try await rates().first)
        #expect((4_500...5_300).contains(newest), "\(newest)")
      }
    }

    @Test("a stream whose time has come is looked at though nothing is new, once")
    func dueByTime() async throws {
      try await withDatabase { client in
        let kim = StreamID(userID: "kim", task: "film_tag")
        try await client.addStream(kim, events: 16)
        let round = round(client)
        let jobs = JobRepository(client)
        try await client.withConnection { connection in
          #expect(try await round.run(on: connection).jobs == 1)
          let lease = try #require(try await jobs.lease(owner: "w", duration: .seconds(60)).first)
          try await jobs.finish(lease, adapter: nil)
          try await client.addStream(kim, events: 8)
          let begin = Date()
          #expect(try await round.run(on: connection, now: begin).jobs == 0)
          let due = try #require(
            try await client.query("SELECT look_at FROM stream_training").first?
              .decode("look_at", as: Date.self))
          #expect(abs(due.timeIntervalSince(begin) - 168 * 3_600) < 60)
          #expect(try await round.run(on: connection).streams == 0, "not yet")
          try await client.execute(
            """
            UPDATE stream_training SET look_at = now(), last_train_at = now() - interval '169 hours'
            """)
          #expect(try await round.run(on: connection).jobs == 1)
          #expect(try await round.run(on: connection).streams == 0)
        }
        #expect(try await jobs.list().first?.reason == "age")
      }
    }

    /// Takes the lock if it is free.
    private func leads(_ connection: PostgresConnection) async throws -> Bool {
      if try await Leadership.take(on: connection) != nil { return true }
      return false
    }

    @Test("one leads; when its connection ends, another does, and the old one writes nothing")
    func leadership() async throws {
      let url = try await Servers.makeDatabase()
      try await withClient(url) { client in
        try await Migrator(client: client).migrate()
        try await client.addStream(StreamID(userID: "u", task: "film_tag"), events: 20)
        let round = round(client)
        try await withClient(url) { second in
          try await client.withConnection { connection in
            guard var old = try await Leadership.take(on: connection) else {
              Issue.record("nobody else leads")
              return
            }
            try await old.ask()
            try await second.withConnection { standby in
              #expect(try await !leads(standby))
              let process = try await connection.query("SELECT pg_backend_pid() AS pid").first?
                .decode("pid", as: Int.self)
              try await second.execute(
                "SELECT pg_terminate_backend(\(try #require(process))::integer)")
              try await eventually("the standby leads") { try await leads(standby) }
              // The old leader has looked already, and wants to write now.
              await #expect(throws: PostgresError.self) { _ = try await round.run(on: connection) }
              #expect(try await second.number("SELECT count(*) FROM shift_decisions") == 0)
              var lost = false
              do { try await old.ask() } catch { lost = error is PostgresError }
              #expect(lost)
              #expect(try await round.run(on: standby).jobs == 1)
              try await standby.execute("SELECT pg_advisory_unlock_all()")
            }
            await old.giveUp()
          }
        }
      }
    }

    @Test("an operator's training is a decision like any other, and counts as one")
    func requested() async throws {
      try await withDatabase { client in
        let kim = StreamID(userID: "kim", task: "film_tag")
        let repository = ScheduleRepository(client)
        #expect(try await repository.requestTraining(of: kim, note: "no events yet") == nil)
        try await client.addStream(kim, events: 5)
        let job = try #require(try await repository.requestTraining(of: kim, note: "please"))
        let again = try #require(try await repository.requestTraining(of: kim, note: "please"))
        #expect(job.jobID == again.jobID && !job.isFolded && again.isFolded)
        let decisions = try await repository.decisions()
        #expect(decisions.map(\.reason) == ["operator", "operator"])
        #expect(decisions.first?.numbers == .operator(events: 5, note: "please"))
        #expect(
          try await client.number("SELECT last_train_ordinal FROM stream_training") == 5)
      }
    }
  }
}
