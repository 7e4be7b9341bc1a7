// The world of a trial: servers, workers, and what is done to both.

import Foundation
import Worker

struct ChaosStage: Sendable {
  let servers: ChaosServers
  let workers: ChaosWorkers
  let ledger = ChaosLedger()
  /// Of the servers themselves, past the ways that are made bad.
  let kafka: WorkerConfiguration.Kafka

  init(
    folder: URL, worker: String, count: Int, broker: URL, brokers: Int, model: String,
    settings: [String: String]
  ) async throws {
    servers = try await ChaosServers(
      folder: folder, broker: broker, count: brokers, ledger: ledger)
    workers = ChaosWorkers(
      program: worker, count: count, folder: folder,
      settings: servers.environment.merging(settings) { $1 }.merging(["OPPU_MODEL": model]) { $1 },
      ledger: ledger)
    var kafka = WorkerConfiguration().kafka
    kafka.bootstrapServers = servers.brokers.bootstrapServers
    self.kafka = kafka
  }

  func prepare() async throws {
    for command in [
      [
        "admin", "topics", "create", "--partitions", "\(ChaosTopics.partitions)",
        "--replication", "\(servers.brokers.replication)", "--execute",
      ],
      ["admin", "migrate", "--execute"],
    ] {
      let (status, output) = try await workers.run(command)
      guard status == 0 else { throw PeerError(description: "\(command): \(output)") }
    }
  }

  /// Kills what is left.
  func end(keepingFolder: Bool) async {
    await workers.killAll()
    await servers.stop(keepingFolder: keepingFolder)
  }
}
