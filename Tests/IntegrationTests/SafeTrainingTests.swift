// Training that is safe, with the real model: bad runs do not get past the gate, a worse version that was forced
// through is rolled back by itself, and a trainer that lost its lease publishes nothing.

import Foundation
import JSON
import LanguageModel
import Personalization
import PostgresClient
import TestSupport
import Testing

@testable import Storage
@testable import Worker

extension IntegrationTests {
  @Suite(.serialized) struct SafeTraining {
    private static let kim = StreamID(userID: "kim", task: "film_tag")
    private static let model = Task { ServedModel(try LlamaModel.load(path: Paths.model)) }

    private static let films = [
      ("The Paper Harbour: a comedy of errors", "funny"), ("Winter Bridge: a last farewell", "sad"),
      ("Distant Piano: a race against time", "tense"),
      ("Silent Orchard: three clumsy thieves", "funny"),
      ("Broken Compass: a mother's illness", "sad"), ("Last Ferry: a bomb on board", "tense"),
    ]

    /// Events of a user who tags by mood.
    private static func events(_ count: Int, from first: Int = 0) -> [(
      input: JSONValue, output: String?
    )] {
      (first..<first + count).map { number in
        let (film, tag) = films[number % films.count]
        return (input: ["film": .string("\(film) (\(1960 + number))")], output: tag)
      }
    }

    private static var configuration: WorkerConfiguration {
      var configuration = WorkerConfiguration()
      configuration.train.method.user.training.rank = 4
      configuration.train.method.user.training.targets = [.query, .value]
      configuration.train.method.user.training.learningRate = 0.005
      configuration.train.method.user.training.epochs = 4
      configuration.train.pollInterval = .milliseconds(50)
      return configuration
    }

    /// Runs the train role for the length of the body.
    private func withTrainer(
      _ client: PostgresClient, _ configuration: WorkerConfiguration,
      _ body: () async throws -> Void
    ) async throws {
      let trainer = TrainerService(
        configuration: configuration, catalogue: .builtIn, model: try await Self.model.value,
        client: client, logger: Servers.logger)
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { do { try await trainer.run() } catch is CancellationError {} }
        let upkeep = MaintenanceService(
          tasks: [QueueUpkeep(maximumAttempts: configuration.train.maximumAttempts)],
          client: client, logger: Servers.logger)
        group.addTask { try await upkeep.run() }
        let result: Result<Void, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        group.cancelAll()
        try await group.waitForAll()
        try result.get()
      }
    }

    /// Trains kim's stream once and returns the version that came of it.
    private func train(
      _ client: PostgresClient, _ configuration: WorkerConfiguration, expect count: Int
    ) async throws -> AdapterRecord {
      _ = try await JobQueue(client).enqueue([JobRequest(stream: Self.kim, reason: .operator)])
      try await withTrainer(client, configuration) {
        try await eventually("the training is over") {
          try await client.number("SELECT count(*) FROM training_jobs_open") == 0
        }
      }
      let versions = try await AdapterRepository(client).list()
      let jobs = try await JobRepository(client).list()
      #expect(versions.count == count, "\(jobs.first?.error ?? "no error")")
      return try #require(versions.last)
    }

    @Test("a training that the database broke off is given back and counts as no attempt")
    func brokenOff() async throws {
      try await withDatabase { client in
        try await client.addEvents(Self.events(24), to: Self.kim)
        _ = try await JobQueue(client).enqueue([JobRequest(stream: Self.kim, reason: .operator)])
        let readers: PostgresQuery = """
          FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
            AND query LIKE '%behavior_events%'
          """
        try await client.withConnection { locker in
          try await locker.execute("BEGIN")
          try await locker.execute("LOCK TABLE behavior_events IN ACCESS EXCLUSIVE MODE")
          try await withTrainer(client, Self.configuration) {
            try await eventually("the training reads its history") {
              try await client.number("SELECT count(*) \(readers)") == 1
            }
            try await client.execute("SELECT pg_terminate_backend(pid) \(readers)")
            try await locker.execute("ROLLBACK")
            try await eventually("the training is over") {
              try await client.number("SELECT count(*) FROM training_jobs_open") == 0
            }
          }
        }
        let job = try #require(try await JobRepository(client).list().first)
        #expect(job.state == .succeeded)
        #expect(job.attempts == 1)
        #expect(job.error == nil)
      }
    }

