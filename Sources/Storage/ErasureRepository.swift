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

/// What an erasure did.
public struct Erasure: Sendable, Equatable {
  public enum Finding: Sendable, Equatable {
    case something
    /// Nothing was left: the user had been erased before.
    case before
    /// Nothing was known of such a user; there are others with nearly this name.
    case nothing(similar: [String])
  }
  public let counts: ErasureCounts
  public let found: Finding
}

/// An erasure that the topic has not been told of yet.
public struct ErasureToTell: Sendable {
  public let userID: String
  public let erasedBefore: Date
}

/// What stays of an erased user.
public struct ErasureReceipt: Sendable, Codable {
  public let receiptID: Int64
  public let userHash: String
  public let removed: ErasureCounts
  /// More where it was asked for again and nothing was left.
  public let times: Int64
  public let erasedAt: Date
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

  /// Forgets a user because a message of the topic says so, in its place among the others.
  ///
  /// Removes the user. A trainer that is at work on one of the user's jobs loses its lease with the job's row
  /// and can write nothing; workers drop cached adapters when the notification arrives. Once more for a user of
  /// whom nothing is left is only counted: the receipt of the first time stands.
  /// - Parameter order: when an operator erased the user, where the message tells of that. It is then carried out
  ///   once: events that came since are left alone.
  @discardableResult
  public func erase(userID: String, order: Date? = nil) async throws -> Erasure {
    try await lock(userID)
    if let order {
      let done = try await connection.query(
        """
        SELECT 1 FROM erasure_receipts
        WHERE user_sha256 = \(Self.hash(userID)) AND erased_before >= \(order) LIMIT 1
        """)
      if !done.isEmpty { return Erasure(counts: ErasureCounts(), found: .before) }
    }
    let (counts, rows) = try await remove(userID)
    return try await conclude(userID, counts, rows: rows, order: order)
  }

  /// Forgets a user because an operator says so: at once, for all messages that were sent until now, and with a
  /// note that the topic is to be told. Where nothing is found there is no receipt.
  @discardableResult
  public func order(userID: String) async throws -> Erasure {
    try await lock(userID)
    let (counts, rows) = try await remove(userID)
    // Whole milliseconds, as Kafka's times are.
    let time = try await connection.query(
      "SELECT date_trunc('milliseconds', clock_timestamp()) AS now"
    ).first?.decode("now", as: Date.self)
    try await connection.execute(
      """
      INSERT INTO erasures_to_tell (message_key, erased_before) VALUES (\(userID), \(time))
      ON CONFLICT (message_key) DO UPDATE SET erased_before = excluded.erased_before
      """)
    return try await conclude(userID, counts, rows: rows, order: time)
  }

  private func lock(_ userID: String) async throws {
    try await connection.execute(
      "SELECT pg_advisory_xact_lock(\(Self.lockSpace), hashtext(\(userID)))")
  }

  /// Removes the user's rows.
  private func remove(_ userID: String) async throws -> (counts: ErasureCounts, rows: Int) {
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
    return (counts, removed.values.reduce(0, +))
  }

  /// Writes the receipt and tells the others.
  private func conclude(
    _ userID: String, _ counts: ErasureCounts, rows: Int, order: Date?
  ) async throws -> Erasure {
    let hash = Self.hash(userID)
    if rows == 0 {
      let known = try await connection.execute(
        """
        UPDATE erasure_receipts SET times = times + 1,
          erased_before = greatest(erased_before, \(order))
        WHERE receipt_id =
          (SELECT max(receipt_id) FROM erasure_receipts WHERE user_sha256 = \(hash))
        """)
      if known > 0 { return Erasure(counts: counts, found: .before) }
      let similar = try await similar(to: userID)
      // An order may have been for a name that nobody has; a message by itself always leaves a receipt.
      if order == nil { try await leaveReceipt(userID, counts, order) }
      return Erasure(counts: counts, found: .nothing(similar: similar))
    }
    try await leaveReceipt(userID, counts, order)
    return Erasure(counts: counts, found: .something)
  }

