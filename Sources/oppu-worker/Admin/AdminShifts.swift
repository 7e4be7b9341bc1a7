// `admin shifts`: what the scheduler decided, and the numbers it decided on.

import ArgumentParser
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

  @OptionGroup var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @OptionGroup var filter: StreamFilter
  @Flag(name: .long, help: "Every decision of the scheduler.") var all = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      try format.print(
        try await ScheduleRepository(client).decisions(
          userID: filter.user, task: filter.task, reason: all ? nil : "shift_detected",
          limit: filter.limit),
        empty: all ? "The scheduler has decided nothing yet." : "No shift was detected.",
        columns: [
          .init("decision") { "\($0.decisionID)" }, .init("user") { $0.userID },
          .init("task") { $0.task }, .init("at event") { "\($0.ordinal)" },
          .init("change at") { Show.optional($0.changeOrdinal) },
          .init("action") { $0.action }, .init("reason") { $0.reason },
          .init("job") { Show.optional($0.jobID) }, .init("signals") { Show.signals($0.signals) },
        ])
    }
  }
}

struct ShiftsShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "One decision with every number.")

  @OptionGroup var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The decision's number.") var decision: Int64

  func run() async throws {
    try await withDatabase(options) { client, _ in
      guard let found = try await ScheduleRepository(client).decision(decision) else {
        Failure.say("there is no decision \(decision)")
        throw ExitCode.failure
      }
      let signals = (found.signals.array ?? []).map { signal in
        ("signal \(signal["kind"]?.string ?? "?")", signal.canonical)
      }
      try format.print(
        found,
        lines: [
          ("decision", "\(found.decisionID)"), ("user", found.userID), ("task", found.task),
          ("at event", "\(found.ordinal)"), ("change at event", Show.optional(found.changeOrdinal)),
          ("action", found.action), ("reason", found.reason), ("job", Show.optional(found.jobID)),
          ("decided", Show.time(found.decidedAt)), ("numbers", found.numbers.canonical),
        ] + signals)
    }
  }
}
