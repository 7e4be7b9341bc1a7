// `admin users`: whom the worker knows, and how well.

import ArgumentParser
import Foundation
import Storage

struct AdminUsers: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "users", abstract: "Users and their streams.",
    subcommands: [UsersList.self, UsersShow.self], defaultSubcommand: UsersList.self)
}

struct UsersList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "One line per user and task.")

  @OptionGroup var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Option(name: .long, help: "Rows at most.") var limit = 200

  func run() async throws {
    try await withDatabase(options) { client, _ in
      try format.print(
        try await UserRepository(client).streams(limit: limit),
        empty: "No user has done anything yet.",
        columns: [
          .init("user") { $0.userID }, .init("task") { $0.task },
          .init("events") { "\($0.events)" },
          .init("last event") { Show.time($0.lastEventAt) },
          .init("shifts") { "\($0.shifts)" },
          .init("active adapter") { $0.activeVersion.map { "v\($0)" } ?? "–" },
          .init("versions") { "\($0.adapterVersions)" },
        ])
    }
  }
}

struct UsersShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Everything about one user's streams, detector numbers included."
  )

  @OptionGroup var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The user's id.") var user: String

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let streams = try await UserRepository(client).streams(userID: user)
      guard !streams.isEmpty else {
        Failure.say("there is no user \"\(user)\"")
        throw ExitCode.failure
      }
      for stream in streams {
        try format.print(
          stream,
          lines: [
            ("user", stream.userID), ("task", stream.task), ("events", "\(stream.events)"),
            ("last event", Show.time(stream.lastEventAt)),
            ("active adapter", stream.activeVersion.map { "v\($0)" } ?? "none"),
            ("trained through event", Show.optional(stream.trainedThrough)),
            ("adapter versions", "\(stream.adapterVersions)"), ("shifts", "\(stream.shifts)"),
          ]
            + (stream.evaluation?["signals"]?.array ?? []).map { signal in
              (
                "signal \(signal["kind"]?.string ?? "?")",
                signal["explanation"]?.string ?? "not looked at yet"
              )
            })
        if format.output == .text { print("") }
      }
    }
  }
}
