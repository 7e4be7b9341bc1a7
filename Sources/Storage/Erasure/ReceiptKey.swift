// What receipts of erasures know a user by: an HMAC, so that a list of user ids cannot be tried on a copy of them.
//
// The database makes a key of its own, which protects receipts that leave it alone. A secret of the operator, which
// no dump holds, comes over it. Setting one later hashes what is there once more; a receipt is found all the while,
// and one that cannot be found any more would let an erased user come back, so another secret is refused.

import Cryptography
import Foundation
import PostgresClient

/// The receipts are not under the secret that the settings name.
public struct ReceiptKeyError: Error, CustomStringConvertible, LocalizedError {
  public let description: String
  public var errorDescription: String? { description }
}

/// The key that receipts are made with, and looked up with.
public struct ReceiptKey: Sendable {
  private let secret: SymmetricKey?

  /// - Parameter secret: the operator's; nil: the database's own key alone.
  public init(secret: String? = nil) {
    self.secret = secret.map { SymmetricKey(data: Data($0.utf8)) }
  }

  /// The database's own.
  public static let stored = ReceiptKey()

  /// Turns user ids into what receipts hold of them.
  struct Hash: Sendable {
    fileprivate var keys: [SymmetricKey]

    /// - Throws: `CryptographyError`.
    func callAsFunction(_ userID: String) throws -> String {
      try Self.extend(SHA256.hash(data: Data(userID.utf8)).hexadecimal, by: keys)
    }

    fileprivate static func extend(_ text: String, by keys: [SymmetricKey]) throws -> String {
      try keys.reduce(text) {
        try HMACSHA256.authenticationCode(for: Data($0.utf8), using: $1).hexadecimal
      }
    }
  }

  /// Reads the database's key.
  /// - Parameter isHeld: until the transaction ends no secret comes over it.
  /// - Throws: ``ReceiptKeyError`` where the receipts are under another secret; `PostgresError`.
  func hash(on database: any Database, isHeld: Bool = false) async throws -> Hash {
    let row = try await database.query(
      "SELECT key, secret_check FROM erasure_key \(unsafeSQL: isHeld ? "FOR SHARE" : "")"
    ).first
    let (key, found) = try Self.decode(row)
    guard try found == check() else { throw mismatch(found) }
    return Hash(keys: [key] + (secret.map { [$0] } ?? []))
  }

  /// Puts the receipts under the secret where none was set before.
  /// - Throws: ``ReceiptKeyError`` where they are under another; `PostgresError`.
  public func settle(in client: PostgresClient) async throws {
    try await client.withTransaction { connection in
      let row = try await connection.query(
        "SELECT key, secret_check FROM erasure_key FOR UPDATE"
      ).first
      let (_, found) = try Self.decode(row)
      guard let secret, found == nil else {
        guard try found == check() else { throw mismatch(found) }
        return
      }
      let known = try await connection.query("SELECT DISTINCT user_hash FROM erasure_receipts")
        .map { try $0.decode("user_hash", as: String.self) }
      for begin in stride(from: 0, to: known.count, by: 10_000) {
        let old = Array(known[begin..<min(begin + 10_000, known.count)])
        let new = try old.map { try Hash.extend($0, by: [secret]) }
        try await connection.execute(
          """
          UPDATE erasure_receipts AS r SET user_hash = n.new
          FROM unnest(\(old)::text[], \(new)::text[]) AS n(old, new) WHERE r.user_hash = n.old
          """)
      }
      try await connection.execute("UPDATE erasure_key SET secret_check = \(try check())")
    }
  }

  private static func decode(_ row: PostgresRow?) throws -> (key: SymmetricKey, check: String?) {
    guard let row else { throw ReceiptKeyError(description: "the table erasure_key is empty") }
    return (
      SymmetricKey(data: try row.decode("key", as: Data.self)), try row.decode("secret_check")
    )
  }

  /// What the database knows of the secret.
  private func check() throws -> String? {
    try secret.map {
      String(
        try HMACSHA256.authenticationCode(for: Data("oppu-worker receipts".utf8), using: $0)
          .hexadecimal.prefix(16))
    }
  }

  private func mismatch(_ found: String?) -> ReceiptKeyError {
    ReceiptKeyError(
      description: found == nil
        ? "the erasure receipts are not under the secret of erasure.key yet; a worker that starts with it puts them there"
        : secret == nil
          ? "the erasure receipts of this database are under a secret; set erasure.key to it, or erased users could come back"
          : "erasure.key is not the secret that the erasure receipts of this database are under; set it back, or erased users could come back"
    )
  }
}