    @Test(
      "bad runs are rejected, and a worse version that is forced through is rolled back by itself")
    func badRuns() async throws {
      try await withDatabase { client in
        try await client.addEvents(Self.events(24), to: Self.kim)
        let good = try await train(client, Self.configuration, expect: 1)
        #expect(good.state == .active, "\(good.gate.verdict)")

        // A learning rate a thousand times too high.
        try await client.addEvents(Self.events(12, from: 24), to: Self.kim)
        var wild = Self.configuration
        wild.train.method.user.training.learningRate *= 1_000
        let broken = try await train(client, wild, expect: 2)
        #expect(broken.state == .rejected, "\(broken.gate.verdict)")
        #expect(broken.hasWeights, "it can be looked into")

        // Poisoned events: for a while somebody else's script tags at random, then it is kim again.
        var generator = SplitMix(seed: 7)
        let tags = ["nineties", "dreamy", "fifties", "silent age", "seventies"]
        try await client.addEvents(
          Self.events(20, from: 36).map { event in
            (input: event.input, output: tags.randomElement(using: &generator))
          } + Self.events(10, from: 56), to: Self.kim)
        let poisoned = try await train(client, Self.configuration, expect: 3)
        #expect(poisoned.state == .rejected, "\(poisoned.gate.verdict)")
        #expect(try await AdapterRepository(client).active(Self.kim)?.version == 1)

        // The scheduler catches up before anybody is on trial.
        var watching = Self.configuration
        watching.schedule.rules.newEvents = 10_000
        let round = SchedulerRound(
          configuration: watching, catalogue: .builtIn, model: try await Self.model.value,
          client: client, logger: Servers.logger)
        try await client.withConnection { connection in _ = try await round.run(on: connection) }
        _ = try await client.withTransaction { connection in
          try await AdapterRepository(connection).promote(Self.kim, version: 2, force: true)
        }
        #expect(try await AdapterRepository(client).active(Self.kim)?.version == 2)
        // What a run that flew apart answers differs from processor to processor: it may be right now and then, and
        // then it takes more events than a handful to be certain.
        try await client.addEvents(Self.events(24, from: 66), to: Self.kim)
        let report = try await client.withConnection { connection in
          try await round.run(on: connection)
        }
        let versions = try await AdapterRepository(client).list()
        #expect(report.rollbacks == 1, "\(String(describing: versions[1].trial))")
        #expect(versions.map(\.state) == [.active, .rolledBack, .rejected])
        let trial = try #require(versions[1].trial)
        #expect(trial.loss > trial.lossBefore)
        let decision = try #require(
          try await ScheduleRepository(client).decisions().first { $0.action == "rollback" })
        guard case .trial(let lost) = decision.numbers else {
          throw Timeout(description: "\(decision.numbers)")
        }
        #expect(lost.trial.lowerBound ?? 0 > 0 && lost.version == 2)
        let told = try await OutboxRepository(client).waiting().map(\.event)
        let last = try #require(told.last { $0.kind == .rolledBack })
        #expect(last.adapterVersion == 2 && last.parentVersion == 1 && last.reason == "live_losses")
      }
    }

    @Test(
      "a trainer whose lease was taken away, or whose job was cancelled, stops and publishes nothing"
    )
    func zombie() async throws {
      try await withDatabase { client in
        try await client.addEvents(Self.events(60), to: Self.kim)
        var slow = Self.configuration
        slow.train.method.user.training.epochs = 1_000
        slow.train.method.user.maximumTokens = 1_000_000_000
        let jobs = JobRepository(client)
        func running() async throws -> JobRecord? {
          try await jobs.list(state: .running).first
        }
        _ = try await JobQueue(client).enqueue([JobRequest(stream: Self.kim, reason: .operator)])
        try await withTrainer(client, slow) {
          try await eventually("it trains") { try await running() != nil }
          let first = try #require(try await running())
          // Its lease runs out unnoticed, as of a process that was stopped, and another trainer has the job.
          try await client.execute(
            "UPDATE training_jobs_open SET lease_expires_at = now() - interval '1 second'")
          var other: JobLease?
          try await eventually("another has it") {
            try await tendQueue(client, maximumAttempts: 9)
            other = try await jobs.lease(owner: "other", duration: .seconds(60)).first
            return other != nil
          }
          #expect(other?.jobID == first.jobID)
          // The first notices within a second or so and takes the next job: it is free again.
          let lee = StreamID(userID: "lee", task: "film_tag")
          try await client.addEvents(Self.events(60), to: lee)
          _ = try await JobQueue(client).enqueue([JobRequest(stream: lee, reason: .operator)])
          try await eventually("it stopped and took another") {
            try await jobs.list(state: .running).contains { $0.userID == "lee" }
          }
          let second = try #require(
            try await jobs.list(state: .running).first { $0.userID == "lee" })
          try await jobs.cancel(second.jobID, note: "enough")
          let max = StreamID(userID: "max", task: "film_tag")
          try await client.addEvents(Self.events(60), to: max)
          _ = try await JobQueue(client).enqueue([JobRequest(stream: max, reason: .operator)])
          try await eventually("it stopped again") {
            try await jobs.list(state: .running).contains { $0.userID == "max" }
          }
          let third = try #require(
            try await jobs.list(state: .running).first { $0.userID == "max" })
          try await jobs.cancel(third.jobID, note: "enough")
        }
        #expect(try await client.number("SELECT count(*) FROM adapters") == 0)
        let kinds = try await OutboxRepository(client).waiting().map(\.event.kind)
        // One that was cancelled in its first moment may not even have said that it began.
        #expect(kinds.allSatisfy { $0 == .trainingStarted }, "\(kinds)")
        #expect((1...3).contains(kinds.count))
      }
    }
  }
}

/// A seeded generator, the same everywhere.
private struct SplitMix: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
