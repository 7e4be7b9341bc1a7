// `admin queue`: whether trainers get jobs.

import ArgumentParsing
import Foundation
import PostgresClient
import Storage

struct AdminQueue: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "queue", abstract: "The training queue as a whole.",
    subcommands: [QueueShow.self, QueuePause.self, QueueResume.self],
    defaultSubcommand: QueueShow.self)
}

struct QueueShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Whether jobs are given out, and what trainings took.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions

  private struct Status: Encodable {
    let control: JobQueue.Control?
    let secondsOfLastHour: Double
    let budget: Int
    let jobs: [String: Int]

    enum CodingKeys: String, CodingKey {
      case control, jobs
      case secondsOfLastHour = "seconds_of_last_hour"
      case budget = "seconds_per_hour"
    }
  }

  func run() async throws {
    try await withDatabase(options) { client, configuration in
      let queue = JobQueue(client)
      let counts = try await JobRepository(client).counts()
      let status = Status(
        control: try await queue.control(), secondsOfLastHour: try await queue.secondsOfLastHour(),
        budget: configuration.schedule.trainingSecondsPerHour,
        jobs: JobState.byName(counts))
      let control = status.control
      let state =
        if let paused = control?.pausedAt {
          "paused since \(Show.time(paused)): \(control?.pauseNote ?? "no reason given")"
        } else if control?.closedUntil != nil {
          "closed: \(control?.closedNote ?? "the budget is used up")"
        } else { "open" }
      try format.print(
        status,
        lines: [
          ("queue", state),
          ("queued", "\(counts[.queued] ?? 0)"), ("running", "\(counts[.running] ?? 0)"),
          ("training in the last hour", "\(Int(status.secondsOfLastHour)) s"),
          ("at most", status.budget == 0 ? "no limit" : "\(status.budget) s"),
        ])
    }
  }
}

/// What stopping and opening the queue is about.
private struct QueueChange: Encodable {
  let paused: Bool
  let note: String?
  let queued: Int
  let running: Int

  init(paused: Bool, note: String?, _ client: PostgresClient) async throws {
    let counts = try await JobRepository(client).counts()
    self.paused = paused
    self.note = note
    queued = counts[.queued] ?? 0
    running = counts[.running] ?? 0
  }
}

struct QueuePause: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pause", abstract: "Give out no jobs until `resume`; running ones go on.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Option(name: .long, help: "Why, for those who wonder.") var note: String?
  @Flag(name: .long, help: "Do it.") var execute = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let change = try await QueueChange(paused: true, note: note, client)
      if execute { try await JobQueue(client).pause(note: note) }
      try format.print(
        "pause", executed: execute, change,
        plan:
          "\(change.queued) queued jobs would wait; \(change.running) running ones would go on.",
        done: "The queue is paused; `admin queue resume` opens it.")
    }
  }
}

struct QueueResume: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resume", abstract: "Give out jobs again.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Flag(name: .long, help: "Do it.") var execute = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let change = try await QueueChange(paused: false, note: nil, client)
      if execute { try await JobQueue(client).resume() }
      try format.print(
        "resume", executed: execute, change,
        plan: "Jobs would be given out again; \(change.queued) wait.", done: "The queue is open.")
    }
  }
}
