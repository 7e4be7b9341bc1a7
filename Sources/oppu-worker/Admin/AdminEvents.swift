// `admin events`: a user's history as it is stored, sending it again, and back-filling from a file.

import ArgumentParsing
import Foundation
import KafkaClient
import Storage
import Worker

struct AdminEvents: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "events", abstract: "Behaviour events.",
    subcommands: [EventsList.self, EventsReplay.self, EventsImport.self])
}

struct EventsList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "A user's events, by task, oldest first.",
    discussion: "-o jsonl gives the events as messages, one a line: a file for `events import`.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The user's id.") var user: String
  @Option(name: .long, help: "Only this task.", completion: .taskNames) var task: String?
  @OptionGroup var page: PageOptions
  @Flag(name: .long, help: "What happened last comes first.") var newest = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let repository = HistoryRepository(client)
      let rows: [HistoryRepository.EventRecord]
      if newest {
        let before = try page.place(3).map {
          (
            microseconds: try PageOptions.number($0[0]), task: $0[1].string ?? "",
            ordinal: try PageOptions.number($0[2])
          )
        }
        rows = try await repository.newestRecords(
          userID: user, task: task, before: before, limit: page.limit + 1)
      } else {
        let after = try page.place(2).map {
          (task: $0[0].string ?? "", ordinal: try PageOptions.number($0[1]))
        }
        rows = try await repository.records(
          userID: user, task: task, after: after ?? ("", 0), limit: page.limit + 1)
      }
      let total = try await repository.count(userID: user, task: task)
      try format.print(
        Page(rows, limit: page.limit, total: total) { row in
          (newest ? [.number(Double(row.occurredMicroseconds))] : [])
            + [.string(row.task), .number(Double(row.ordinal))]
        },
        empty: "There are no events of \"\(user)\".",
        columns: [
          .init("task") { $0.task }, .init("number") { "\($0.ordinal)" },
          .init("event") { $0.eventID }, .init("kind") { $0.verdict ?? $0.kind },
          .init("occurred") { Show.time($0.occurredAt) },
          .init("output") { String(($0.output ?? "–").prefix(40)) },
          .init("input") { String($0.input.canonical.prefix(60)) },
          .init("from") { $0.place },
        ])
    }
  }
}

struct EventsReplay: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replay",
    abstract: "Send a user's stored events to a topic again, in their order.",
    discussion: """
      Into another topic, or the same: there the events are known by their ids and are dropped, unless the user was \
      erased meanwhile. Without --execute it counts them.
      """)

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The user's id.") var user: String
  @Option(name: .long, help: "Only this task.", completion: .taskNames) var task: String?
  @Option(name: .long, help: "Into this topic [kafka.behaviorTopic].") var to: String?
  @Flag(name: .long, help: "Send them.") var execute = false

  private struct Replayed: Encodable {
    let userID: String
    /// Null: all tasks.
    let task: String?
    let topic: String
    let events: Int
  }

  func run() async throws {
    try await withDatabase(options) { client, configuration in
      if execute { try await requireBroker(configuration) }
      let producer =
        execute ? try KafkaProducer(configuration: configuration.kafka.operatorClient) : nil
      let topic = to ?? configuration.kafka.behaviorTopic
      let history = HistoryRepository(client)
      var after = (task: "", ordinal: Int64(0))
      var count = 0
      while true {
        let events = try await history.records(
          userID: user, task: task, after: after, limit: 1_000)
        guard let last = events.last else { break }
        after = (last.task, last.ordinal)
        count += events.count
        let failures = await producer?.send(
          events.map { event in
            OutgoingMessage(
              topic: topic, key: Data(event.userID.utf8),
              value: Data(event.message.canonical.utf8), timestamp: event.occurredAt)
          })
        if let failure = failures?.first { throw failure.value }
      }
      await producer?.close()
      try format.print(
        "replay", executed: execute,
        Replayed(userID: user, task: task, topic: topic, events: count),
        plan: "\(count) events of \(user) would be sent to \(topic).",
        done: "\(count) events of \(user) sent to \(topic).")
    }
  }
}

struct EventsImport: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import", abstract: "Back-fill: send the events of a file to the topic.",
    discussion: """
      One event a line, as in messages. Every line is checked first, as ingest would; a file with lines that would \
      become dead letters is not sent, unless --skip-invalid. A line without event_id gets one made of its content: \
      the same file sent twice counts once. Without --execute it shows what the file holds.
      """)

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "A file of JSON lines.", completion: .file()) var file: String
  @Flag(name: .long, help: "Send the lines that can be taken, and leave out the others.")
  var skipInvalid = false
  @Flag(name: .long, help: "Send them.") var execute = false

  func run() async throws {
    try await Failure.explain {
      let configuration = try options.load()
      let importer = try EventImport(configuration: configuration)
      let progress = ProgressLine()
      var report = try importer.check(file) { bytes, size in
        progress.show(bytes >> 10, of: size >> 10, "KiB checked")
      }
      progress.end()
      for problem in report.problems {
        Failure.say("\(file):\(problem.line): \(problem.reason) [\(problem.code)]")
      }
      let tasks = report.tasks.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
      if format.output == .text || !execute || report.invalid > 0 && !skipInvalid {
        try format.print(
          report,
          lines: [
            ("lines", "\(report.lines)"), ("events", "\(report.events)"),
            ("users", "\(report.users)"), ("tasks", tasks.joined(separator: ", ")),
            ("cannot be taken", "\(report.invalid)"),
          ])
      }
      guard report.invalid == 0 || skipInvalid else {
        Failure.say("nothing was sent; correct the lines, or leave them out with --skip-invalid")
        throw ExitCode.failure
      }
      guard execute else {
        if format.output == .text { print("Nothing was sent; run again with --execute.") }
        return
      }
      try await requireBroker(configuration)
      let sending = ProgressLine()
      let sent = try await importer.send(file) { events in
        sending.show(events, of: report.events, "events sent")
      }
      sending.end()
      report.sent = sent
      if format.output == .text {
        print("\(sent) events sent.")
      } else {
        try format.print(report, lines: [])
      }
    }
  }
}
