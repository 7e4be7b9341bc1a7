// `admin dlq`: what could not be taken, why, and sending it again.

import ArgumentParsing
import Foundation
import KafkaClient
import Worker

struct AdminDLQ: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dlq", abstract: "Dead letters.",
    subcommands: [DLQList.self, DLQShow.self, DLQReplay.self], defaultSubcommand: DLQList.self)
}

/// Which dead letters a command is about.
struct DeadLetterOptions: ParsableArguments {
  enum Source: String, ExpressibleByArgument, CaseIterable { case events, requests }

  @Option(name: .long, help: "Dead letters of the events' or the requests' topic.")
  var of: Source = .events
  @Option(name: .long, help: "Only this code, such as unknown_task.") var code: String?
  @Option(name: .long, help: "Only this stage: decode, store or reply.") var stage: String?
  @Option(name: .long, help: "Only messages with this key (the user's id, as a rule).")
  var key: String?
  @Option(name: .long, help: "Only messages from this RFC 3339 time on.") var since: String?

  func filter() throws -> DeadLetterFilter {
    var filter = DeadLetterFilter()
    filter.code = code
    filter.stage = stage
    filter.key = key
    if let since {
      guard let date = try? Date(since, strategy: .iso8601) else {
        throw ValidationError("--since takes a time such as 2026-01-31T09:30:00Z.")
      }
      filter.since = date
    }
    return filter
  }

  func box(_ configuration: WorkerConfiguration) -> DeadLetterBox {
    let kafka = configuration.kafka
    return DeadLetterBox(
      kafka: kafka, topic: of == .events ? kafka.behaviorTopic : kafka.requestTopic)
  }
}

extension OutputOptions {
  fileprivate func print(_ letters: [DeadLetterRecord], empty: String) throws {
    try print(
      letters, empty: empty,
      columns: [
        .init("letter") { $0.name },
        .init("from") { letter in
          "\(letter.originalTopic)-\(Show.optional(letter.originalPartition))@\(Show.optional(letter.originalOffset))"
        },
        .init("time") { Show.time($0.timestamp) }, .init("key") { $0.key ?? "–" },
        .init("stage") { $0.stage }, .init("code") { $0.code },
        .init("reason") { $0.reason.count > 70 ? "\($0.reason.prefix(70))…" : $0.reason },
      ])
  }
}

struct DLQList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "One line per dead letter, in each partition oldest first.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @OptionGroup var which: DeadLetterOptions
  @Option(name: .long, help: "Letters at most.") var limit = 200

  func run() async throws {
    try await Failure.explain {
      let configuration = try options.load()
      var letters: [DeadLetterRecord] = []
      try await which.box(configuration).read(try which.filter()) { letter in
        letters.append(letter)
        return letters.count < limit
      }
      try format.print(letters, empty: "There are no such dead letters.")
    }
  }
}

struct DLQShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "One dead letter with its headers and its value.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @OptionGroup var which: DeadLetterOptions
  @Argument(help: "The letter, as `dlq list` names it: partition-offset.") var letter: String

  func run() async throws {
    try await Failure.explain {
      let configuration = try options.load()
      var filter = DeadLetterFilter()
      filter.names = [letter]
      var found: DeadLetterRecord?
      try await which.box(configuration).read(filter) { letter in
        found = letter
        return false
      }
      guard let found else {
        Failure.say("there is no dead letter \(letter)")
        throw ExitCode.failure
      }
      try format.print(
        found,
        lines: [
          ("letter", found.name), ("topic", found.originalTopic),
          ("partition", Show.optional(found.originalPartition)),
          ("offset", Show.optional(found.originalOffset)), ("time", Show.time(found.timestamp)),
          ("key", found.key ?? "–"), ("stage", found.stage), ("code", found.code),
          ("reason", found.reason),
        ]
          + found.headers.sorted { $0.key < $1.key }.map { ("header \($0.key)", $0.value) }
          + [
            ("value", found.valueBytes.map { "\($0) bytes" } ?? "none"), ("", found.preview),
          ])
    }
  }
}

struct DLQReplay: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replay", abstract: "Send dead letters' messages to where they came from.",
    discussion: """
      For messages that can be taken by now: a task was added, an answer is on record. Key, value, headers, \
      partition and timestamp are the message's own. The letters stay where they are; replayed twice, an event \
      without an event_id counts twice. Without --execute it shows which letters are meant.
      """)

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @OptionGroup var which: DeadLetterOptions
  @Argument(help: "Letters as `dlq list` names them; none: all that the options choose.")
  var letters: [String] = []
  @Flag(name: .long, help: "All letters, where neither letters nor options choose some.")
  var all = false
  @Flag(name: .long, help: "Send them.") var execute = false

  func validate() throws {
    let chosen = [which.code, which.stage, which.key, which.since].contains { $0 != nil }
    guard !letters.isEmpty || chosen || all else {
      throw ValidationError(
        "Name letters, choose some by --code, --stage, --key or --since, or give --all.")
    }
  }

  func run() async throws {
    try await Failure.explain {
      let configuration = try options.load()
      var filter = try which.filter()
      filter.names = Set(letters)
      let box = which.box(configuration)
      var chosen: [DeadLetterRecord] = []
      try await box.read(filter) { letter in
        chosen.append(letter)
        return true
      }
      let cut = chosen.filter(\.isCut)
      chosen.removeAll(where: \.isCut)
      for letter in cut {
        Failure.say(
          "letter \(letter.name) holds only the beginning of its message; the whole is at \(letter.originalTopic)-\(Show.optional(letter.originalPartition)), offset \(Show.optional(letter.originalOffset))"
        )
      }
      let missing = Set(letters).subtracting((chosen + cut).map(\.name))
      guard missing.isEmpty else {
        Failure.say("there is no dead letter \(missing.sorted().joined(separator: ", "))")
        throw ExitCode.failure
      }
      try format.print(chosen, empty: "There are no such dead letters.")
      guard !chosen.isEmpty else { return }
      guard execute else {
        if format.output == .text { print("Nothing was sent; run again with --execute.") }
        return
      }
      let failures = try await box.replay(chosen)
      for (index, error) in failures.sorted(by: { $0.key < $1.key }) {
        Failure.say("letter \(chosen[index].name) was not sent: \(error)")
      }
      if format.output == .text { print("\(chosen.count - failures.count) messages sent.") }
      if !failures.isEmpty { throw ExitCode.failure }
    }
  }
}
