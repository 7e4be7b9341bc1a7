// `admin dlq replay` and `purge`: dead letters sent again, and deleted.

import ArgumentParsing
import Foundation
import Storage
import Worker

struct DLQReplay: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replay", abstract: "Send dead letters' messages to where they came from.",
    discussion: """
      For messages that can be taken by now: a task was added, an answer is on record. Key, value, headers and \
      partition are the message's own, of events the timestamp too; a request's deadline begins again. The letters \
      stay where they are and are marked: what was replayed is not sent again, unless --again. An event without an \
      event_id is known by the place where it stood first. Without --execute it shows which letters are meant.
      """)

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @OptionGroup var which: DeadLetterOptions
  @Argument(help: "Letters as `dlq list` names them; none: all that the options choose.")
  var letters: [String] = []
  @Flag(name: .long, help: "All letters, where neither letters nor options choose some.")
  var all = false
  @Flag(name: .long, help: "Also those that were replayed before.") var again = false
  @Flag(name: .long, help: "Send them.") var execute = false

  func validate() throws {
    let chosen = [which.code, which.stage, which.key, which.since].contains { $0 != nil }
    guard !letters.isEmpty || chosen || all else {
      throw ValidationError(
        "Name letters, choose some by --code, --stage, --key or --since, or give --all.")
    }
  }

  func run() async throws {
    try await withDatabase(options) { client, configuration in
      var filter = try which.filter()
      filter.names = Set(letters)
      let box = which.box(configuration)
      var chosen: [DeadLetterRecord] = []
      try await box.read(filter) { letter in
        chosen.append(letter)
        return true
      }
      let missing = Set(letters).subtracting(chosen.map(\.name))
      guard missing.isEmpty else {
        Failure.say("there is no dead letter \(missing.sorted().joined(separator: ", "))")
        throw ExitCode.failure
      }
      chosen = try await box.mark(chosen, in: client)
      let sendable = chosen.filter { !$0.isCut }
      let (sent, failures) =
        execute
        ? try await box.replay(sendable, again: again, in: client) : (Set<Int>(), [:])
      var states: [String: String] = [:]
      for (index, letter) in sendable.enumerated() {
        states[letter.name] =
          sent.contains(index)
          ? "sent"
          : failures[index].map { "failed: \($0)" }
            ?? (execute || letter.replayedAt != nil && !again
              ? "replayed before" : "to be sent")
      }
      let rows = chosen.map { letter in
        Row(
          record: letter,
          state: states[letter.name] ?? "cut: only the beginning of its message is here")
      }
      try format.print(
        rows, empty: "There are no such dead letters.",
        columns: DLQ.columns.map { column in .init(column.title) { column.value($0.record) } } + [
          .init("state") { $0.state }
        ])
      for letter in chosen where letter.isCut {
        Failure.say(
          "letter \(letter.name) holds only the beginning of its message; the whole is at \(letter.originalTopic)-\(Show.optional(letter.originalPartition)), offset \(Show.optional(letter.originalOffset))"
        )
      }
      guard !chosen.isEmpty else { return }
      if format.output == .text {
        let before = rows.count { $0.state == "replayed before" }
        print(
          (execute ? "\(sent.count) messages sent" : "Nothing was sent; run again with --execute")
            + (before > 0 ? "; \(before) were replayed before (--again sends them, too)." : "."))
      }
      for (index, error) in failures.sorted(by: { $0.key < $1.key }) {
        Failure.say("letter \(sendable[index].name) was not sent: \(error)")
      }
      if !failures.isEmpty { throw ExitCode.failure }
    }
  }

  /// A letter and what becomes of it.
  private struct Row: Encodable {
    let record: DeadLetterRecord
    let state: String

    func encode(to encoder: any Encoder) throws {
      try record.encode(to: encoder)
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(state, forKey: .state)
    }

    enum CodingKeys: CodingKey { case state }
  }
}

struct DLQPurge: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "purge", abstract: "Delete the oldest dead letters.",
    discussion: """
      Kafka deletes from the beginning of a partition only: in each one the letters go up to the first that is to \
      stay. Needs Delete on the topic. Without --execute it shows how many would go.
      """)

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Option(name: .long, help: "Dead letters of the events' or the requests' topic.")
  var of: DeadLetterOptions.Source = .events
  @Option(
    name: .long,
    help: "Only messages from before this time: RFC 3339, or how long ago, such as 7d.")
  var before: String?
  @Flag(name: .long, help: "Only letters that were replayed.") var replayed = false
  @Flag(name: .long, help: "All, where neither --before nor --replayed chooses some.")
  var all = false
  @Flag(name: .long, help: "Do it. It cannot be undone.") var execute = false

  private struct Row: Encodable {
    let partition: Int32
    let letters: Int
    /// The first offset that stays.
    let below: Int64
    let state: String
  }

  func validate() throws {
    guard before != nil || replayed || all else {
      throw ValidationError("Choose letters by --before or --replayed, or give --all.")
    }
    if let before, PastTime.date(before, now: Date()) == nil {
      throw ValidationError("--before takes a time such as 2026-01-31T09:30:00Z, or 12h, 7d.")
    }
  }

  func run() async throws {
    try await withDatabase(options) { client, configuration in
      let box = DeadLetterBox(kafka: configuration.kafka, topic: of.topic(configuration.kafka))
      var letters: [(mark: DeadLetterMark, time: Date?)] = []
      try await box.read(DeadLetterFilter()) { letter in
        letters.append((letter.mark, letter.timestamp))
        return true
      }
      let times = replayed ? try await box.replayTimes(of: letters.map(\.mark), in: client) : [:]
      let end = before.flatMap { PastTime.date($0, now: Date()) }
      var going: [Int32: (letters: Int, below: Int64)] = [:]
      var staying: Set<Int32> = []
      for (mark, time) in letters where !staying.contains(mark.partition) {
        let isOld = end.map { end in time.map { $0 < end } ?? false } ?? true
        guard isOld, !replayed || times[mark] != nil else {
          staying.insert(mark.partition)
          continue
        }
        going[mark.partition] = ((going[mark.partition]?.letters ?? 0) + 1, mark.offset + 1)
      }
      if execute { try await box.purge(below: going.mapValues(\.below), in: client) }
      try format.print(
        going.sorted { $0.key < $1.key }.map {
          Row(
            partition: $0.key, letters: $0.value.letters, below: $0.value.below,
            state: execute ? "deleted" : "to be deleted")
        }, empty: "No such letter is at the beginning of a partition.",
        columns: [
          .init("partition") { "\($0.partition)" }, .init("letters") { "\($0.letters)" },
          .init("first offset that stays") { "\($0.below)" }, .init("state") { $0.state },
        ])
      if !execute, !going.isEmpty, format.output == .text {
        print("Nothing was deleted; run again with --execute.")
      }
    }
  }
}
