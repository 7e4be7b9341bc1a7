// Versions of a stream: promotion and rollback, lineage, and what retention may take.

import Foundation
import Personalization
import PostgresClient
import Testing

@testable import Storage

extension IntegrationTests {
  @Suite(.serialized) struct Adapters {
    private static let kim = StreamID(userID: "kim", task: "film_tag")

    private func insert(
      _ client: PostgresClient, parent: Int? = nil, promoted: Bool = true
    ) async throws -> Int {
      try await client.withTransaction { connection in
        let job = try await connection.query("SELECT nextval('training_job_ids') AS id").first?
          .decode("id", as: Int64.self)
        return try await AdapterRepository(connection).insert(
          NewAdapter(
            stream: Self.kim, parentVersion: parent, baseFingerprint: "f", configuration: [:],
            weights: Data([1, 2, 3]), trainedThrough: 3, training: .imported(from: "a test"),
            gate: GateRecord(
              heldOutExamples: 2, parentLoss: 2, candidateLoss: 1, difference: -1,
              differenceUpperBound: -0.5, promoted: promoted, verdict: "for a test")),
          jobID: try #require(job))
      }
    }

    private func states(_ client: PostgresClient) async throws -> [AdapterState] {
      try await AdapterRepository(client).list().map(\.state)
    }

    private func rollBack(
      _ client: PostgresClient, expected: Int? = nil
    ) async throws -> Int?? {
      try await client.withTransaction { connection in
        try await AdapterRepository(connection).rollBack(
          Self.kim, expected: expected, reason: "test")
      }.map(\.to)
    }

    @Test("a rollback goes to what was replaced, again and again, and at last to no adapter")
    func rollback() async throws {
      try await withDatabase { client in
        try await client.addStream(Self.kim)
        for parent in [nil, 1, 2] { _ = try await insert(client, parent: parent) }
        #expect(try await states(client) == [.retired, .retired, .active])
        #expect(try await rollBack(client, expected: 1) == .none, "another one is active")
        #expect(try await states(client) == [.retired, .retired, .active])
        #expect(try await rollBack(client, expected: 3) == .some(2))
        #expect(try await states(client) == [.retired, .active, .rolledBack])
        #expect(try await rollBack(client) == .some(1))
        #expect(try await rollBack(client) == .some(nil))
        #expect(try await states(client) == [.rolledBack, .rolledBack, .rolledBack])
        await #expect(throws: PromotionError.self) { try await rollBack(client) }
        let events = try await OutboxRepository(client).waiting().map(\.event)
        #expect(events.map(\.kind) == [.rolledBack, .rolledBack, .rolledBack])
        #expect(events.map(\.adapterVersion) == [3, 2, 1])
        #expect(events.map(\.parentVersion) == [2, 1, nil])
      }
    }

    @Test("an operator promotes a retired version, and a rejected one by force only")
    func promote() async throws {
      try await withDatabase { client in
        try await client.addStream(Self.kim)
        _ = try await insert(client)
        _ = try await insert(client, parent: 1)
        _ = try await insert(client, parent: 2, promoted: false)
        func promote(_ version: Int, force: Bool = false) async throws -> Int? {
          try await client.withTransaction { connection in
            try await AdapterRepository(connection).promote(
              Self.kim, version: version, force: force)
          }
        }
        #expect(try await promote(1) == 2)
        await #expect(throws: PromotionError.self) { try await promote(1) }
        await #expect(throws: PromotionError.self) { try await promote(3) }
        await #expect(throws: PromotionError.self) { try await promote(9) }
        #expect(
          try await states(client) == [.active, .retired, .rejected], "nothing of them stays")
        #expect(try await promote(3, force: true) == 1)
        #expect(try await states(client) == [.retired, .retired, .active])
        #expect(try await rollBack(client) == .some(1))
        let lineage = try await AdapterRepository(client).lineage(Self.kim, version: 3)
        #expect(lineage.map(\.version) == [3, 2, 1])
      }
    }

    private func remove(
      _ client: PostgresClient, _ policy: RetentionPolicy, from start: Date? = nil
    ) async throws -> Retention.Adapters {
      try await client.withTransaction {
        try await Retention($0).removeAdapters(policy, from: start)
      }
    }

    @Test("retention takes weights of old versions, and never those of a version in use")
    func retention() async throws {
      try await withDatabase { client in
        try await client.addStream(Self.kim)
        for version in 1...6 {
          _ = try await insert(client, parent: version > 1 ? version - 1 : nil)
        }
        _ = try await insert(client, parent: 6, promoted: false)
        try await client.execute(
          """
          UPDATE adapters SET created_at = now() - interval '300 days',
            promoted_at = now() - make_interval(days => 300 - version)
          """)
        var policy = RetentionPolicy()
        policy.versions = 0
        policy.recordDays = 1_000
        // What the active one was trained from, and what it took the place of, stay.
        let report = try await remove(client, policy)
        #expect(report.weights == 5, "1 to 4 and the rejected one")
        #expect(report.bytes == 15)
        let left = try await AdapterRepository(client).list().filter(\.hasWeights).map(\.version)
        #expect(left == [5, 6])
        #expect(try await remove(client, policy).weights == 0)
        #expect(
          try await AdapterRepository(client).lineage(Self.kim, version: 6).map(\.version)
            == [6, 5, 4, 3, 2, 1])
        // Numbers go too, but not those of an ancestor, nor the newest number.
        policy.recordDays = 100
        _ = try await insert(client, parent: 6, promoted: false)
        #expect(try await remove(client, policy).versions == 1)
        #expect(
          try await AdapterRepository(client).list().map(\.version) == [1, 2, 3, 4, 5, 6, 8])
      }
    }

    @Test("retention works in bounded pieces that go on where the last one ended")
    func pieces() async throws {
      try await withDatabase { client in
        try await client.addStream(Self.kim)
        for _ in 1...9 { _ = try await insert(client) }
        try await client.execute(
          "UPDATE adapters SET created_at = now() - make_interval(days => 100 - version)")
        var policy = RetentionPolicy()
        policy.versions = 0
        policy.limit = 3
        var next: Date?
        var weights = 0
        for _ in 0..<4 {
          let report = try await remove(client, policy, from: next)
          next = report.next
          weights += report.weights
          #expect(report.weights <= 3)
        }
        #expect(weights == 7, "all but the active one and what it replaced")
      }
    }
  }
}
