// `admin doctor`: whether everything that a worker needs is there, and how fast this machine computes.

import ArgumentParsing
import Foundation
import KafkaClient
import LanguageModel
import LinearAlgebra
import PostgresClient
import Storage
import StructuredLogging
import Worker

struct AdminDoctor: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor", abstract: "Check model, kernels, database, broker and topics.",
    discussion: "Exit code 3 where a check fails; every check runs.")

  @OptionGroup(title: "Settings") var options: ConfigurationOptions
  @OptionGroup var format: OutputOptions

  private struct Check: Encodable, Sendable {
    let check: String
    let ok: Bool
    let detail: String
  }

  func run() async throws {
    let configuration = try await Failure.explain { try options.load() }
    var quiet = options
    if options.logLevel == .info { quiet.logLevel = .critical }
    let logger = quiet.makeLogger("admin")
    var checks = [
      await check("matrix kernels") { try await ComputeQueue("doctor").run { Self.kernels() } },
      await check("model") {
        try await ComputeQueue("doctor").run {
          let model = try ServedModel.load(configuration, catalogue: configuration.catalogue())
          let adapters =
            model.tasks.isEmpty ? "" : ", adapters for " + model.tasks.joined(separator: ", ")
          return
            "\(configuration.model), fingerprint \(model.base.fingerprint.prefix(12))\(adapters)"
        }
      },
      await check("tasks") { "\(try configuration.catalogue().names.count) tasks" },
      await check("database") {
        try await Self.withClient(configuration, logger: logger) { client in
          try await Migrator(client: client).check()
          return "schema complete"
        }
      },
      await check("sessions") {
        try await Self.withClient(configuration, logger: logger) { client in
          try await SessionCheck.run(client)
          return "one for each connection"
        }
      },
      await check("librdkafka") {
        try configuration.kafka.client.check()
        return KafkaLibraryPolicy.standard.summary(of: .current)
      },
      await check("broker and topics") {
        let admin = try KafkaAdmin(configuration: configuration.kafka.client, logger: logger)
        do {
          try await configuration.checkAccess(by: admin)
          await admin.close()
          return configuration.kafka.bootstrapServers
        } catch {
          await admin.close()
          throw error
        }
      },
    ]
    // Without a broker nothing is known of them, and nobody waits for it twice.
    let hasBroker = checks.last?.ok == true
    checks.append(
      await check("offsets") {
        guard hasBroker else { throw NotLookedAt() }
        return try await Self.offsets(configuration, logger: logger)
      })
    try format.print(
      checks, empty: "",
      columns: [
        .init("check") { $0.check }, .init("") { $0.ok ? "ok" : "FAILED" },
        .init("") { $0.detail },
      ])
    if checks.contains(where: { !$0.ok }) { throw ExitCode(3) }
  }

  private static func withClient<T: Sendable>(
    _ configuration: WorkerConfiguration, logger: Logger,
    _ body: (PostgresClient) async throws -> T
  ) async throws -> T {
    let client = PostgresClient(
      PostgresConfiguration(configuration.database.url, maximumConnections: 3), logger: logger)
    do {
      let result = try await body(client)
      await client.close()
      return result
    } catch {
      await client.close()
      throw error
    }
  }

  /// Whether each stored offset fits the topic.
  private static func offsets(
    _ configuration: WorkerConfiguration, logger: Logger
  ) async throws -> String {
    let positions = try await withClient(configuration, logger: logger) {
      try await PartitionPosition.all(configuration, client: $0)
    }
    let sentences = positions.compactMap { $0.sentence(configuration.kafka.behaviorTopic) }
    guard sentences.isEmpty else {
      throw OffsetsDoNotFit(description: sentences.joined(separator: " "))
    }
    let missing = positions.reduce(0) { $0 + $1.missing }
    return "\(positions.count) partitions"
      + (missing > 0 ? ", \(missing) messages are known to be missing" : "")
  }

  private struct NotLookedAt: Error, CustomStringConvertible {
    let description = "not looked at, for broker and topics are not as they should be"
  }

  private struct OffsetsDoNotFit: Error, CustomStringConvertible {
    let description: String
  }

  private func check(_ name: String, _ work: () async throws -> String) async -> Check {
    do {
      return Check(check: name, ok: true, detail: try await work())
    } catch {
      return Check(check: name, ok: false, detail: "\(error)")
    }
  }

  private static func kernels() -> String {
    let report = BLAS.shared.report
    let speed = String(format: "%.0f GFLOP/s", BLAS.shared.measureGFLOPS())
    let choice =
      report.userChoice.map { "OPENBLAS_CORETYPE=\($0)" }
      ?? (report.corrected
        ? "corrected from \(report.initialCoreName)" : "OpenBLAS's own choice")
    return "\(report.coreName) (\(choice)), \(speed) on \(ThreadPool.shared.width) threads"
  }
}
