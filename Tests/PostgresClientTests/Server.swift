// The private server that the tests of this module share; it ends with the test process.

import DevelopmentServers
import Foundation
import PostgresClient
import StructuredLogging
import TestSupport

enum Server {
  private static let shared = Task { () throws -> String in
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("oppu-tests-postgres-\(UUID().uuidString.prefix(8))")
    Cleanup.removeAtExit(folder.path)
    return try await PrivatePostgres.start(
      folder: folder, isDurable: false, script: OutsideServers.postgres, logger: logger
    ).connectionString
  }

  static var logger: Logger {
    var logger = Logger(label: "tests")
    logger.logLevel = .warning
    return logger
  }

  static func connectionString() async throws -> String {
    try await shared.value
  }

  /// A client of the shared server for the length of `body`.
  static func withClient<T: Sendable>(
    connections: Int = 4, _ body: (PostgresClient) async throws -> T
  ) async throws -> T {
    let configuration = PostgresConfiguration(
      try await connectionString(), maximumConnections: connections)
    let client = PostgresClient(configuration, logger: logger)
    do {
      let result = try await body(client)
      await client.close()
      return result
    } catch {
      await client.close()
      throw error
    }
  }
}
