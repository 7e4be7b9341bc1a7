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
    commandName: "list", abstract: "A user's events, oldest first.",
    discussion: "-o jsonl gives the events as messages, one a line: a file for `events import`.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The user's id.") var user: String
  @Option(name: .long, help: "Only this task.", completion: .taskNames) var task: String?
  @Option(name: .long, help: "Events at most.") var limit = 200

  func run() async throws {
    try await withDatabase(options) { client, _ in
      try format.print(
        try await HistoryRepository(client).records(userID: user, task: task, limit: limit),
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
  @Argument(help: "The user's id.") var user: String
  @Option(name: .long, help: "Only this task.", completion: .taskNames) var task: String?
  @Option(name: .long, help: "Into this topic [kafka.behaviorTopic].") var to: String?
  @Flag(name: .long, help: "Send them.") var execute = false

  func run() async throws {
    try await withDatabase(options) { client, configuration in
      let producer =
        execute ? try KafkaProducer(configuration: configuration.kafka.client) : nil
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
      print(
        execute
          ? "\(count) events of \(user) sent to \(topic)."
          : "\(count) events of \(user) would be sent to \(topic); run again with --execute.")
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
      let importer = try EventImport(configuration: try options.load())
      let progress = ProgressLine()
      let report = try importer.check(file) { bytes, size in
        progress.show(bytes >> 10, of: size >> 10, "KiB checked")
      }
      progress.end()
      for problem in report.problems {
        Failure.say("\(file):\(problem.line): \(problem.reason) [\(problem.code)]")
      }
      let tasks = report.tasks.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
      try format.print(
        report,
        lines: [
          ("lines", "\(report.lines)"), ("events", "\(report.events)"),
          ("users", "\(report.users)"), ("tasks", tasks.joined(separator: ", ")),
          ("cannot be taken", "\(report.invalid)"),
        ])
      guard report.invalid == 0 || skipInvalid else {
        Failure.say("nothing was sent; correct the lines, or leave them out with --skip-invalid")
        throw ExitCode.failure
      }
      guard execute else {
        if format.output == .text { print("Nothing was sent; run again with --execute.") }
        return
      }
      let sending = ProgressLine()
      let sent = try await importer.send(file) { events in
        sending.show(events, of: report.events, "events sent")
      }
      sending.end()
      if format.output == .text { print("\(sent) events sent.") }
    }
  }
}
