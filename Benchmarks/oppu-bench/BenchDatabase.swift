// A PostgreSQL for one measurement: a private one, or from outside.

import DevelopmentServers
import Foundation
import PostgresClient
import Storage
import StructuredLogging

enum BenchDatabase {
  static var logger: Logger {
    var logger = Logger(label: "bench")
    logger.logLevel = .error
    return logger
  }

  static func say(_ text: String) {
    FileHandle.standardError.write(Data("bench: \(text)\n".utf8))
  }

  /// Starts a server with fsync on and its own defaults, with the schema in it, and removes it afterwards.
  static func with<T: Sendable>(
    connections: Int = 8, _ body: (PostgresClient, String) async throws -> T
  ) async throws -> T {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("oppu-bench-\(UUID().uuidString.prefix(8))")
    let server = try await PrivatePostgres.start(
      folder: folder, script: OutsideServers.postgres, logger: logger)
    let url = server.connectionString
    let client = PostgresClient(
      PostgresConfiguration(url, maximumConnections: connections), logger: logger)
    let result: Result<T, any Error>
    do {
      try await Migrator(client: client).migrate()
      result = .success(try await body(client, url))
    } catch {
      result = .failure(error)
    }
    await client.close()
    await server.stop()
    try? FileManager.default.removeItem(at: server.folder)
    try? FileManager.default.removeItem(at: folder)
    return try result.get()
  }
}

extension EngineReport {
  static func here() -> EngineReport {
    EngineReport(
      machine: .here(threads: ProcessInfo.processInfo.activeProcessorCount), versions: [:])
  }

  /// A row of a time that is to stay below a limit.
  mutating func addTime(_ name: String, seconds: Double, limit: Double) {
    rows.append(
      Row(name: name, ours: seconds, peer: limit, ratio: limit / seconds, goal: 1, unit: "s"))
  }

  func write(_ path: String?) throws {
    print(table())
    if let path { try json().write(to: URL(fileURLWithPath: path), options: .atomic) }
  }
}
