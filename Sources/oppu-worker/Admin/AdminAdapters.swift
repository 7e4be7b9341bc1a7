// `admin adapters`: the versions of users' adapters, with the numbers that decided on them.

import ArgumentParsing
import Foundation
import Storage

struct AdminAdapters: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "adapters", abstract: "Adapter versions.",
    subcommands: [
      AdaptersList.self, AdaptersShow.self, AdaptersPromote.self, AdaptersRollback.self,
      AdaptersExport.self, AdaptersImport.self,
    ], defaultSubcommand: AdaptersList.self)
}

struct AdaptersList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "One line per version, by user and task, oldest first.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @OptionGroup var filter: StreamFilter
  @OptionGroup var page: PageOptions
  @Flag(name: .long, help: "The newest of all users first.") var newest = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let repository = AdapterRepository(client)
      let rows: [AdapterRecord]
      if newest {
        rows = try await repository.newest(
          userID: filter.user, task: filter.task, before: page.number(), limit: page.limit + 1)
      } else {
        let after = try page.place(3).map { place in
          (
            StreamID(userID: place[0].string ?? "", task: place[1].string ?? ""),
            version: Int(try PageOptions.number(place[2]))
          )
        }
        rows = try await repository.list(
          userID: filter.user, task: filter.task, after: after, limit: page.limit + 1)
      }
      let total = try await repository.count(userID: filter.user, task: filter.task)
      try format.print(
        Page(rows, limit: page.limit, total: total) { row in
          newest
            ? [.number(Double(row.jobID))]
            : [.string(row.userID), .string(row.task), .number(Double(row.version))]
        },
        empty: "There are no adapters.",
        columns: [
          .init("user") { $0.userID }, .init("task") { $0.task },
          .init("version") { "v\($0.version)" }, .init("state") { $0.state.rawValue },
          .init("parent") { $0.parentVersion.map { "v\($0)" } ?? "base model" },
          .init("examples") { Show.optional($0.training.numbers?.examples) },
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

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The user's id.") var user: String
  @Argument(help: "The task.", completion: .taskNames) var task: String
  @Argument(help: "The version's number.") var version: Int

  /// A version with the versions it was trained from, itself first.
  private struct Shown: Encodable {
    let record: AdapterRecord
    let lineage: [Int]

    func encode(to encoder: any Encoder) throws {
      try record.encode(to: encoder)
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(lineage, forKey: .lineage)
    }

    enum CodingKeys: CodingKey { case lineage }
  }

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let found = try await AdapterRepository(client).get(
        StreamID(userID: user, task: task), version: version)
      guard let found else {
        Failure.say("\(user)/\(task) has no adapter version \(version)")
        throw ExitCode.failure
      }
      let line = try await AdapterRepository(client).lineage(found.stream, version: version)
      let shown = Shown(record: found, lineage: line.map(\.version))
      let root = line.last?.parentVersion == nil ? "base model" : "(removed)"
      try format.print(
        shown,
        lines: [
          ("user", found.userID), ("task", found.task), ("version", "v\(found.version)"),
          ("state", found.state.rawValue),
          ("lineage", (line.map { "v\($0.version)" } + [root]).joined(separator: " ← ")),
          ("took the place of", found.replacedVersion.map { "v\($0)" } ?? "no adapter"),
          ("base model fingerprint", found.baseFingerprint),
          ("trained through event", "\(found.trainedThrough)"), ("job", "\(found.jobID)"),
          ("training", try Show.line(found.training)), ("verdict", found.gate.verdict),
          ("held-out examples", "\(found.gate.heldOutExamples)"),
          ("held-out loss before", Show.loss(found.gate.parentLoss)),
          ("held-out loss after", Show.loss(found.gate.candidateLoss)),
          (
            "difference, its bound",
            Show.bounded(found.gate.difference, found.gate.differenceUpperBound)
          ),
          ("held-out loss of the base model", Show.loss(found.gate.baseLoss)),
          (
            "difference, its bound",
            Show.bounded(found.gate.baseDifference, found.gate.baseDifferenceUpperBound)
          ),
          ("profile", found.profile.map { "\($0.version): \($0.text)" } ?? "computed"),
          ("live losses", Show.trial(found.trial)),
          (
            "size", Show.bytes(found.byteCount) + (found.hasWeights ? "" : ", removed by retention")
          ),
          ("SHA-256", found.weightsSHA256),
          ("created", Show.time(found.createdAt)), ("promoted", Show.time(found.promotedAt)),
        ])
    }
  }
}

/// Which version answers after a change, and which answered before it; null: the model without an adapter.
private struct Succession: Encodable {
  let userID: String
  let task: String
  let activeVersion: Int?
  let replacedVersion: Int?
}

struct AdaptersPromote: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "promote", abstract: "Make a stored version the one that answers.",
    discussion: """
      It is on trial like every promoted version: where live losses are worse than before, it is \
      rolled back by itself (schedule.trialEvents). Without --execute it shows the plan.
      """)

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The user's id.") var user: String
  @Argument(help: "The task.", completion: .taskNames) var task: String
  @Argument(help: "The version's number.") var version: Int
  @Flag(name: .long, help: "Also a version that was rejected or rolled back.") var force = false
  @Flag(name: .long, help: "Do it.") var execute = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let stream = StreamID(userID: user, task: task)
      let (replaced, found) = try await client.withTransaction(isRehearsal: !execute) {
        connection in
        let repository = AdapterRepository(connection)
        let replaced = try await repository.promote(stream, version: version, force: force)
        return (replaced, try await repository.get(stream, version: version))
      }
      try format.print(
        "promote", executed: execute,
        Succession(userID: user, task: task, activeVersion: version, replacedVersion: replaced),
        plan:
          "Version \(version) of \(stream) (\(found?.gate.verdict ?? "")) would take the place of "
          + "\(replaced.map { "version \($0)" } ?? "no adapter").",
        done: "Version \(version) of \(stream) is active.")
    }
  }
}

struct AdaptersRollback: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rollback", abstract: "Put back what the active version had replaced.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions
  @Argument(help: "The user's id.") var user: String
  @Argument(help: "The task.", completion: .taskNames) var task: String
  @Flag(name: .long, help: "Do it.") var execute = false

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let stream = StreamID(userID: user, task: task)
      let change = try await client.withTransaction(isRehearsal: !execute) { connection in
        try await AdapterRepository(connection).rollBack(stream, reason: "operator")
      }
      guard let change else { throw PromotionError(description: "\(stream) has no active adapter") }
      let before = change.to.map { "version \($0)" } ?? "no adapter"
      try format.print(
        "rollback", executed: execute,
        Succession(
          userID: user, task: task, activeVersion: change.to, replacedVersion: change.from),
        plan: "Version \(change.from) of \(stream) would give way to what it replaced: \(before).",
        done: "\(stream) is answered by \(before) again.")
    }
  }
}
