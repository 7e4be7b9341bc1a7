// `admin users`: whom the worker knows, and how well.

import ArgumentParsing
import Foundation
import Storage
import Worker

struct AdminUsers: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "users", abstract: "Users and their streams.",
    subcommands: [UsersList.self, UsersShow.self, UsersErase.self],
    defaultSubcommand: UsersList.self)
}

struct UsersList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "One line per user and task.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
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

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
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

struct UsersErase: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "erase", abstract: "Forget a user: events, state, jobs, adapters, answers.",
    discussion: """
      At once in PostgreSQL, in one transaction; and a message without a value goes into every partition of the \
      events' topic, so that what waits there of the user is forgotten too. What Kafka's topics hold is theirs to \
      delete. Without --execute it shows what there is.
      """)

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The user's id.") var user: String
  @Flag(name: .long, help: "Do it. It cannot be undone.") var execute = false

  private struct Row: Encodable {
    let table: String
    let rows: Int
    let state: String
  }

  func run() async throws {
    try await withDatabase(options) { client, configuration in
      let erasure = UserErasure(client: client, kafka: configuration.kafka)
      let plan = try await erasure.plan(user)
      let told = execute ? try await erasure.execute(user).partitions : 0
      try format.print(
        plan.map {
          Row(table: $0.table, rows: $0.rows, state: execute ? "erased" : "to be erased")
        },
        empty: "",
        columns: [
          .init("table") { $0.table }, .init("rows") { "\($0.rows)" }, .init("state") { $0.state },
        ])
      guard format.output == .text else { return }
      print(
        execute
          ? "A receipt was written, and \(told) partitions were told."
          : "Nothing was erased; run again with --execute.")
    }
  }
}
