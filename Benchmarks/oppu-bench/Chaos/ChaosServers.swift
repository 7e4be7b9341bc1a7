// The servers of a trial and the ways to them, and what can go wrong with either.

import DevelopmentServers
import Foundation
import PostgresClient

actor ChaosServers {
  enum Server: Sendable, Equatable {
    case database
    /// One of the brokers, from 0; or all of them.
    case broker(Int)
    case brokers
  }

  private let folder: URL
  private let ledger: ChaosLedger
  private var postgres: PrivatePostgres
  let brokers: ChaosBrokers
  private let databaseProxy: LoopbackProxy
  private let brokerProxies: [LoopbackProxy]
  /// Goes to the server itself, past the proxy.
  let database: PostgresClient
  private let databaseName: String

  /// - Parameters:
  ///   - program: of the brokers (`DevelopmentBroker.start`).
  ///   - count: of brokers; several only of Apache Kafka.
  init(folder: URL, broker program: URL, count: Int, ledger: ChaosLedger) async throws {
    self.folder = folder
    self.ledger = ledger
    postgres = try await Self.startPostgres(in: folder)
    brokers = try await ChaosBrokers(program, count: count, in: folder)
    databaseName = String(postgres.connectionString.split(separator: "/").last ?? "oppu")
    databaseProxy = try LoopbackProxy(to: postgres.port)
    brokerProxies = try LoopbackProxy.before(brokers: brokers.ports) {
      KafkaTopicHiding(beginning: ChaosMessages.unknownTopics)
    }
    // What is set for the workers' sessions does not hold for the trial's own.
    let own = "?options=-c%20default_transaction_read_only%3Doff%20-c%20statement_timeout%3D0"
    database = PostgresClient(
      PostgresConfiguration(postgres.connectionString + own, maximumConnections: 6),
      logger: BenchDatabase.logger)
  }

  private static func startPostgres(in folder: URL, port: Int? = nil) async throws
    -> PrivatePostgres
  {
    try await PrivatePostgres.start(
      folder: folder.appendingPathComponent("postgres"), port: port,
      script: OutsideServers.postgres, logger: BenchDatabase.logger)
  }

  /// How a worker reaches them.
  nonisolated var environment: [String: String] {
    [
      "OPPU_DATABASE_URL": "postgresql://oppu@127.0.0.1:\(databaseProxy.port)/\(databaseName)",
      "OPPU_KAFKA_BOOTSTRAP_SERVERS":
        brokerProxies.map { "127.0.0.1:\($0.port)" }.joined(separator: ","),
    ]
  }

  func stop(keepingFolder: Bool) async {
    await database.close()
    databaseProxy.stop()
    for proxy in brokerProxies { proxy.stop() }
    await brokers.stop()
    await postgres.stop()
    if !keepingFolder { try? FileManager.default.removeItem(at: postgres.folder) }
  }

  // MARK: Ways

  private nonisolated func proxies(_ server: Server) -> [LoopbackProxy] {
    switch server {
    case .database: [databaseProxy]
    case .broker(let index): [brokerProxies[index]]
    case .brokers: brokerProxies
    }
  }

  nonisolated func set(_ mode: LoopbackProxy.Mode, to server: Server) {
    for proxy in proxies(server) {
      proxy.set(mode)
      if mode == .refusing { proxy.cut() }
    }
  }

  nonisolated func cut(_ server: Server) {
    for proxy in proxies(server) { proxy.cut() }
  }

  // MARK: Servers

  func killDatabase(down: Duration) async throws {
    await postgres.kill()
    await pause(down)
    postgres = try await Self.startPostgres(in: folder, port: postgres.port)
  }

  /// Ends a broker in order, or as a crash would, and starts it again.
  func restartBroker(_ index: Int, isKilled: Bool, down: Duration) async throws {
    // What the stand-in acknowledges while it is stopped is lost, which Kafka's is not.
    if brokers.isStandIn { set(.held, to: .brokers) }
    let result: Result<Void, any Error>
    do {
      try await brokers.end(index, isKilled: isKilled)
      await pause(down)
      try await brokers.start(index)
      result = .success(())
    } catch { result = .failure(error) }
    if brokers.isStandIn { set(.open, to: .brokers) }
    try result.get()
  }

  func freezeBroker(_ index: Int, _ time: Duration) async throws {
    try await brokers.signal(SIGSTOP, to: index)
    await pause(time)
    try await brokers.signal(SIGCONT, to: index)
  }

  /// A fault's length: where the trial is over it ends, and is undone all the same.
  nonisolated func pause(_ time: Duration) async { try? await Task.sleep(for: time) }

  // MARK: In the database

  /// Runs a statement, again where a fault of a moment ago still stands in the way.
  private func sql(_ text: String) async {
    for _ in 0..<20 {
      if (try? await database.execute(PostgresQuery(unsafeSQL: text))) != nil { return }
      try? await Task.sleep(for: .milliseconds(500))
    }
    await ledger.find("the trial could not run \(text)")
  }

  /// Sets something for the workers' sessions, also those that are open, and takes it back.
  func setting(_ name: String, _ value: String, _ time: Duration) async {
    await sql("ALTER ROLE oppu IN DATABASE \(databaseName) SET \(name) = \(value)")
    await endOtherSessions()
    await pause(time)
    await sql("ALTER ROLE oppu IN DATABASE \(databaseName) RESET \(name)")
    await endOtherSessions()
  }

  func endOtherSessions() async {
    await sql(
      """
      SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
      """)
  }

  /// Somebody works on the tables of events and answers and lets nobody else at them.
  func lockTables(_ time: Duration) async throws {
    for attempt in 1... {
      do {
        return try await database.withTransaction { connection in
          try await connection.execute(
            "LOCK TABLE answers, behavior_events, user_task_state IN ACCESS EXCLUSIVE MODE")
          await pause(time)
        }
      } catch let error as PostgresError where error.isRetryable && attempt < 20 {
        // Workers take the same tables in an order of their own: of a deadlock this one may be the victim.
      }
    }
  }
}
