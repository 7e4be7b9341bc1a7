// The PostgreSQL and the broker that these tests share: the project's own, or from outside (OutsideServers). Each test has a database and
// topics of its own on them; they end, and their folders go, with the test process.

import DevelopmentServers
import Foundation
import KafkaClient
import PostgresClient
import Storage
import StructuredLogging
import Synchronization
import TestSupport
import Testing
import Worker

/// All tests of this module: one after the other, for they share two cores and two servers.
@Suite(.serialized) struct IntegrationTests {}

enum Servers {
  /// The address of a database that is used to make others.
  private static let postgres = Task { () throws -> String in
    try await PrivatePostgres.start(
      folder: folder("postgres"), isDurable: false, script: OutsideServers.postgres, logger: logger
    ).connectionString
  }
  private static let broker = Task { () throws -> DevelopmentBroker in
    try await DevelopmentBroker.start(
      executable: Paths.broker, folder: folder("broker"), logger: logger)
  }

  static var logger: Logger {
    var logger = Logger(label: "tests")
    logger.logLevel =
      ProcessInfo.processInfo.environment["OPPU_TEST_LOG"].flatMap { Logger.Level(rawValue: $0) }
      ?? .critical
    return logger
  }

  static func bootstrapServers() async throws -> String { try await broker.value.bootstrapServers }

  static func sharedBroker() async throws -> DevelopmentBroker { try await broker.value }

  /// The connection string of a new, empty database.
  static func makeDatabase() async throws -> String {
    let url = try await postgres.value
    let name = "test_\(UUID().uuidString.prefix(8).lowercased())"
    let client = PostgresClient(PostgresConfiguration(url), logger: logger)
    _ = try await client.execute(PostgresQuery(unsafeSQL: "CREATE DATABASE \(name)"))
    await client.close()
    return url.replacing(/\/\w+$/, with: "/\(name)")
  }

  /// A new folder that is removed when the test process ends.
  static func folder(_ name: String) -> URL {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("oppu-tests-\(name)-\(UUID().uuidString.prefix(8))")
    Cleanup.removeAtExit(folder.path)
    return folder
  }
}

extension Paths {
  static let broker = OutsideServers.kafka ?? developmentBroker
}

/// Runs a body with a client of a database and closes it.
func withClient<T: Sendable>(
  _ url: String, connections: Int = 8, _ body: (PostgresClient) async throws -> T
) async throws -> T {
  let client = PostgresClient(
    PostgresConfiguration(url, maximumConnections: connections), logger: Servers.logger)
  do {
    let result = try await body(client)
    await client.close()
    return result
  } catch {
    await client.close()
    throw error
  }
}

/// A client of a new database with the schema in it.
func withDatabase<T: Sendable>(_ body: (PostgresClient) async throws -> T) async throws -> T {
  try await withClient(try await Servers.makeDatabase()) { client in
    try await Migrator(client: client).migrate()
    return try await body(client)
  }
}

extension PostgresClient {
  /// The number in a query's first row and column.
  func number(_ query: PostgresQuery) async throws -> Int {
    try await self.query(query).first.map { try $0.decode(at: 0, as: Int.self) } ?? -1
  }
}

struct Timeout: Error, CustomStringConvertible {
  let description: String
}

/// Polls until a condition holds.
///
/// How long that takes is never what is tested: the limit only ends a test that has failed, also on a machine that
/// has much else to do.
/// - Throws: ``Timeout``, with what was waited for and what `state` tells.
func eventually(
  _ what: String, every pause: Duration = .milliseconds(20),
  state: @autoclosure () async throws -> String = "", _ condition: () async throws -> Bool
) async throws {
  let seconds = 300
  let deadline = ContinuousClock.now + .seconds(seconds)
  while try await !condition() {
    guard ContinuousClock.now < deadline else {
      throw Timeout(description: "after \(seconds) s not so: \(what) \(try await state())")
    }
    try await Task.sleep(for: pause)
  }
}
