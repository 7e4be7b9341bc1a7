// Forgetting a user: every row goes in one transaction, and only a receipt without the user's id stays.

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
  /// What there was of the user.
  public enum Finding: Sendable, Equatable {
    case something
    /// Nothing was left: the user had been erased before.
    case before
    /// Nothing was known of such a user; there are others with nearly this name.
    case nothing(similar: [String])
  }
  /// What was removed.
  public let counts: ErasureCounts
  public let found: Finding
}

/// Removes users, with everything that there is of them.
public struct ErasureRepository: Sendable {
  private let connection: PostgresConnection
  private let key: ReceiptKey

  /// - Parameter connection: inside a transaction.
  public init(_ connection: PostgresConnection, key: ReceiptKey = .stored) {
    self.connection = connection
    self.key = key
  }

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
      let hash = try await key.hash(on: connection, isHeld: true)(userID)
      let done = try await connection.query(
        """
        SELECT 1 FROM erasure_receipts
        WHERE user_hash = \(hash) AND erased_before >= \(order) LIMIT 1
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
    let hash = try await key.hash(on: connection, isHeld: true)(userID)
    if rows == 0 {
      let known = try await connection.execute(
        """
        UPDATE erasure_receipts SET times = times + 1,
          erased_before = greatest(erased_before, \(order))
        WHERE receipt_id =
          (SELECT max(receipt_id) FROM erasure_receipts WHERE user_hash = \(hash))
        """)
      if known > 0 { return Erasure(counts: counts, found: .before) }
      let similar = try await similar(to: userID)
      // An order may have been for a name that nobody has; a message by itself always leaves a receipt.
      if order == nil { try await leaveReceipt(userID, hash, counts, order) }
      return Erasure(counts: counts, found: .nothing(similar: similar))
    }
    try await leaveReceipt(userID, hash, counts, order)
    return Erasure(counts: counts, found: .something)
  }

  private func leaveReceipt(
    _ userID: String, _ hash: String, _ counts: ErasureCounts, _ order: Date?
  ) async throws {
    try await connection.execute(
      """
      INSERT INTO erasure_receipts (user_hash, events, adapters, jobs, answers, erased_before)
      VALUES (\(hash), \(counts.events), \(counts.adapters), \(counts.jobs),
        \(counts.answers), \(order))
      """)
    let everything = StreamID(userID: userID, task: "*")
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
