// `admin status`: one look at the whole system.

import ArgumentParsing
import Foundation
import Storage

struct AdminStatus: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Events, adapters, jobs and where ingest stands.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions

  private struct Status: Encodable {
    let totals: UserRepository.Totals?
    let jobs: [String: Int]
    let partitions: [IngestRepository.PartitionStatus]
  }

  func run() async throws {
    try await withDatabase(options) { client, _ in
      let jobs = try await JobRepository(client).counts()
      let status = Status(
        totals: try await UserRepository(client).totals(),
        jobs: JobState.byName(jobs),
        partitions: try await IngestRepository(client).partitions())
      let jobText = JobState.allCases.map { "\(jobs[$0] ?? 0) \($0.rawValue)" }
        .joined(separator: ", ")
      try format.print(
        status,
        lines: [
          ("users", Show.optional(status.totals?.users)),
          ("streams (user × task)", Show.optional(status.totals?.streams)),
          ("events", Show.optional(status.totals?.events)),
          ("not yet looked at by the scheduler", Show.optional(status.totals?.unscheduledEvents)),
          ("shifts detected", Show.optional(status.totals?.shiftsDetected)),
          ("active adapters", Show.optional(status.totals?.activeAdapters)),
          ("adapter weights stored", Show.bytes(status.totals?.adapterBytes ?? 0)),
          ("training jobs", jobText),
        ])
      guard format.output == .text else { return }
      print("")
      try format.print(
        status.partitions, empty: "Nothing ingested yet.",
        columns: [
          .init("partition") { "\($0.topic)-\($0.partition)" },
          .init("next offset") { $0.nextOffset < 0 ? "–" : "\($0.nextOffset)" },
          .init("events") { "\($0.events)" }, .init("duplicates") { "\($0.duplicates)" },
          .init("dead letters") { "\($0.deadLetters)" }, .init("erasures") { "\($0.erasures)" },
          .init("forgotten") { "\($0.forgotten)" }, .init("missing") { "\($0.missing)" },
          .init("state") { $0.gap.map { "waits: \($0.kind.rawValue)" } ?? "goes on" },
          .init("updated") { Show.time($0.updatedAt) },
        ])
    }
  }
}
