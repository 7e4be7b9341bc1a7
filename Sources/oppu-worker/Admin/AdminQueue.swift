// `admin queue`: whether trainers get jobs.

import ArgumentParsing
import Foundation
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
        jobs: Dictionary(uniqueKeysWithValues: counts.map { ($0.key.rawValue, $0.value) }))
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

struct QueuePause: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pause", abstract: "Give out no jobs until `resume`; running ones go on.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @Option(name: .long, help: "Why, for those who wonder.") var note: String?
  @Flag(name: .long, help: "Do it.") var execute = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      guard execute else {
        let counts = try await JobRepository(client).counts()
        print(
          "\(counts[.queued] ?? 0) queued jobs would wait; \(counts[.running] ?? 0) running ones "
            + "would go on.")
        return Plan.notDone()
      }
      try await JobQueue(client).pause(note: note)
      Failure.say("the queue is paused; `admin queue resume` opens it")
    }
  }
}

struct QueueResume: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resume", abstract: "Give out jobs again.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @Flag(name: .long, help: "Do it.") var execute = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      guard execute else {
        print("Jobs would be given out again.")
        return Plan.notDone()
      }
      try await JobQueue(client).resume()
      Failure.say("the queue is open")
    }
  }
}
