// Receipts of erasures under keys: what a copy of them tells, and that they are found all the same.

import Cryptography
import Foundation
import PostgresClient
import Testing

@testable import Storage
@testable import Worker

extension IntegrationTests {
  @Suite struct ReceiptKeys {
    private static let secret = "a secret that no dump holds"

    private func erase(
      _ userID: String, _ client: PostgresClient, key: ReceiptKey = .stored
    ) async throws -> Erasure {
      try await client.withTransaction {
        try await ErasureRepository($0, key: key).erase(userID: userID)
      }
    }

    private func hashes(_ client: PostgresClient) async throws -> [String] {
      try await client.query("SELECT user_hash FROM erasure_receipts ORDER BY receipt_id")
        .map { try $0.decode("user_hash") }
    }

    private func found(
      _ userID: String, _ client: PostgresClient, key: ReceiptKey = .stored
    ) async throws -> Int {
      try await ErasureRepository.receipts(of: userID, key: key, limit: 10, in: client).total
    }

    private static func bare(_ userID: String) -> String {
      SHA256.hash(data: Data(userID.utf8)).hexadecimal
    }

    @Test("a receipt does not know its user by a hash that anybody can compute")
    func keyed() async throws {
      try await withDatabase { client in
        _ = try await erase("kim", client)
        #expect(try await !hashes(client).contains(Self.bare("kim")))
        #expect(try await found("kim", client) == 1)
        #expect(try await found("mara", client) == 0)
        // Each database has a key of its own.
        let mine = try await hashes(client)
        try await withDatabase { other in
          _ = try await erase("kim", other)
          #expect(try await hashes(other) != mine)
        }
      }
    }

    @Test("receipts of before the key are under it, and are found by their users as before")
    func upgraded() async throws {
      try await withClient(try await Servers.makeDatabase()) { client in
        let step = try #require(Migration.all.first { $0.name == "keyed receipts" })
        for earlier in Migration.all where earlier.number < step.number {
          try await client.withConnection { try await $0.executeScript(earlier.sql) }
        }
        for user in ["kim", "mara", "ünïcödé 🎬"] {
          try await client.execute(
            """
            INSERT INTO erasure_receipts (user_sha256, events, adapters, jobs, answers)
            VALUES (\(Self.bare(user)), 3, 1, 0, 0)
            """)
        }
        try await client.withConnection { try await $0.executeScript(step.sql) }
        for user in ["kim", "mara", "ünïcödé 🎬"] {
          #expect(try await found(user, client) == 1)
          #expect(try await !hashes(client).contains(Self.bare(user)))
        }
        #expect(try await erase("kim", client).found == .before)
      }
    }

    @Test("an operator's secret comes over receipts that are there, and none but it is taken then")
    func secret() async throws {
      try await withDatabase { client in
        let key = ReceiptKey(secret: Self.secret)
        _ = try await erase("kim", client)
        await #expect(throws: ReceiptKeyError.self) { try await found("kim", client, key: key) }
        let before = try await hashes(client)
        try await key.settle(in: client)
        try await key.settle(in: client)
        #expect(try await hashes(client) != before)
        #expect(try await found("kim", client, key: key) == 1)
        #expect(try await erase("kim", client, key: key).found == .before)
        _ = try await erase("mara", client, key: key)
        #expect(try await found("mara", client, key: key) == 1)
        // What the database holds is not enough to compute one.
        let stored = try await client.query("SELECT key FROM erasure_key").first
        let own = SymmetricKey(data: try #require(try stored?.decode("key", as: Data.self)))
        let under = try HMACSHA256.authenticationCode(
          for: Data(Self.bare("mara").utf8), using: own
        ).hexadecimal
        #expect(try await !hashes(client).contains(under))

        for other in [ReceiptKey.stored, ReceiptKey(secret: "another secret of this length")] {
          await #expect(throws: ReceiptKeyError.self) { try await other.settle(in: client) }
          await #expect(throws: ReceiptKeyError.self) {
            _ = try await erase("kim", client, key: other)
          }
        }
      }
    }

    @Test("a worker without the secret that the receipts are under does not start, and says why")
    func refused() async throws {
      try await Rig.with { rig in
        let secret = ["OPPU_ERASURE_KEY": Self.secret]
        #expect(
          try await rig.admin(["users", "receipts"], settings: secret).output.contains("Nobody"))
        _ = try await rig.startWorker(["OPPU_ROLES": "ingest"])
        try await eventually("the worker says why it does not start", state: rig.log()) {
          rig.log().contains("set erasure.key to it")
        }
        #expect(!rig.log().contains(Self.secret))
        let short = try await rig.admin(
          ["users", "receipts"], settings: ["OPPU_ERASURE_KEY": "short"])
        #expect(short.code == 2 && short.output.contains("at least 16 bytes"))
      }
    }
  }
}
