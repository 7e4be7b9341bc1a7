// The brokers of a trial: the stand-in, or Apache Kafka, one or several.

import DevelopmentServers
import Foundation

actor ChaosBrokers {
  private enum Server {
    case standIn(DevelopmentBroker)
    case cluster(KafkaCluster)
  }

  private let program: URL
  private let folder: URL
  private var server: Server
  /// How clients reach them, past the ways that are made bad.
  nonisolated let bootstrapServers: String
  nonisolated let ports: [Int]

  init(_ program: URL, count: Int, in folder: URL) async throws {
    self.program = program
    self.folder = folder.appendingPathComponent("broker")
    if DevelopmentBroker.isStandIn(program) {
      let broker = try await Self.startStandIn(program, in: self.folder)
      server = .standIn(broker)
      bootstrapServers = broker.bootstrapServers
    } else {
      let cluster = try await KafkaCluster.start(
        script: program, folder: self.folder, brokers: count,
        // Nothing is acknowledged that one broker alone has, and one that hangs is noticed in seconds.
        settings: [
          "min.insync.replicas": "\(max(1, count - 1))", "broker.session.timeout.ms": "6000",
          "replica.lag.time.max.ms": "6000",
        ])
      server = .cluster(cluster)
      bootstrapServers = cluster.bootstrapServers
    }
    ports = bootstrapServers.split(separator: ",").compactMap {
      $0.split(separator: ":").last.flatMap { Int($0) }
    }
  }

  private static func startStandIn(_ program: URL, in folder: URL, port: Int? = nil) async throws
    -> DevelopmentBroker
  {
    try await DevelopmentBroker.start(
      executable: program, folder: folder, port: port, logger: BenchDatabase.logger)
  }

  nonisolated var isStandIn: Bool { DevelopmentBroker.isStandIn(program) }
  /// Copies of each partition.
  nonisolated var replication: Int32 { Int32(ports.count) }

  /// Ends a broker, in order or as a crash would, and waits until it has ended.
  func end(_ index: Int, isKilled: Bool) async throws {
    switch server {
    case .standIn(let broker):
      // It acknowledges what it has not written, and loses that when it is stopped: it has written when its file has
      // rested.
      for _ in 0..<60 {
        try? await Task.sleep(for: .seconds(1))
        let file = folder.appendingPathComponent("data/kafka.json").path
        let attributes = try? FileManager.default.attributesOfItem(atPath: file)
        let written = attributes?[.modificationDate] as? Date ?? .distantPast
        if written.timeIntervalSinceNow < -3 { break }
      }
      await broker.stop()
    case .cluster(let cluster):
      try await cluster.signal(isKilled ? SIGKILL : SIGTERM, broker: index + 1)
      try await cluster.waitForEnd(broker: index + 1)
    }
  }

  /// Starts a broker that has ended, at the port that it had.
  func start(_ index: Int) async throws {
    switch server {
    case .standIn(let broker):
      server = .standIn(try await Self.startStandIn(program, in: folder, port: broker.port))
    case .cluster(let cluster): try await cluster.restart(broker: index + 1)
    }
  }

  func signal(_ number: Int32, to index: Int) async throws {
    switch server {
    case .standIn(let broker): try await broker.signal(number)
    case .cluster(let cluster): try await cluster.signal(number, broker: index + 1)
    }
  }

  func stop() async {
    switch server {
    case .standIn(let broker): await broker.stop()
    case .cluster(let cluster): await cluster.stop()
    }
  }
}