  private func leaveReceipt(_ userID: String, _ counts: ErasureCounts, _ order: Date?) async throws
  {
    try await connection.execute(
      """
      INSERT INTO erasure_receipts (user_sha256, events, adapters, jobs, answers, erased_before)
      VALUES (\(Self.hash(userID)), \(counts.events), \(counts.adapters), \(counts.jobs),
        \(counts.answers), \(order))
      """)
    let everything = Stream(userID: userID, task: "*")
    try await OutboxRepository(connection).post(
      AdapterEvent(kind: .erased, stream: everything, removed: counts))
    try await AdapterRepository(connection).notifyChange(of: everything)
  }

  /// Users with nearly this name.
  private func similar(to userID: String) async throws -> [String] {
    try await connection.query(
      """
      SELECT DISTINCT user_id FROM user_task_state WHERE user_id = ANY(\(Self.nearMisses(of: userID)))
      ORDER BY 1
      """
    ).map { try $0.decode("user_id") }
  }

  /// What a key may have been meant to be: as text of JSON, with blanks around it, in another case.
  static func nearMisses(of key: String) -> [String] {
    var names: Set<String> = []
    let trimmed = key.trimmingCharacters(in: .whitespacesAndNewlines)
    let plain =
      (try? JSONDecoder().decode(String.self, from: Data(trimmed.utf8))) ?? trimmed
    for name in [trimmed, plain] {
      names.formUnion([name, name.lowercased(), name.uppercased(), name.capitalized])
    }
    names.remove(key)
    return names.filter { !$0.isEmpty && !$0.utf8.contains(0) }.sorted()
  }

  /// What receipts know a user by.
  static func hash(_ userID: String) -> String {
    SHA256.hash(data: Data(userID.utf8)).hexadecimal
  }

  /// Until when the messages of users are forgotten, by hash, of those erased by an operator since a time.
  static func orders(
    since time: Date, on database: any Database
  ) async throws -> [String: Date] {
    try await database.query(
      """
      SELECT user_sha256, max(erased_before) AS before FROM erasure_receipts
      WHERE erased_before >= \(time) GROUP BY user_sha256
      """
    ).reduce(into: [:]) {
      $0[try $1.decode("user_sha256")] = try $1.decode("before", as: Date.self)
    }
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

  /// Receipts, the newest first.
  /// - Parameter userID: only those of this user.
  public static func receipts(
    of userID: String?, limit: Int, in database: any Database
  ) async throws -> [ErasureReceipt] {
    try await database.query(
      """
      SELECT receipt_id, user_sha256, events, adapters, jobs, answers, times, erased_at
      FROM erasure_receipts
      WHERE \(userID.map(hash))::text IS NULL OR user_sha256 = \(userID.map(hash))
      ORDER BY receipt_id DESC LIMIT \(limit)
      """
    ).map { row in
      var removed = ErasureCounts()
      removed.events = try row.decode("events")
      removed.adapters = try row.decode("adapters")
      removed.jobs = try row.decode("jobs")
      removed.answers = try row.decode("answers")
      return ErasureReceipt(
        receiptID: try row.decode("receipt_id"), userHash: try row.decode("user_sha256"),
        removed: removed, times: try row.decode("times"), erasedAt: try row.decode("erased_at"))
    }
  }

  /// Erasures that the topic has not been told of, some hundred of them.
  public static func toTell(in database: any Database) async throws -> [ErasureToTell] {
    try await database.query(
      "SELECT message_key, erased_before FROM erasures_to_tell ORDER BY erased_before LIMIT 100"
    ).map {
      ErasureToTell(
        userID: try $0.decode("message_key"), erasedBefore: try $0.decode("erased_before"))
    }
  }

  /// Notes that every partition has been told of an erasure.
  public static func told(_ erasure: ErasureToTell, in database: any Database) async throws {
    try await database.execute(
      """
      DELETE FROM erasures_to_tell WHERE message_key = \(erasure.userID)
        AND erased_before = \(erasure.erasedBefore)
      """)
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
    let hashes = Array(Set(users.map(ErasureRepository.hash)))
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
    let hash = ErasureRepository.hash(userID)
    return times[hash] == earlier.times[hash]
  }
}
