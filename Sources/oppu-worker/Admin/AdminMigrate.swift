// `admin migrate`: the database's schema.

import ArgumentParsing
import Foundation
import Storage

struct AdminMigrate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "migrate", abstract: "Apply the migrations that the database lacks.",
    discussion: "Without --execute, or with --dry-run, it only shows what it would do.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions

  @Flag(name: .long, help: "Apply them.") var execute = false
  @Flag(name: .long, help: "Only show them (the default).") var dryRun = false

  private struct Step: Encodable {
    let number: Int
    let name: String
    let state: String
  }

  func validate() throws {
    if execute && dryRun { throw ValidationError("--execute and --dry-run exclude each other.") }
  }

  func run() async throws {
    try await withDatabase(options, checkSchema: false) { client, _ in
      let migrator = Migrator(client: client)
      let pending = execute ? try await migrator.migrate() : try await migrator.pending()
      try format.print(
        pending.map {
          Step(number: $0.number, name: $0.name, state: execute ? "applied" : "pending")
        }, empty: "The schema is complete; nothing to do.",
        columns: [
          .init("number") { "\($0.number)" }, .init("name") { $0.name },
          .init("state") { $0.state },
        ])
      if !execute, !pending.isEmpty, format.output == .text {
        print("Nothing was changed; run again with --execute.")
      }
    }
  }
}
