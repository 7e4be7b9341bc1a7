// `oppu-bench jobs`: training jobs that do nothing, claimed, run and completed, and the same while another
// transaction is held open and no dead row can be removed.
//
// The queue is the real one, on a PostgreSQL with fsync on: jobs are asked for, leased by the real claimer with
// its upkeep, and finished behind their fencing tokens, some hundred in a statement.

import ArgumentParsing
import Foundation
import PostgresClient
import Storage
import StructuredLogging
import Worker

struct JobsBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "jobs",
    abstract: "No-op training jobs a second; also with a transaction held open.",
    discussion: """
      Ten minutes: --hold-seconds 600 --rate 20000. Without a rate all jobs are asked for beforehand, \
      which for so long would take tens of gigabytes.
      """)

  @Option(help: "Jobs of the first measurement.") var jobs = 300_000
  @Option(help: "Workers, each with a connection.") var workers = 4
  @Option(help: "Jobs that a worker leases at a time.") var batch = 500
  @Option(help: "How long the other transaction is held open in the second measurement.")
  var holdSeconds = 40
  @Option(help: "Jobs a second that are asked for meanwhile (default: all of them before).")
  var rate: Int?
  @Option(help: "Also writes the rows to this file, as JSON.") var json: String?

  func run() async throws {
    var report = EngineReport.here()
    try await BenchDatabase.with(connections: workers + 3) { client, url in
      BenchDatabase.say("asking for \(jobs) jobs")
      let asked = try await fill(client, 0..<jobs)
      BenchDatabase.say(String(format: "asked for %.0f jobs/s", asked))
      let free = try await work(client, until: nil)
      let done = try await client.query("SELECT count(*) AS n FROM training_jobs_done").first
      guard try done?.decode("n", as: Int.self) == jobs else {
        throw PeerError(description: "not every job was done once")
      }
      report.add(
        "no-op jobs claimed, run and completed", free.rate, 15_000, goal: 1, unit: "jobs/s")

      if rate == nil {
        let needed = Int(free.rate * Double(holdSeconds) * 1.2)
        BenchDatabase.say("asking for \(needed) more")
        _ = try await fill(client, jobs..<jobs + needed)
      }
      let other = PostgresClient(PostgresConfiguration(url), logger: BenchDatabase.logger)
      let held = try await other.withConnection { connection in
        // A snapshot, as of a backup or a forgotten session: nothing that dies from now on can be removed.
        try await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        _ = try await connection.query("SELECT count(*) FROM training_queue")
        let end = ContinuousClock.now + .seconds(holdSeconds)
        async let asked: Void = ask(client, until: end)
        let held = try await work(client, until: end)
        try await asked
        try await connection.execute("ROLLBACK")
        return held
      }
      await other.close()
      BenchDatabase.say(
        "held open for \(holdSeconds) s: \(held.done) jobs; in fifths: "
          + held.fifths.map { String(format: "%.0f", $0) }.joined(separator: ", ") + " jobs/s")
      report.add(
        "the same, last fifth of \(holdSeconds) s with a transaction held open",
        held.fifths.last ?? 0, 15_000, goal: 1, unit: "jobs/s")
    }
    try report.write(json)
  }

  /// Asks for one job each of many users; returns how many a second.
  private func fill(_ client: PostgresClient, _ numbers: Range<Int>) async throws -> Double {
    let begin = ContinuousClock.now
    let step = 5_000
    for start in stride(from: numbers.lowerBound, to: numbers.upperBound, by: step) {
      _ = try await JobQueue(client).enqueue(
        (start..<min(start + step, numbers.upperBound)).map { number in
          JobRequest(
            stream: StreamID(userID: "user-\(number)", task: "task-\(number % 5)"),
            reason: number % 4 == 0 ? .shift : .newEvents)
        })
    }
    return Double(numbers.count) / ((ContinuousClock.now - begin) / .seconds(1))
  }

  /// Asks for jobs at the rate, where there is one.
  private func ask(_ client: PostgresClient, until end: ContinuousClock.Instant) async throws {
    guard let rate else { return }
    let begin = ContinuousClock.now
    var asked = 0
    while ContinuousClock.now < end {
      let due = Int((ContinuousClock.now - begin) / .seconds(1) * Double(rate))
      if due > asked { _ = try await fill(client, jobs + asked..<jobs + due) }
      asked = due
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  /// A batch that was done.
  private struct Moment: Sendable {
    var at: Duration
    var jobs: Int
  }

  private struct Work: Sendable {
    var done = 0
    var rate = 0.0
    /// Rates of the five parts of the time.
    var fifths: [Double] = []
  }

  /// Works until the queue is empty, or until a time.
  private func work(_ client: PostgresClient, until end: ContinuousClock.Instant?) async throws
    -> Work
  {
    let begin = ContinuousClock.now
    let batch = batch
    let claimer = JobClaimer(client: client, owner: "bench")
    let upkeep = MaintenanceService(
      tasks: [QueueUpkeep(maximumAttempts: 3)], client: client, logger: Logger(label: "bench"))
    let beside = Task { try await upkeep.run() }
    defer { beside.cancel() }
    let all = try await withThrowingTaskGroup(of: [Moment].self) { group in
      for number in 0..<workers {
        group.addTask {
          let repository = JobRepository(client)
          var moments: [Moment] = []
          while end.map({ ContinuousClock.now < $0 }) ?? true {
            let leases = try await claimer.claim(limit: batch, name: "-\(number)")
            if leases.isEmpty {
              guard end != nil, rate != nil else { break }
              try await Task.sleep(for: .milliseconds(20))
              continue
            }
            // This is where a training would run.
            let done = try await repository.finish(leases, note: "nothing to do")
            guard done.count == leases.count else {
              throw PeerError(description: "a lease was lost without reason")
            }
            moments.append(Moment(at: ContinuousClock.now - begin, jobs: done.count))
          }
          return moments
        }
      }
      return try await group.reduce(into: []) { $0 += $1 }
    }
    let seconds = (ContinuousClock.now - begin) / .seconds(1)
    var work = Work()
    work.done = all.reduce(0) { $0 + $1.jobs }
    work.rate = Double(work.done) / seconds
    for part in 0..<5 {
      let range = seconds * Double(part) / 5..<seconds * Double(part + 1) / 5
      let jobs = all.reduce(0) { range.contains($1.at / .seconds(1)) ? $0 + $1.jobs : $0 }
      work.fifths.append(Double(jobs) * 5 / seconds)
    }
    return work
  }
}
