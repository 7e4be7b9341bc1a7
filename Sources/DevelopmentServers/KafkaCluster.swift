// Several brokers of Apache Kafka that are one cluster, for tests and trials of what only several have.

import Foundation

/// Apache Kafka with brokers that are numbered from 1. A topic that says nothing of it has a copy on each of them, at
/// most three.
public final class KafkaCluster: Sendable {
  /// `host:port` of every broker, as clients want them.
  public let bootstrapServers: String
  /// The brokers' numbers, from 1.
  public let brokers: ClosedRange<Int>
  private let server: ScriptedServer

  private init(bootstrapServers: String, brokers: ClosedRange<Int>, server: ScriptedServer) {
    self.bootstrapServers = bootstrapServers
    self.brokers = brokers
    self.server = server
  }

  /// Starts the brokers and waits until each is in the cluster.
  ///
  /// - Parameters:
  ///   - script: `OutsideServers.kafka`.
  ///   - folder: where they keep their data and logs; made if missing.
  ///   - settings: of every broker, over the script's.
  /// - Throws: `DevelopmentServerError`.
  public static func start(
    script: URL, folder: URL, brokers: Int = 3, settings: [String: String] = [:]
  ) async throws -> KafkaCluster {
    let (server, address) = try await ScriptedServer.start(
      script: script, folder: folder, members: (1...brokers).map { "\($0)" }, address: "env",
      arguments: OutsideServers.version(of: "OPPU_TEST_KAFKA") + ["--brokers", "\(brokers)"]
        + settings.flatMap { ["--set", "\($0.key)=\($0.value)"] })
    guard let servers = places(in: address)["KAFKA_PLAINTEXT"] else {
      await server.kill()
      throw DevelopmentServerError.port(0, reason: "Apache Kafka listens at \(address)")
    }
    return KafkaCluster(bootstrapServers: servers, brokers: 1...brokers, server: server)
  }

  /// The ways in, by the names that the script gives them (`KAFKA_SASL`, `KAFKA_TLS_FOLDER` …).
  static func places(in address: String) -> [String: String] {
    var places: [String: String] = [:]
    for line in address.split(separator: "\n") {
      let parts = line.split(separator: "=", maxSplits: 1).map(String.init)
      if parts.count == 2 { places[parts[0]] = parts[1] }
    }
    return places
  }

  /// Sends a broker a signal: SIGSTOP and SIGCONT hold it and let it go on, SIGTERM ends it in order.
  ///
  /// - Throws: `DevelopmentServerError`.
  public func signal(_ number: Int32, broker: Int) async throws {
    try await server.signal(number, to: "\(broker)")
  }

  /// Waits until a broker that was told to end has ended.
  public func waitForEnd(broker: Int) async throws {
    while (try? await signal(0, broker: broker)) != nil {
      try await Task.sleep(for: .milliseconds(200))
    }
  }

  /// Starts a broker again that has ended, and waits until it listens.
  ///
  /// - Throws: `DevelopmentServerError`.
  public func restart(broker: Int) async throws { try await server.restart("\(broker)") }

  /// Runs one of Apache Kafka's own tools (`topics`, `configs`, `elect` …) as its super user.
  ///
  /// - Throws: `DevelopmentServerError`.
  public func run(_ tool: String, _ arguments: [String]) async throws {
    try await server.run(tool, arguments)
  }

  /// Stops the brokers in order.
  public func stop() async { await server.stop() }
}
