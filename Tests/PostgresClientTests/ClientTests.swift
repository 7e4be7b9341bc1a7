import DevelopmentServers
import Foundation
import PostgresClient
import TestSupport
import Testing

@Suite("Client", .timeLimit(.minutes(5)))
struct ClientTests {
  @Test("What a transaction did is gone when its body throws, and there when it returns")
  func transaction() async throws {
    struct Stop: Error {}
    try await Server.withClient { client in
      try await client.execute("CREATE TABLE tx (n int PRIMARY KEY)")
      await #expect(throws: Stop.self) {
        try await client.withTransaction { connection in
          try await connection.execute("INSERT INTO tx VALUES (1)")
          throw Stop()
        }
      }
      #expect(try await client.query("SELECT * FROM tx").isEmpty)
      try await client.withTransaction { connection in
        try await connection.execute("INSERT INTO tx VALUES (2)")
        await #expect(throws: PostgresError.self) {
          try await connection.withSavepoint { try await $0.execute("INSERT INTO tx VALUES (2)") }
        }
        try await connection.withSavepoint { try await $0.execute("INSERT INTO tx VALUES (3)") }
      }
      #expect(try await client.query("SELECT * FROM tx").count == 2)
    }
  }

  @Test("A transaction in which an error was swallowed does not pretend to commit")
  func swallowedError() async throws {
    try await Server.withClient { client in
      await #expect(throws: PostgresError.self) {
        try await client.withTransaction { connection in
          try await connection.execute("CREATE TABLE swallowed (n int)")
          _ = try? await connection.execute("SELECT 1/0")
        }
      }
      let tables = try await client.query("SELECT 1 FROM pg_class WHERE relname = 'swallowed'")
      #expect(tables.isEmpty)
    }
  }

  @Test("A unique violation is typed, names its constraint and is not retryable")
  func uniqueViolation() async throws {
    try await Server.withClient { client in
      try await client.execute("CREATE TABLE once (n int CONSTRAINT only_once UNIQUE)")
      #expect(try await client.execute("INSERT INTO once VALUES (1), (2)") == 2)
      let error = await #expect(throws: PostgresError.self) {
        try await client.execute("INSERT INTO once VALUES (\(1))")
      }
      #expect(error?.isUniqueViolation == true)
      #expect(error?.isRetryable == false)
      #expect(error?.constraint == "only_once")
      #expect(error?.query == "INSERT INTO once VALUES ($1)")
      let copy = await #expect(throws: PostgresError.self) {
        try await client.withConnection {
          try await $0.copyIn(table: "once", columns: ["n"], rows: [[.int(5)], [.int(2)]])
        }
      }
      #expect(copy?.isUniqueViolation == true)
      #expect(try await client.query("SELECT * FROM once").count == 2)
    }
  }

  @Test("An exhausted pool lends in order of asking, and a cancelled waiter leaves the queue")
  func exhaustedPool() async throws {
    try await Server.withClient(connections: 1) { client in
      let first = AsyncStream<Void>.makeStream()
      let held = AsyncStream<Void>.makeStream()
      let holder = Task {
        try await client.withConnection { _ in
          held.continuation.yield()
          for await _ in first.stream { break }
        }
      }
      for await _ in held.stream { break }
      let cancelled = Task { try await client.query("SELECT 1") }
      let waiting = Task { try await client.query("SELECT 2 AS n") }
      cancelled.cancel()
      await #expect(throws: CancellationError.self) { try await cancelled.value }
      first.continuation.yield()
      try await holder.value
      let row = try #require(try await waiting.value.first)
      #expect(try row.decode("n", as: Int.self) == 2)
    }
  }

  @Test("A pool under a crowd of tasks, some cancelled, loses no connection")
  func crowdedPool() async throws {
    try await Server.withClient(connections: 2) { client in
      await withTaskGroup(of: Void.self) { group in
        for number in 0..<60 {
          group.addTask {
            let task = Task { try await client.query("SELECT pg_sleep(0.005)") }
            if number % 3 == 0 { task.cancel() }
            _ = try? await task.value
          }
        }
      }
      async let one = client.query("SELECT pg_backend_pid()")
      async let two = client.query("SELECT pg_backend_pid()")
      let rows = try await (one, two)
      #expect(rows.0.count + rows.1.count == 2)
    }
  }

  @Test("A killed backend is a retryable error, and the pool recovers")
  func killedBackend() async throws {
    try await Server.withClient(connections: 1) { client in
      try await Server.withClient { other in
        let error = await #expect(throws: PostgresError.self) {
          try await client.withConnection { connection in
            let pid = try await connection.query("SELECT pg_backend_pid() AS p")[0]
              .decode("p", as: Int32.self)
            try await other.execute("SELECT pg_terminate_backend(\(pid))")
            _ = try await connection.query("SELECT 1")
          }
        }
        #expect(error?.isRetryable == true)
        #expect(error?.isConnectionFailure == true)
        // Killed while idle: the pool notices before it lends.
        let pid = try await client.query("SELECT pg_backend_pid() AS p")[0]
          .decode("p", as: Int32.self)
        try await other.execute("SELECT pg_terminate_backend(\(pid), 5000)")
        #expect(try await client.query("SELECT 1").count == 1)
      }
    }
  }

  @Test("Cancelling a task cancels its statement on the server, and only that one")
  func cancellation() async throws {
    try await Server.withClient(connections: 1) { client in
      let start = ContinuousClock.now
      let task = Task { try await client.query("SELECT pg_sleep(30)") }
      try await Server.withClient { other in
        while try await other.query(
          "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' AND state = 'active'"
        ).isEmpty { await Task.yield() }
      }
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
      #expect(ContinuousClock.now - start < .seconds(10))
      for _ in 0..<20 { #expect(try await client.query("SELECT 1").count == 1) }
    }
  }

  @Test("A transaction whose task is cancelled is rolled back")
  func cancelledTransaction() async throws {
    try await Server.withClient(connections: 1) { client in
      try await client.execute("CREATE TABLE cancelled (n int)")
      let started = AsyncStream<Void>.makeStream()
      let task = Task {
        try await client.withTransaction { connection in
          try await connection.execute("INSERT INTO cancelled VALUES (1)")
          started.continuation.yield()
          try await connection.execute("SELECT pg_sleep(30)")
        }
      }
      for await _ in started.stream { break }
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
      #expect(try await client.query("SELECT * FROM cancelled").isEmpty)
    }
  }

  @Test("NOTIFY reaches a listener with its payload, in order")
  func listenNotify() async throws {
    try await Server.withClient { client in
      let stream = try await client.listen(["plain", "Odd \"name"])
      try await client.execute("NOTIFY plain, 'one'")
      try await client.execute("SELECT pg_notify('Odd \"name', \("two ✓"))")
      var seen: [PostgresNotification] = []
      for try await notification in stream {
        seen.append(notification)
        if seen.count == 2 { break }
      }
      #expect(seen.map(\.channel) == ["plain", "Odd \"name"])
      #expect(seen.map(\.payload) == ["one", "two ✓"])
    }
  }

  @Test("A listener whose connection is killed throws a connection failure")
  func brokenListener() async throws {
    try await Server.withClient { client in
      let stream = try await client.listen(["broken"])
      try await client.execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN "broken"'
        """)
      let error = await #expect(throws: PostgresError.self) {
        for try await _ in stream {}
      }
      #expect(error?.isConnectionFailure == true)
    }
  }

  @Test("A missing server is one clear error with host, port and database, without the password")
  func missingServer() async throws {
    let port = try LocalPort.free()
    let client = PostgresClient(
      PostgresConfiguration("postgresql://me:secret@127.0.0.1:\(port)/nowhere"))
    let error = await #expect(throws: PostgresError.self) { try await client.ping() }
    let text = try #require(error?.description)
    #expect(text.contains("\"nowhere\" at 127.0.0.1, port \(port)"))
    #expect(!text.contains("secret"))
    #expect(error?.isConnectionFailure == true)
    await client.close()
    await #expect(throws: PostgresError.self) { try await client.ping() }
  }

  @Test("A malformed connection string is refused without showing it")
  func malformedConnectionString() async throws {
    let client = PostgresClient(
      PostgresConfiguration("postgresql://me:secret@host/db?bogus=secret"))
    let error = await #expect(throws: PostgresError.self) { try await client.ping() }
    #expect(error?.kind == .invalidParameter)
    #expect(error?.description.contains("secret") == false)
    let split = PostgresClient(PostgresConfiguration("postgresql://me:sec@ret@127.0.0.1:1/db"))
    let unescaped = await #expect(throws: PostgresError.self) { try await split.ping() }
    #expect(unescaped?.description.contains("%40") == true)
    #expect(unescaped?.description.contains("ret@") == false)
    let unknown = PostgresClient(PostgresConfiguration("hots=db"))
    let second = await #expect(throws: PostgresError.self) { try await unknown.ping() }
    #expect(second?.description.contains("hots") == true)
  }

  @Test("COPY of ten thousand rows")
  func bigCopy() async throws {
    try await Server.withClient { client in
      try await client.withTransaction { connection in
        try await connection.execute("CREATE TEMP TABLE big (n int8, t text, j jsonb)")
        let rows = try (0..<10_000).map { number -> [PostgresValue?] in
          [.int(Int64(number)), .text("row \(number)"), try .json(encoding: ["n": number])]
        }
        let start = ContinuousClock.now
        #expect(
          try await connection.copyIn(table: "big", columns: ["n", "t", "j"], rows: rows) == 10_000)
        print("COPY of 10000 rows took \(ContinuousClock.now - start)")
        let row = try await connection.query(
          "SELECT sum(n) AS s, sum((j->>'n')::int) AS k FROM big")
        #expect(try row[0].decode("s", as: Int.self) == 49_995_000)
        #expect(try row[0].decode("k", as: Int.self) == 49_995_000)
      }
    }
  }

  @Test("A COPY whose row is too short, or outside the type's range, changes nothing")
  func failedCopy() async throws {
    try await Server.withClient(connections: 1) { client in
      try await client.execute("CREATE TABLE strict (n int2, m int2)")
      for rows in [[[.int(1), .int(1)], [.int(1)]], [[.int(1), .int(70_000)]]]
        as [[[PostgresValue?]]]
      {
        await #expect(throws: PostgresError.self) {
          try await client.withConnection {
            try await $0.copyIn(table: "strict", columns: ["n", "m"], rows: rows)
          }
        }
      }
      #expect(try await client.query("SELECT * FROM strict").isEmpty)
    }
  }

  @Test(
    "What passes or is mended by somebody is told from what a statement did wrong",
    arguments: [
      ("SET statement_timeout = 20; SELECT pg_sleep(10)", "57014", true),
      ("SET default_transaction_read_only = on; CREATE TABLE t (n int)", "25006", true),
      ("SET lock_timeout = 20; BEGIN; LOCK TABLE held", "55P03", true),
      ("SELECT 1 / 0", "22012", false), ("SELECT * FROM nowhere", "42P01", false),
    ])
  func retryable(_ statements: String, _ state: String, _ isRetryable: Bool) async throws {
    try await Server.withClient { client in
      try await client.execute("CREATE TABLE IF NOT EXISTS held (n int)")
      try await client.withTransaction { holder in
        try await holder.execute("LOCK TABLE held")
        let error = await #expect(throws: PostgresError.self) {
          try await client.withConnection { connection in
            for statement in statements.split(separator: "; ") {
              try await connection.execute(PostgresQuery(unsafeSQL: String(statement)))
            }
          }
        }
        #expect(error?.sqlState == state && error?.isRetryable == isRetryable)
      }
    }
  }

  @Test("A server that is killed and started again has its data, and the client goes on")
  func restart() async throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("oppu-tests-postgres-\(UUID().uuidString.prefix(8))")
    Cleanup.removeAtExit(folder.path)
    let first = try await PrivatePostgres.start(folder: folder, logger: Server.logger)
    let client = PostgresClient(
      PostgresConfiguration(first.connectionString), logger: Server.logger)
    try await client.execute("CREATE TABLE kept AS SELECT 42 AS n")
    // Somebody else's server is not ended to make room.
    let refused = await #expect(throws: DevelopmentServerError.self) {
      try await PrivatePostgres.start(folder: folder, logger: Server.logger)
    }
    #expect("\(refused, default: "")".contains("a server of process \(getpid()) runs there"))
    #expect(first.isRunning)
    await first.kill()
    // Backends outlive a server that was killed by a moment.
    let error = await #expect(throws: PostgresError.self) {
      while true { _ = try await client.query("SELECT 1") }
    }
    #expect(error?.isRetryable == true)
    let second = try await PrivatePostgres.start(
      folder: folder, port: first.port, logger: Server.logger)
    #expect(try await client.query("SELECT n FROM kept")[0].decode("n", as: Int.self) == 42)
    await client.close()
    await second.stop()
    #expect(!second.isRunning)
  }
}
