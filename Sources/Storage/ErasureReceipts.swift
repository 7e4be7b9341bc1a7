// What stays of erasures: receipts, what they forbid, and what the topic is still to be told.

import Cryptography
import Foundation
import PostgresClient

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

extension ErasureRepository {
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
