// Forgetting a user: every row goes in one transaction, and only a receipt without the user's id stays.

import Cryptography
import Foundation
import PostgresClient

/// How much an erasure removed.
public struct ErasureCounts: Sendable, Codable, Equatable {
  public var events = 0
  public var adapters = 0
  public var jobs = 0
  public var answers = 0

  public init() {}
}

public struct ErasureRepository: Sendable {
  private let connection: PostgresConnection

  /// - Parameter connection: inside a transaction.
  public init(_ connection: PostgresConnection) { self.connection = connection }

  /// The tables that hold rows of users, in the order in which they are emptied.
  ///
  /// Answers first: feedback that is being joined to one holds it until its event is in. Then the state rows,
  /// which ingest and training lock too.
  static let tables = [
    "answers", "user_task_state", "training_jobs", "adapters", "behavior_events",
    "shift_decisions",
  ]

  /// Removes the user. A trainer that is at work on one of the user's jobs loses its lease with the job's row
  /// and can write nothing; workers drop cached adapters when the notification arrives.
  ///
  /// Once more for a user of whom nothing is left is only counted: the receipt of the first time stands.
  @discardableResult
  public func erase(userID: String) async throws -> ErasureCounts {
    let hash = SHA256.hash(data: Data(userID.utf8)).hexadecimal
    try await connection.execute(
      "SELECT pg_advisory_xact_lock(\(Self.lockSpace), hashtext(\(userID)))")
    var removed: [String: Int] = [:]
    for table in Self.tables {
      removed[table] = try await connection.execute(
        "DELETE FROM \(unsafeSQL: table) WHERE user_id = \(userID)")
    }
    // What was about to be told of the user, but for the erasure itself.
    try await connection.execute("DELETE FROM outbox WHERE message_key = \(userID)")
    var counts = ErasureCounts()
    counts.events = removed["behavior_events"] ?? 0
    counts.adapters = removed["adapters"] ?? 0
    counts.jobs = removed["training_jobs"] ?? 0
    counts.answers = removed["answers"] ?? 0
    if removed.values.allSatisfy({ $0 == 0 }) {
      let known = try await connection.query(
        "SELECT 1 FROM erasure_receipts WHERE user_sha256 = \(hash) LIMIT 1")
      if !known.isEmpty {
        try await connection.execute(
          """
          UPDATE erasure_receipts SET times = times + 1 WHERE receipt_id =
            (SELECT max(receipt_id) FROM erasure_receipts WHERE user_sha256 = \(hash))
          """)
        return counts
      }
    }
    try await connection.execute(
      """
      INSERT INTO erasure_receipts (user_sha256, events, adapters, jobs, answers)
      VALUES (\(hash), \(counts.events), \(counts.adapters), \(counts.jobs), \(counts.answers))
      """)
    try await OutboxRepository(connection).post(
      AdapterEvent(kind: .erased, stream: Stream(userID: userID, task: "*")))
    try await AdapterRepository(connection).notifyChange(of: Stream(userID: userID, task: "*"))
    return counts
  }

  /// Rows of the user in each table, for a plan.
  public static func rows(
    of userID: String, in database: any Database
  ) async throws -> [(table: String, rows: Int)] {
    var counts: [(table: String, rows: Int)] = []
    for table in tables.sorted() {
      let rows = try await database.query(
        "SELECT count(*) AS n FROM \(unsafeSQL: table) WHERE user_id = \(userID)")
      counts.append((table, try rows.first?.decode("n") ?? 0))
    }
    return counts
  }

  /// "oppu" with a purpose number.
  private static let lockSpace: Int32 = 0x6F70_7503

  /// Until the transaction ends no erasure of these users begins, and one that had begun is over.
  static func keepOut(_ users: [String], on connection: PostgresConnection) async throws {
    try await connection.execute(
      """
      SELECT pg_advisory_xact_lock_shared(\(lockSpace), h)
      FROM (SELECT DISTINCT hashtext(u) AS h FROM unnest(\(users)::text[]) AS x(u) ORDER BY 1) AS y
      """)
  }
}

/// How often users were erased, at one moment: work that began before an erasure is told from work after it.
public struct ErasureMarks: Sendable, Equatable {
  private let times: [String: Int64]

  /// - Parameter database: where the answer counts, a transaction that keeps erasures out.
  static func of(_ users: [String], on database: any Database) async throws -> ErasureMarks {
    let hashes = Array(Set(users.map { SHA256.hash(data: Data($0.utf8)).hexadecimal }))
    let rows = try await database.query(
      """
      SELECT user_sha256, sum(times)::bigint AS times FROM erasure_receipts
      WHERE user_sha256 = ANY(\(hashes)) GROUP BY user_sha256
      """)
    return ErasureMarks(
      times: Dictionary(
        try rows.map { (try $0.decode("user_sha256"), try $0.decode("times")) },
        uniquingKeysWith: { $1 }))
  }

  func isUnchanged(_ userID: String, since earlier: ErasureMarks) -> Bool {
    let hash = SHA256.hash(data: Data(userID.utf8)).hexadecimal
    return times[hash] == earlier.times[hash]
  }
}
