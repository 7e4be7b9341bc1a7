// What stays of erasures: receipts, what they forbid, and what the topic is still to be told.

import Foundation
import PostgresClient

/// An erasure that the topic has not been told of yet.
public struct ErasureToTell: Sendable {
  /// The key of its message.
  public let userID: String
  /// Messages that were sent up to then are forgotten.
  public let erasedBefore: Date
}

/// What stays of an erased user.
public struct ErasureReceipt: Sendable, Codable {
  /// Grows from receipt to receipt.
  public let receiptID: Int64
  /// The user's id as ``ReceiptKey`` makes it unreadable.
  public let userHash: String
  /// By the erasure that left the receipt.
  public let removed: ErasureCounts
  /// More where it was asked for again and nothing was left.
  public let times: Int64
  /// By the database's clock.
  public let erasedAt: Date
}

/// Until when the messages of users are forgotten, by operators' erasures.
struct ErasureOrders {
  fileprivate let before: [String: Date]
  fileprivate let hash: ReceiptKey.Hash

  func until(_ userID: String) throws -> Date? { try before[hash(userID)] }
}

extension ErasureRepository {
  /// Which messages operators' erasures since a time forbid; nil: none.
  /// - Parameter connection: inside a transaction.
  static func orders(
    since time: Date, key: ReceiptKey, on connection: PostgresConnection
  ) async throws -> ErasureOrders? {
    let isAny = try await connection.query(
      "SELECT 1 FROM erasure_receipts WHERE erased_before >= \(time) LIMIT 1")
    // Nearly always: only who reads what was sent before somebody was erased meets one.
    if isAny.isEmpty { return nil }
    let hash = try await key.hash(on: connection, isHeld: true)
    let before = try await connection.query(
      """
      SELECT user_hash, max(erased_before) AS before FROM erasure_receipts
      WHERE erased_before >= \(time) GROUP BY user_hash
      """
    ).reduce(into: [:]) {
      $0[try $1.decode("user_hash", as: String.self)] = try $1.decode("before", as: Date.self)
    }
    return ErasureOrders(before: before, hash: hash)
  }

  /// Receipts, the newest first, and how many there are.
  /// - Parameters:
  ///   - userID: only those of this user.
  ///   - before: only those with a lower number.
  public static func receipts(
    of userID: String?, key: ReceiptKey, before: Int64? = nil, limit: Int,
    in database: any Database
  ) async throws -> (rows: [ErasureReceipt], total: Int) {
    var wanted: String?
    if let userID { wanted = try await key.hash(on: database)(userID) }
    let total = try await database.query(
      """
      SELECT count(*) AS n FROM erasure_receipts
      WHERE \(wanted)::text IS NULL OR user_hash = \(wanted)
      """
    ).first?.decode("n", as: Int.self)
    let rows = try await database.query(
      """
      SELECT receipt_id, user_hash, events, adapters, jobs, answers, times, erased_at
      FROM erasure_receipts
      WHERE (\(wanted)::text IS NULL OR user_hash = \(wanted))
        AND (\(before)::bigint IS NULL OR receipt_id < \(before))
      ORDER BY receipt_id DESC LIMIT \(limit)
      """
    ).map { row in
      var removed = ErasureCounts()
      removed.events = try row.decode("events")
      removed.adapters = try row.decode("adapters")
      removed.jobs = try row.decode("jobs")
      removed.answers = try row.decode("answers")
      return ErasureReceipt(
        receiptID: try row.decode("receipt_id"), userHash: try row.decode("user_hash"),
        removed: removed, times: try row.decode("times"), erasedAt: try row.decode("erased_at"))
    }
    return (rows, total ?? 0)
  }

  /// Erasures that the topic has not been told of, some hundred of them.
  /// - Parameter age: how long ago they were ordered at least.
  public static func toTell(
    in database: any Database, since age: Duration = .zero
  ) async throws -> [ErasureToTell] {
    try await database.query(
      """
      SELECT message_key, erased_before FROM erasures_to_tell
      WHERE erased_before <= now() - make_interval(secs => \(age / .seconds(1)))
      ORDER BY erased_before LIMIT 100
      """
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
}

/// How often users were erased, at one moment: work that began before an erasure is told from work after it.
public struct ErasureMarks: Sendable, Equatable {
  private let times: [String: Int64]

  /// - Parameter database: where the answer counts, a transaction that keeps erasures out.
  static func of(
    _ users: [String], key: ReceiptKey, on database: any Database
  ) async throws -> ErasureMarks {
    let hash = try await key.hash(on: database)
    let users = Set(users)
    let hashes = try users.map { try hash($0) }
    let rows = try await database.query(
      """
      SELECT user_hash, sum(times)::bigint AS times FROM erasure_receipts
      WHERE user_hash = ANY(\(hashes)) GROUP BY user_hash
      """)
    let found = Dictionary(
      try rows.map {
        (try $0.decode("user_hash", as: String.self), try $0.decode("times", as: Int64.self))
      },
      uniquingKeysWith: { $1 })
    return ErasureMarks(
      times: Dictionary(
        zip(users, hashes).compactMap { user, hash in found[hash].map { (user, $0) } },
        uniquingKeysWith: { $1 }))
  }

  func isUnchanged(_ userID: String, since earlier: ErasureMarks) -> Bool {
    times[userID] == earlier.times[userID]
  }
}
