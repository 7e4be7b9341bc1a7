// `admin dlq`: what could not be taken, why, and sending it again.

import ArgumentParsing
import Foundation
import KafkaClient
import Storage
import Worker

struct AdminDLQ: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dlq", abstract: "Dead letters.",
    subcommands: [DLQList.self, DLQShow.self, DLQReplay.self, DLQPurge.self],
    defaultSubcommand: DLQList.self)
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
  @Option(
    name: .long,
    help: "Only messages from this time on: RFC 3339, or how long ago, such as 1h or 7d.")
  var since: String?

  func validate() throws { _ = try filter() }

  func filter(now: Date = Date()) throws -> DeadLetterFilter {
    var filter = DeadLetterFilter()
    filter.code = code
    filter.stage = stage
    filter.key = key
    if let since {
      guard let date = PastTime.date(since, now: now) else {
        throw ValidationError("--since takes a time such as 2026-01-31T09:30:00Z, or 30m, 1h, 7d.")
      }
      filter.since = date
    }
    return filter
  }

  func box(_ configuration: WorkerConfiguration) -> DeadLetterBox {
    DeadLetterBox(kafka: configuration.kafka, topic: of.topic(configuration.kafka))
  }
}

extension DeadLetterOptions.Source {
  func topic(_ kafka: WorkerConfiguration.Kafka) -> String {
    self == .events ? kafka.behaviorTopic : kafka.requestTopic
  }
}

/// What tables of dead letters show.
enum DLQ {
  static var columns: [OutputOptions.TableColumn<DeadLetterRecord>] {
    [
      .init("letter") { $0.name },
      .init("from") { letter in
        "\(letter.originalTopic)-\(Show.optional(letter.originalPartition))@\(Show.optional(letter.originalOffset))"
      },
      .init("time") { Show.time($0.timestamp) }, .init("key") { $0.key ?? "–" },
      .init("stage") { $0.stage }, .init("code") { $0.code },
      .init("replayed") { Show.time($0.replayedAt) },
      .init("reason") { $0.reason.count > 70 ? "\($0.reason.prefix(70))…" : $0.reason },
    ]
  }
}

struct DLQList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "One line per dead letter, by partition, oldest first.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @OptionGroup var which: DeadLetterOptions
  @OptionGroup var page: PageOptions
  @Flag(name: .long, help: "The newest messages of all partitions first.") var newest = false

  func run() async throws {
    try await withDatabase(options) { client, configuration in
      let after = try page.place(newest ? 3 : 2)?.map { try PageOptions.number($0) }
      let box = which.box(configuration)
      var total = 0
      // No more than the page is kept, however many there are.
      var letters: [(place: [Int64], letter: DeadLetterRecord)] = []
      try await box.read(try which.filter()) { letter in
        total += 1
        let place = place(letter)
        if let after, !isBehind(place, after) { return true }
        let index = letters.firstIndex { isBehind($0.place, place) } ?? letters.count
        letters.insert((place, letter), at: index)
        if letters.count > page.limit + 1 { letters.removeLast() }
        return true
      }
      try format.print(
        Page(
          try await box.mark(letters.map(\.letter), in: client), limit: page.limit, total: total
        ) { place($0).map { .number(Double($0)) } }, empty: "There are no such dead letters.",
        columns: DLQ.columns)
    }
  }

  private func place(_ letter: DeadLetterRecord) -> [Int64] {
    let time = letter.timestamp.map { Int64(($0.timeIntervalSince1970 * 1000).rounded()) } ?? 0
    return (newest ? [time] : []) + [Int64(letter.partition), letter.offset]
  }

  private func isBehind(_ place: [Int64], _ other: [Int64]) -> Bool {
    newest ? place.lexicographicallyPrecedes(other) : other.lexicographicallyPrecedes(place)
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
    try await withDatabase(options) { client, configuration in
      var filter = DeadLetterFilter()
      filter.names = [letter]
      let box = which.box(configuration)
      var read: [DeadLetterRecord] = []
      try await box.read(filter) { letter in
        read.append(letter)
        return false
      }
      guard let found = try await box.mark(read, in: client).first else {
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
          ("reason", found.reason), ("replayed", Show.time(found.replayedAt)),
        ]
          + found.headers.sorted { $0.key < $1.key }.map { ("header \($0.key)", $0.value) }
          + [
            ("value", found.valueBytes.map { "\($0) bytes" } ?? "none"), ("", found.preview),
          ])
    }
  }
}
