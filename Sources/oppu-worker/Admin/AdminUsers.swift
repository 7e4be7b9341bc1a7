// `admin users`: whom the worker knows, and how well.

import ArgumentParsing
import Foundation
import Storage
import Worker

struct AdminUsers: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "users", abstract: "Users and their streams.",
    subcommands: [UsersList.self, UsersShow.self, UsersErase.self, UsersReceipts.self],
    defaultSubcommand: UsersList.self)
}

struct UsersList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "One line per user and task.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @OptionGroup var page: PageOptions

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let repository = UserRepository(client)
      let after = try page.place(2).map {
        StreamID(userID: $0[0].string ?? "", task: $0[1].string ?? "")
      }
      let rows = try await repository.streams(
        after: after ?? StreamID(userID: "", task: ""), limit: page.limit + 1)
      try format.print(
        Page(rows, limit: page.limit, total: try await repository.count()) {
          [.string($0.userID), .string($0.task)]
        },
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
      // One document, also of a user with several tasks.
      guard format.output == .text else { return try format.print(streams, empty: "", columns: []) }
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
            + (stream.evaluation?.signals ?? []).map {
              ("signal \($0.kind.rawValue)", $0.explanation)
            })
        print("")
      }
    }
  }
}

struct UsersErase: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "erase", abstract: "Forget a user: events, state, jobs, adapters, answers.",
    discussion: """
      At once in PostgreSQL, in one transaction, and for every message that was sent until then, whenever it is \
      read. A message without a value goes into every partition of the events' topic; where no broker answers, a \
      worker with the role schedule sends it later. What Kafka's topics hold is theirs to delete. Exit code 1 where \
      nothing of the user is found. Without --execute it shows what there is.
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
      let erasure = UserErasure(
        client: client, kafka: configuration.kafka, key: configuration.receiptKey)
      let plan = try await erasure.plan(user)
      let outcome = execute ? try await erasure.execute(user) : nil
      try format.print(
        plan.map {
          Row(table: $0.table, rows: $0.rows, state: execute ? "erased" : "to be erased")
        },
        empty: "",
        columns: [
          .init("table") { $0.table }, .init("rows") { "\($0.rows)" }, .init("state") { $0.state },
        ])
      guard let outcome else {
        let isKnown = plan.contains { $0.rows > 0 }
        if !isKnown { Failure.say("nothing of a user \"\(user)\" is there") }
        if format.output == .text { print("Nothing was erased; run again with --execute.") }
        if !isKnown { throw ExitCode.failure }
        return
      }
      if format.output == .text { print(Self.describe(outcome)) }
      if case .nothing(let similar) = outcome.found {
        let hint =
          similar.isEmpty
          ? "" : "; there is \(similar.map { "\"\($0)\"" }.joined(separator: ", "))"
        Failure.say("nothing of a user \"\(user)\" was found\(hint). There is no receipt")
        throw ExitCode.failure
      }
    }
  }

  private static func describe(_ outcome: UserErasure.Outcome) -> String {
    let receipt =
      switch outcome.found {
      case .something: "A receipt was written"
      case .before: "Nothing was left: the user had been erased before, which the receipt counts"
      case .nothing: "Nothing was erased"
      }
    switch outcome.told {
    case .success(let partitions): return "\(receipt), and \(partitions) partitions were told."
    case .failure(let error):
      return
        "\(receipt). The topic is told by a worker with the role schedule as soon as it can be; now: \(error)"
    }
  }
}

struct UsersReceipts: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "receipts", abstract: "What stays of erased users, the newest first.",
    discussion: "A receipt knows its user by a hash only: give --user to find those of one.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @OptionGroup var page: PageOptions
  @Option(name: .long, help: "Only those of this user.") var user: String?

  func run() async throws {
    try await withDatabase(options) { client, configuration in
      let key = configuration.receiptKey
      try await key.settle(in: client)
      let receipts = try await ErasureRepository.receipts(
        of: user, key: key, before: page.number(), limit: page.limit + 1, in: client)
      try format.print(
        Page(receipts.rows, limit: page.limit, total: receipts.total) {
          [.number(Double($0.receiptID))]
        },
        empty: "Nobody was erased.",
        columns: [
          .init("receipt") { "\($0.receiptID)" }, .init("user (hash)") { $0.userHash },
          .init("events") { "\($0.removed.events)" },
          .init("adapters") { "\($0.removed.adapters)" },
          .init("jobs") { "\($0.removed.jobs)" }, .init("answers") { "\($0.removed.answers)" },
          .init("times") { "\($0.times)" }, .init("erased") { Show.time($0.erasedAt) },
        ])
      let waiting = try await ErasureRepository.toTell(in: client).count
      if waiting > 0, format.output == .text {
        print("\(waiting) erasures are still to be told to the topic.")
      }
    }
  }
}
