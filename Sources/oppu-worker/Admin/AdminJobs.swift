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

extension JobState: ExpressibleByArgument {
  /// Numbers of jobs by the names of all states.
  static func byName(_ counts: [JobState: Int]) -> [String: Int] {
    Dictionary(
      allCases.map { ($0.rawValue, counts[$0] ?? 0) }, uniquingKeysWith: { first, _ in first })
  }
}

struct JobsList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "One line per job, newest first.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @OptionGroup var filter: StreamFilter
  @OptionGroup var page: PageOptions
  @Option(name: .long, help: "Only jobs in this state.") var state: JobState?

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let repository = JobRepository(client)
      let rows = try await repository.list(
        state: state, userID: filter.user, task: filter.task, before: page.number(),
        limit: page.limit + 1)
      let total = try await repository.count(
        state: state, userID: filter.user, task: filter.task)
      try format.print(
        Page(rows, limit: page.limit, total: total) { [.number(Double($0.jobID))] },
        empty: "There are no such jobs.",
        columns: [
          .init("job") { "\($0.jobID)" }, .init("user") { $0.userID }, .init("task") { $0.task },
          .init("why") { $0.reason }, .init("state") { $0.state.rawValue },
          .init("attempts") { "\($0.attempts)" },
          .init("progress") { job in
            guard job.state == .running, let progress = job.progress else { return "–" }
            return "step \(progress.step) of \(progress.steps)"
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
          ("progress", try found.progress.map(Show.line) ?? "–"),
          ("result", try found.result.map(Show.line) ?? "–"), ("error", Show.optional(found.error)),
          ("created", Show.time(found.createdAt)), ("started", Show.time(found.startedAt)),
          ("finished", Show.time(found.finishedAt)),
        ]
          + (found.failures ?? []).map {
            ("attempt \($0.attempt)", "\($0.owner ?? "?"), \($0.at): \($0.error)")
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
  @OptionGroup var format: OutputOptions
  @Argument(help: "The user's id.") var user: String
  @Argument(help: "The task.", completion: .taskNames) var task: String
  @Option(name: .long, help: "Why, for the decision's record.") var note =
    "asked for by an operator"
  @Flag(name: .long, help: "Do it.") var execute = false

  private struct Asked: Encodable {
    let userID: String
    let task: String
    /// Null in a plan for which a new job is to be made.
    let jobID: Int64?
    /// Whether a job of the stream was queued already.
    let isFolded: Bool
    let events: Int64?
  }

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let stream = StreamID(userID: user, task: task)
      let job = try await ScheduleRepository(client).requestTraining(
        of: stream, note: note, isRehearsal: !execute)
      guard let job else {
        throw JobStateError(description: "\(stream) has no events; there is nothing to train on")
      }
      let events = try await UserRepository(client).streams(userID: user)
        .first { $0.task == task }?.events
      try format.print(
        "enqueue", executed: execute,
        Asked(
          userID: user, task: task, jobID: execute || job.isFolded ? job.jobID : nil,
          isFolded: job.isFolded, events: events),
        plan: job.isFolded
          ? "Job \(job.jobID) of \(stream) is queued already and would be the first."
          : "A training on the \(Show.optional(events)) events of \(stream) would be queued.",
        done: job.isFolded
          ? "Job \(job.jobID) of \(stream) was queued already and is now first."
          : "Job \(job.jobID) of \(stream) is queued.")
    }
  }
}

struct JobsRetry: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "retry", abstract: "Queue a dead or cancelled job again.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The job's number.") var job: Int64
  @Flag(name: .long, help: "Do it.") var execute = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let found = try await JobRepository(client).retry(job, isRehearsal: !execute)
      try JobChange(job: found, state: .queued).print(
        "retry", execute, format, plan: "would be queued again", done: "is queued again")
    }
  }
}

struct JobsCancel: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cancel", abstract: "Take a job out of the queue or away from its trainer.",
    discussion: "A trainer at work on it stops at its next step and stores nothing.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The job's number.") var job: Int64
  @Option(name: .long, help: "Why, for the job's record.") var note = "cancelled by an operator"
  @Flag(name: .long, help: "Do it.") var execute = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let found = try await JobRepository(client).cancel(job, note: note, isRehearsal: !execute)
      try JobChange(job: found, state: .cancelled).print(
        "cancel", execute, format, plan: "would be cancelled", done: "is cancelled")
    }
  }
}

/// What becomes of a job.
private struct JobChange: Encodable {
  let jobID: Int64
  let userID: String
  let task: String
  let reason: String
  let stateBefore: JobState
  let state: JobState
  let attempts: Int

  init(job: JobRecord, state: JobState) {
    jobID = job.jobID
    userID = job.userID
    task = job.task
    reason = job.reason
    stateBefore = job.state
    self.state = state
    attempts = job.attempts
  }

  func print(
    _ action: String, _ execute: Bool, _ format: OutputOptions, plan: String, done: String
  ) throws {
    let stream = StreamID(userID: userID, task: task)
    try format.print(
      action, executed: execute, self,
      plan: "Job \(jobID) of \(stream) (\(reason), \(stateBefore.rawValue), \(attempts) attempts) "
        + "\(plan).",
      done: "Job \(jobID) of \(stream) \(done).")
  }
}
