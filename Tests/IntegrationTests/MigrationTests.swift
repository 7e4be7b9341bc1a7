// The schema on a real PostgreSQL.

import PostgresClient
import Storage
import Testing

extension IntegrationTests {
  @Suite struct Migrations {
    @Test("the schema is applied once, and applying it again does nothing")
    func twice() async throws {
      try await withClient(try await Servers.makeDatabase()) { client in
        let migrator = Migrator(client: client)
        #expect(try await migrator.pending().map(\.number) == Migration.all.map(\.number))
        await #expect(throws: MigrationError.self) { try await migrator.check() }
        #expect(try await migrator.migrate().count == Migration.all.count)
        #expect(try await migrator.migrate().isEmpty)
        #expect(try await migrator.pending().isEmpty)
        try await migrator.check()
      }
    }

    @Test("workers that start together wait for each other, and each step is applied once")
    func concurrent() async throws {
      try await withClient(try await Servers.makeDatabase()) { client in
        let applied = try await withThrowingTaskGroup(of: Int.self) { group in
          for _ in 0..<6 {
            group.addTask { try await Migrator(client: client).migrate().count }
          }
          return try await group.reduce(0, +)
        }
        #expect(applied == Migration.all.count)
        #expect(
          try await client.number("SELECT count(*) FROM schema_migrations") == Migration.all.count)
      }
    }

    @Test("a step that was applied with other contents is refused by its number")
    func edited() async throws {
      try await withDatabase { client in
        _ = try await client.execute(
          "UPDATE schema_migrations SET checksum = 'other' WHERE number = 1")
        for work in [Migrator.migrateOnly, Migrator.checkOnly] {
          let error = await #expect(throws: MigrationError.self) {
            try await work(Migrator(client: client))
          }
          #expect(error?.description.contains("migration 1 (initial)") == true)
        }
      }
    }

    @Test("a database of a newer release is refused")
    func newer() async throws {
      try await withDatabase { client in
        _ = try await client.execute(
          "INSERT INTO schema_migrations (number, name, checksum) VALUES (9999, 'later', 'x')")
        let error = await #expect(throws: MigrationError.self) {
          try await Migrator(client: client).migrate()
        }
        #expect(error?.description.contains("9999") == true)
      }
    }
  }
}

extension Migrator {
  fileprivate static func migrateOnly(_ migrator: Migrator) async throws {
    try await migrator.migrate()
  }

  fileprivate static func checkOnly(_ migrator: Migrator) async throws {
    try await migrator.check()
  }
}
