// `admin shifts`: what the scheduler decided, and the numbers it decided on.

import ArgumentParsing
import Foundation
import Storage

struct AdminShifts: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "shifts", abstract: "Shifts and the scheduler's decisions.",
    subcommands: [ShiftsList.self, ShiftsShow.self], defaultSubcommand: ShiftsList.self)
}

struct ShiftsList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Detected shifts, newest first; --all for every decision.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @OptionGroup var filter: StreamFilter
  @OptionGroup var page: PageOptions
  @Flag(name: .long, help: "Every decision of the scheduler.") var all = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let repository = ScheduleRepository(client)
      let reason = all ? nil : "shift_detected"
      let rows = try await repository.decisions(
        userID: filter.user, task: filter.task, reason: reason, before: page.number(),
        limit: page.limit + 1)
      let total = try await repository.count(
        userID: filter.user, task: filter.task, reason: reason)
      try format.print(
        Page(rows, limit: page.limit, total: total) { [.number(Double($0.decisionID))] },
        empty: all ? "The scheduler has decided nothing yet." : "No shift was detected.",
        columns: [
          .init("decision") { "\($0.decisionID)" }, .init("user") { $0.userID },
          .init("task") { $0.task }, .init("at event") { "\($0.ordinal)" },
          .init("change at") { Show.optional($0.changeOrdinal) },
          .init("action") { $0.action }, .init("reason") { $0.reason },
          .init("job") { Show.optional($0.jobID) }, .init("signals") { Show.alarms($0.signals) },
        ])
    }
  }
}

struct ShiftsShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "One decision in words, with every number, and the user's timeline.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The decision's number.") var decision: Int64

  func run() async throws {
    try await withDatabase(options) { client, _ in
      guard let found = try await ScheduleRepository(client).decision(decision) else {
        Failure.say("there is no decision \(decision)")
        throw ExitCode.failure
      }
      let stream = StreamID(userID: found.userID, task: found.task)
      let signals = found.signals.map { ("signal \($0.kind.rawValue)", DecisionStory.signal($0)) }
      let numbers = try Show.fields(found.numbers)
      if format.output == .text { print(DecisionStory.sentences(found) + "\n") }
      try format.print(
        found,
        lines: [
          ("decision", "\(found.decisionID)"), ("user", found.userID), ("task", found.task),
          ("at event", "\(found.ordinal)"), ("change at event", Show.optional(found.changeOrdinal)),
          ("action", found.action), ("reason", found.reason), ("job", Show.optional(found.jobID)),
          ("decided", Show.time(found.decidedAt)),
        ] + signals + numbers)
      guard format.output == .text else { return }
      let events = try await UserRepository(client).streams(userID: found.userID)
        .first { $0.task == found.task }?.events
      print("")
      for line in DecisionStory.timeline(
        events: events ?? found.ordinal,
        decisions: try await ScheduleRepository(client).decisions(
          userID: stream.userID, task: stream.task, limit: 1_000),
        adapters: try await AdapterRepository(client).list(
          userID: stream.userID, task: stream.task, limit: 1_000), marked: found.ordinal)
      {
        print(line)
      }
    }
  }
}
