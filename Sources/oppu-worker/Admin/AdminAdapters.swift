// `admin adapters`: the versions of users' adapters, with the numbers that decided on them.

import ArgumentParser
import Foundation
import Storage

struct AdminAdapters: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "adapters", abstract: "Adapter versions.",
    subcommands: [
      AdaptersList.self, AdaptersShow.self, AdaptersExport.self, AdaptersImport.self,
    ], defaultSubcommand: AdaptersList.self)
}

struct AdaptersList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "One line per version, oldest first.")

  @OptionGroup var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @OptionGroup var filter: StreamFilter

  func run() async throws {
    try await withDatabase(options) { client, _ in
      try format.print(
        try await AdapterRepository(client).list(
          userID: filter.user, task: filter.task, limit: filter.limit),
        empty: "There are no adapters.",
        columns: [
          .init("user") { $0.userID }, .init("task") { $0.task },
          .init("version") { "v\($0.version)" }, .init("state") { $0.state.rawValue },
          .init("parent") { $0.parentVersion.map { "v\($0)" } ?? "base model" },
          .init("examples") { $0.training["examples"]?.plainText ?? "–" },
          .init("held-out loss before") { Show.loss($0.gate.parentLoss) },
          .init("after") { Show.loss($0.gate.candidateLoss) },
          .init("size") { Show.bytes($0.byteCount) },
          .init("created") { Show.time($0.createdAt) },
        ])
    }
  }
}

struct AdaptersShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "One version, its lineage and its gate.")

  @OptionGroup var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The user's id.") var user: String
  @Argument(help: "The task.") var task: String
  @Argument(help: "The version's number.") var version: Int

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let found = try await AdapterRepository(client).get(
        Stream(userID: user, task: task), version: version)
      guard let found else {
        Failure.say("\(user)/\(task) has no adapter version \(version)")
        throw ExitCode.failure
      }
      try format.print(
        found,
        lines: [
          ("user", found.userID), ("task", found.task), ("version", "v\(found.version)"),
          ("state", found.state.rawValue),
          ("parent", found.parentVersion.map { "v\($0)" } ?? "base model"),
          ("base model fingerprint", found.baseFingerprint),
          ("trained through event", "\(found.trainedThrough)"), ("job", "\(found.jobID)"),
          ("training", found.training.canonical), ("verdict", found.gate.verdict),
          ("held-out examples", "\(found.gate.heldOutExamples)"),
          ("held-out loss before", Show.loss(found.gate.parentLoss)),
          ("held-out loss after", Show.loss(found.gate.candidateLoss)),
          ("difference, 95 % bound", Show.loss(found.gate.differenceUpperBound)),
          ("size", Show.bytes(found.byteCount)), ("SHA-256", found.weightsSHA256),
          ("created", Show.time(found.createdAt)), ("promoted", Show.time(found.promotedAt)),
        ])
    }
  }
}
