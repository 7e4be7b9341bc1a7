// `admin jobs`: the training queue.

import ArgumentParser
import Foundation
import Storage

struct AdminJobs: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "jobs", abstract: "Training jobs.",
    subcommands: [JobsList.self, JobsShow.self], defaultSubcommand: JobsList.self)
}

extension JobState: ExpressibleByArgument {}

struct JobsList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "One line per job, newest first.")

  @OptionGroup var options: ConfigurationOptions
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

  @OptionGroup var options: ConfigurationOptions
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
          ("worker", Show.optional(found.leaseOwner)),
          ("lease until", Show.time(found.leaseExpiresAt)),
          ("progress", found.progress?.canonical ?? "–"),
          ("result", found.result?.canonical ?? "–"), ("error", Show.optional(found.error)),
          ("created", Show.time(found.createdAt)), ("started", Show.time(found.startedAt)),
          ("finished", Show.time(found.finishedAt)),
        ])
    }
  }
}
