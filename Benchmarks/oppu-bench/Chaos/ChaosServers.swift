// The servers of a trial and the ways to them, and what can go wrong with either.

import DevelopmentServers
import Foundation
import PostgresClient

actor ChaosServers {
  enum Server: Sendable { case database, broker }

  private let folder: URL
  private let ledger: ChaosLedger
  private var postgres: PrivatePostgres
  private var broker: DevelopmentBroker
  private let databaseProxy: LoopbackProxy
  private let brokerProxy: LoopbackProxy
  /// Goes to the server itself, past the proxy.
  let database: PostgresClient
  /// The broker itself.
  let bootstrapServers: String

  init(folder: URL, broker program: URL, ledger: ChaosLedger) async throws {
    self.folder = folder
    self.ledger = ledger
    postgres = try await Self.startPostgres(in: folder)
    broker = try await Self.startBroker(program, in: folder)
    self.program = program
    bootstrapServers = broker.bootstrapServers
    databaseProxy = try LoopbackProxy(to: postgres.port)
    brokerProxy = try LoopbackProxy(to: broker.port, isKafka: true) {
      KafkaTopicHiding(beginning: ChaosMessages.unknownTopics)
    }
    // What is set for the workers' sessions does not hold for the trial's own.
    let own = "?options=-c%20default_transaction_read_only%3Doff%20-c%20statement_timeout%3D0"
    database = PostgresClient(
      PostgresConfiguration(postgres.connectionString + own, maximumConnections: 6),
      logger: BenchDatabase.logger)
  }

  private let program: URL

  private static func startPostgres(in folder: URL, port: Int? = nil) async throws
    -> PrivatePostgres
  {
    try await PrivatePostgres.start(
      folder: folder.appendingPathComponent("postgres"), port: port, logger: BenchDatabase.logger)
  }

  private static func startBroker(_ program: URL, in folder: URL, port: Int? = nil) async throws
    -> DevelopmentBroker
  {
    try await DevelopmentBroker.start(
      executable: program, folder: folder.appendingPathComponent("broker"), port: port,
      logger: BenchDatabase.logger)
  }

  /// How a worker reaches them.
  nonisolated var environment: [String: String] {
    [
      "OPPU_DATABASE_URL": "postgresql://oppu@127.0.0.1:\(databaseProxy.port)/oppu",
      "OPPU_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:\(brokerProxy.port)",
    ]
  }

  func stop(keepingFolder: Bool) async {
    await database.close()
    databaseProxy.stop()
    brokerProxy.stop()
    await broker.stop()
    await postgres.stop()
    if !keepingFolder { try? FileManager.default.removeItem(at: postgres.folder) }
  }

  // MARK: Ways

  private nonisolated func proxy(_ server: Server) -> LoopbackProxy {
    switch server {
    case .database: databaseProxy
    case .broker: brokerProxy
    }
  }

  nonisolated func set(_ mode: LoopbackProxy.Mode, to server: Server) {
    proxy(server).set(mode)
    if mode == .refusing { proxy(server).cut() }
  }

  nonisolated func cut(_ server: Server) { proxy(server).cut() }

  // MARK: Servers

  func killDatabase(down: Duration) async throws {
    await postgres.kill()
    await pause(down)
    postgres = try await Self.startPostgres(in: folder, port: postgres.port)
  }

  func restartBroker(down: Duration) async throws {
    if isStandIn {
      // It acknowledges what it has not written, and loses that when it is stopped, which Kafka does not: so the way
      // to it is closed, and it has written when its file has rested.
      set(.held, to: .broker)
      for _ in 0..<60 {
        await pause(.seconds(1))
        let file = folder.appendingPathComponent("broker/data/kafka.json").path
        let attributes = try? FileManager.default.attributesOfItem(atPath: file)
        let written = attributes?[.modificationDate] as? Date ?? .distantPast
        if written.timeIntervalSinceNow < -3 { break }
      }
    }
    let result: Result<Void, any Error>
    do {
      await broker.stop()
      await pause(down)
      broker = try await Self.startBroker(program, in: folder, port: broker.port)
      result = .success(())
    } catch { result = .failure(error) }
    if isStandIn { set(.open, to: .broker) }
    try result.get()
  }

  nonisolated var isStandIn: Bool { DevelopmentBroker.isStandIn(program) }

  func freezeBroker(_ time: Duration) async throws {
    try await broker.signal(SIGSTOP)
    await pause(time)
    try await broker.signal(SIGCONT)
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
    await sql("ALTER ROLE oppu IN DATABASE oppu SET \(name) = \(value)")
    await endOtherSessions()
    await pause(time)
    await sql("ALTER ROLE oppu IN DATABASE oppu RESET \(name)")
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
