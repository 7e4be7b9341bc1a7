// The development broker that the tests of this module share; it ends with the test process.

import DevelopmentServers
import Foundation
import KafkaClient
import StructuredLogging
import Synchronization
import TestSupport

enum Broker {
  private static let shared = Task { () throws -> DevelopmentBroker in
    try await start(folder: folder())
  }

  static var logger: Logger {
    var logger = Logger(label: "tests")
    logger.logLevel =
      ProcessInfo.processInfo.environment["OPPU_TEST_LOG"].flatMap { Logger.Level(rawValue: $0) }
      ?? .error
    return logger
  }

  /// For what fails on purpose.
  static var quiet: Logger {
    var logger = logger
    logger.logLevel = .critical
    return logger
  }

  /// The broker's program: put there by scripts/setup, or Apache Kafka's script.
  static var executable: URL {
    OutsideServers.kafka ?? Paths.developmentBroker
  }

  static func folder() -> URL {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("oppu-tests-kafka-\(UUID().uuidString.prefix(8))")
    Cleanup.removeAtExit(folder.path)
    return folder
  }

  static func start(folder: URL, port: Int? = nil) async throws -> DevelopmentBroker {
    try await DevelopmentBroker.start(
      executable: executable, folder: folder, port: port, logger: logger)
  }

  static func configuration() async throws -> KafkaConfiguration {
    KafkaConfiguration(bootstrapServers: try await shared.value.bootstrapServers)
  }

  /// A new topic with a name of its own.
  static func makeTopic(partitions: Int32 = 1) async throws -> String {
    let name = "topic-\(UUID().uuidString.prefix(8))"
    let admin = try KafkaAdmin(configuration: try await configuration(), logger: logger)
    let result = try await admin.createTopics([
      NewTopic(name: name, partitions: partitions, replication: 1)
    ])
    await admin.close()
    guard result[name] == .created else { throw Unexpected("\(result)") }
    return name
  }

  static func producer(properties: [String: String] = [:]) async throws -> KafkaProducer {
    var configuration = try await configuration()
    configuration.properties = properties
    return try KafkaProducer(configuration: configuration, logger: logger)
  }

  static func consumer(
    _ topic: String, group: String = UUID().uuidString, properties: [String: String] = [:]
  ) async throws -> KafkaConsumer {
    // Of two members that join at the same moment this broker now and then answers neither; they ask again after
    // this time, five minutes unless said.
    var usual = ["max.poll.interval.ms": "30000"]
    // In the protocol of Kafka 4 sessions are the broker's affair, and this is refused.
    if properties["group.protocol"] != "consumer" { usual["session.timeout.ms"] = "6000" }
    return try KafkaConsumer(
      configuration: try await configuration(), group: group, topics: [topic],
      properties: usual.merging(properties) { $1 }, logger: logger)
  }
}

struct Unexpected: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

extension KafkaConsumer {
  /// Reads `count` messages, answering assignments with `start`.
  func read(
    _ count: Int, from start: (TopicPartition) -> Int64 = { _ in KafkaOffset.beginning },
    seconds: Int = 240
  ) async throws -> [KafkaMessage] {
    var messages: [KafkaMessage] = []
    let deadline = ContinuousClock.now + .seconds(seconds)
    while messages.count < count {
      guard ContinuousClock.now < deadline else {
        throw Unexpected("only \(messages.count) of \(count) messages in \(seconds) s")
      }
      switch try await next(timeout: .milliseconds(500)) {
      case .assigned(let partitions):
        try await assign(
          Dictionary(partitions.map { ($0, start($0)) }, uniquingKeysWith: { $1 }))
      case .revoked(let partitions, _): try await unassign(partitions)
      case .messages(let batch): messages += batch
      case .idle, .halted: continue
      }
    }
    return messages
  }
}
