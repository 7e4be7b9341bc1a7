// The schema as an ordered, named, immutable list of steps, and the runner that applies what is missing.

import Cryptography
import Foundation
import PostgresClient

/// One step of the schema. Once released it never changes; a correction is a further step.
public struct Migration: Sendable {
  /// From 1, without gaps.
  public let number: Int
  public let name: String
  public let sql: String

  /// Hex SHA-256 of the SQL, stored when applied, so that an edited step is noticed.
  public var checksum: String { SHA256.hash(data: Data(sql.utf8)).hexadecimal }

  /// By number.
  public static let all: [Migration] = [
    Migration(number: 1, name: "initial", bytes: PackageResources._001_initial_sql),
    Migration(
      number: 2, name: "logs and erasures", bytes: PackageResources._002_logs_and_erasures_sql),
    Migration(
      number: 3, name: "keyed receipts", bytes: PackageResources._003_keyed_receipts_sql),
  ]

  private init(number: Int, name: String, bytes: [UInt8]) {
    self.number = number
    self.name = name
    self.sql = String(decoding: bytes, as: UTF8.self)
  }
}

/// A schema that this program does not fit.
public enum MigrationError: Error, CustomStringConvertible, LocalizedError {
  case changed(number: Int, name: String)
  case newerSchema(number: Int)
  case missing(numbers: [Int])

  public var description: String {
    switch self {
    case .changed(let number, let name):
      return
        "migration \(number) (\(name)) was applied to this database with other contents; use the release that created the database, or a new database"
    case .newerSchema(let number):
      return
        "the database has migration \(number), which this program does not know; run a newer oppu-worker"
    case .missing(let numbers):
      let list = numbers.map(String.init).joined(separator: ", ")
      return
        "the database lacks migration \(list); run `oppu-worker admin migrate --execute` first (or set database.migrate: true)"
    }
  }
  public var errorDescription: String? { description }
}

/// Applies and checks the schema. Concurrent runners wait for each other by an advisory lock.
public struct Migrator: Sendable {
  private let client: PostgresClient

  public init(client: PostgresClient) { self.client = client }

  /// The steps that the database lacks, oldest first.
  /// - Throws: ``MigrationError`` where an applied step differs or is unknown; `PostgresError`.
  public func pending() async throws -> [Migration] {
    try await client.withConnection { try await Self.pending(on: $0) }
  }

  /// Applies what is missing, all in one transaction, and returns it.
  @discardableResult
  public func migrate() async throws -> [Migration] {
    try await client.withTransaction { connection in
      try await connection.execute("SELECT pg_advisory_xact_lock(\(AdvisoryLock.migrations.key))")
      try await connection.execute(
        """
        CREATE TABLE IF NOT EXISTS schema_migrations (
          number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
          applied_at timestamptz NOT NULL DEFAULT now())
        """)
      let steps = try await Self.pending(on: connection)
      for step in steps {
        try await connection.executeScript(step.sql)
        try await connection.execute(
          """
          INSERT INTO schema_migrations (number, name, checksum)
          VALUES (\(step.number), \(step.name), \(step.checksum))
          """)
      }
      return steps
    }
  }

  /// Throws ``MigrationError/missing(numbers:)`` unless the schema is complete.
  public func check() async throws {
    let steps = try await pending()
    if !steps.isEmpty { throw MigrationError.missing(numbers: steps.map(\.number)) }
  }

  private static func pending(on connection: PostgresConnection) async throws -> [Migration] {
    let exists = try await connection.query(
      "SELECT to_regclass('schema_migrations') IS NOT NULL AS present")
    guard try exists.first?.decode("present", as: Bool.self) == true else { return Migration.all }
    var applied: [Int: String] = [:]
    for row in try await connection.query("SELECT number, checksum FROM schema_migrations") {
      applied[try row.decode("number", as: Int.self)] = try row.decode("checksum", as: String.self)
    }
    if let unknown = applied.keys.filter({ number in
      !Migration.all.contains { $0.number == number }
    }).max() {
      throw MigrationError.newerSchema(number: unknown)
    }
    return try Migration.all.filter { step in
      guard let checksum = applied[step.number] else { return true }
      if checksum != step.checksum {
        throw MigrationError.changed(number: step.number, name: step.name)
      }
      return false
    }
  }
}
