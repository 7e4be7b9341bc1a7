// `admin jobs`: the training queue.

import ArgumentParsing
import Foundation
import PostgresClient
import Storage

struct AdminJobs: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "jobs", abstract: "Training jobs.",
    subcommands: [
      JobsList.self, JobsShow.self, JobsEnqueue.self, JobsRetry.self, JobsCancel.self,
    ], defaultSubcommand: JobsList.self)
}

extension JobState: ExpressibleByArgument {}

struct JobsList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "One line per job, newest first.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @OptionGroup var filter: StreamFilter
  @Option(name: .long, help: "Only jobs in this state.") var state: JobState?

  func run() async throws {
    try await withDatabase(options) { client, _ in
      try format.print(
        try await JobRepository(client).list(
          state: state, userID: filter.user, task: filter.task, limit: filter.limit),
        empty: "There are no such jobs.",
        columns: [
          .init("job") { "\($0.jobID)" }, .init("user") { $0.userID }, .init("task") { $0.task },
          .init("why") { $0.reason }, .init("state") { $0.state.rawValue },
          .init("attempts") { "\($0.attempts)" },
          .init("progress") { job in
            guard job.state == .running, let progress = job.progress else { return "–" }
            return
              "step \(progress["step"]?.plainText ?? "?") of \(progress["steps"]?.plainText ?? "?")"
          },
          .init("created") { Show.time($0.createdAt) },
          .init("finished") { Show.time($0.finishedAt) },
          .init("error") { String(($0.error ?? "").prefix(60)) },
        ])
    }
  }
}

struct JobsShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "show", abstract: "One job.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The job's number.") var job: Int64

  func run() async throws {
    try await withDatabase(options) { client, _ in
      guard let found = try await JobRepository(client).get(job) else {
        Failure.say("there is no job \(job)")
        throw ExitCode.failure
      }
      try format.print(
        found,
        lines: [
          ("job", "\(found.jobID)"), ("user", found.userID), ("task", found.task),
          ("why", found.reason), ("change at event", Show.optional(found.changeOrdinal)),
          ("state", found.state.rawValue), ("attempts", "\(found.attempts)"),
          ("further requests in it", "\(found.folded)"),
          ("place in the queue", Show.optional(found.place)),
          ("waits until", Show.time(found.runAt)), ("worker", Show.optional(found.leaseOwner)),
          ("lease until", Show.time(found.leaseExpiresAt)),
          ("progress", found.progress?.canonical ?? "–"),
          ("result", found.result?.canonical ?? "–"), ("error", Show.optional(found.error)),
          ("created", Show.time(found.createdAt)), ("started", Show.time(found.startedAt)),
          ("finished", Show.time(found.finishedAt)),
        ]
          + (found.failures?.array ?? []).map { failure in
            (
              "attempt \(failure["attempt"]?.plainText ?? "?")",
              "\(failure["owner"]?.string ?? "?"), \(failure["at"]?.string ?? "?"): "
                + "\(failure["error"]?.string ?? "?")"
            )
          })
    }
  }
}

struct JobsEnqueue: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "enqueue", abstract: "Ask for a training of a user's adapter now.",
    discussion: """
      The job goes before all others, and the candidate through the gate like any other. Without \
      --execute it shows the plan.
      """)

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @Argument(help: "The user's id.") var user: String
  @Argument(help: "The task.", completion: .taskNames) var task: String
  @Option(name: .long, help: "Why, for the decision's record.") var note =
    "asked for by an operator"
  @Flag(name: .long, help: "Do it.") var execute = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let stream = Stream(userID: user, task: task)
      guard
        let known = try await UserRepository(client).streams(userID: user).first(where: {
          $0.task == task
        })
      else {
        Failure.say("\(stream) has no events; there is nothing to train on")
        throw ExitCode.failure
      }
      guard execute else {
        print("A training on the \(known.events) events of \(stream) would be queued.")
        return Plan.notDone()
      }
      guard
        let job = try await ScheduleRepository(client).requestTraining(of: stream, note: note)
      else { throw JobStateError(description: "\(stream) was erased meanwhile") }
      Failure.say(
        job.isFolded
          ? "job \(job.jobID) of \(stream) was queued already and is now first"
          : "job \(job.jobID) of \(stream) is queued")
    }
  }
}

struct JobsRetry: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "retry", abstract: "Queue a dead or cancelled job again.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @Argument(help: "The job's number.") var job: Int64
  @Flag(name: .long, help: "Do it.") var execute = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let found = try await JobPlan.show(job, "would be queued again", client)
      guard execute else { return Plan.notDone() }
      try await JobRepository(client).retry(job)
      Failure.say("job \(job) of \(found.stream) is queued again")
    }
  }
}

struct JobsCancel: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cancel", abstract: "Take a job out of the queue or away from its trainer.",
    discussion: "A trainer at work on it stops at its next step and stores nothing.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @Argument(help: "The job's number.") var job: Int64
  @Option(name: .long, help: "Why, for the job's record.") var note = "cancelled by an operator"
  @Flag(name: .long, help: "Do it.") var execute = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let found = try await JobPlan.show(job, "would be cancelled", client)
      guard execute else { return Plan.notDone() }
      try await JobRepository(client).cancel(job, note: note)
      Failure.say("job \(job) of \(found.stream) is cancelled")
    }
  }
}

enum JobPlan {
  /// Says what would become of a job, and returns it.
  static func show(_ id: Int64, _ what: String, _ client: PostgresClient) async throws -> JobRecord
  {
    guard let found = try await JobRepository(client).get(id) else {
      Failure.say("there is no job \(id)")
      throw ExitCode.failure
    }
    print(
      "Job \(id) of \(found.stream) (\(found.reason), \(found.state.rawValue), "
        + "\(found.attempts) attempts) \(what).")
    return found
  }
}

enum Plan {
  static func notDone() { print("Nothing was changed; run again with --execute.") }
}
