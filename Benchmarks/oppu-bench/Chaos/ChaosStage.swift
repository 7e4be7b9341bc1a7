// The world of a trial: servers, bad ways to them, and workers that somebody starts again when they end.

import DevelopmentServers
import Foundation
import KafkaClient
import Personalization
import PostgresClient
import Storage
import StructuredLogging
import Worker

actor ChaosStage {
  struct Settings: Sendable {
    var folder: URL
    var worker: String
    var broker: URL
    var model: String
    var workers: Int
    var settings: [String: String]
  }

  /// A worker's process, and what is meant to become of it.
  private struct Member {
    enum Wish { case runs, isDown, isFrozen }
    var process: ChildProcess?
    var wish = Wish.runs
    var startedAt = ContinuousClock.now
    var logLength = 0
    /// Resident bytes by the process's age.
    var memory: [(age: Duration, bytes: Int)] = []
  }

  let configuration: WorkerConfiguration
  private let settings: Settings
  private let ledger: ChaosLedger
  private var postgres: PrivatePostgres
  private var broker: DevelopmentBroker
  private let databaseProxy: LoopbackProxy
  private let brokerProxy: LoopbackProxy
  private var members: [Member]
  /// Goes to the server itself, past the proxy.
  let database: PostgresClient
  private(set) var peakMemory = 0

  static let partitions: Int32 = 4

  init(_ settings: Settings, ledger: ChaosLedger) async throws {
    self.settings = settings
    self.ledger = ledger
    let logger = BenchDatabase.logger
    postgres = try await PrivatePostgres.start(
      folder: settings.folder.appendingPathComponent("postgres"), logger: logger)
    broker = try await DevelopmentBroker.start(
      executable: settings.broker, folder: settings.folder.appendingPathComponent("broker"),
      logger: logger)
    databaseProxy = try LoopbackProxy(to: postgres.port)
    brokerProxy = try LoopbackProxy(to: broker.port, isKafka: true)
    // What is set for the workers' sessions does not hold for the trial's own.
    let own = "?options=-c%20default_transaction_read_only%3Doff%20-c%20statement_timeout%3D0"
    database = PostgresClient(
      PostgresConfiguration(postgres.connectionString + own, maximumConnections: 4), logger: logger)
    var configuration = WorkerConfiguration()
    configuration.kafka.bootstrapServers = broker.bootstrapServers
    self.configuration = configuration
    members = Array(repeating: Member(), count: settings.workers)
  }

  // MARK: The real binary

  private func environment(_ more: [String: String] = [:]) -> [String: String] {
    ProcessInfo.processInfo.environment.filter {
      !$0.key.hasPrefix("OPPU_") && !$0.key.hasPrefix("PG")
    }.merging([
      "OPPU_DATABASE_URL": "postgresql://oppu@127.0.0.1:\(databaseProxy.port)/oppu",
      "OPPU_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:\(brokerProxy.port)",
      "OPPU_KAFKA_IDLE_REST_MS": "100", "OPPU_MODEL": settings.model,
    ]) { $1 }.merging(settings.settings) { $1 }.merging(more) { $1 }
  }

  /// Runs a command of the worker's program to its end.
  ///
  /// - Returns: its wait status, nil where it had to be killed after `limit`, and what it printed.
  func run(
    _ arguments: [String], limit: Duration = .seconds(90)
  ) async throws -> (status: Int32?, output: String) {
    let log = settings.folder.appendingPathComponent("command-\(UUID().uuidString.prefix(8)).log")
    let process = try await ChildProcess.start(
      ChildProcess.Launch(
        executable: settings.worker, arguments: arguments, environment: environment(),
        logFile: log.path))
    let killer = Task {
      try await Task.sleep(for: limit)
      process.signal(SIGKILL)
      return true
    }
    let status = await process.waitForEnd()
    killer.cancel()
    let isKilled = (try? await killer.value) ?? false
    let output = (try? String(contentsOf: log, encoding: .utf8)) ?? ""
    try? FileManager.default.removeItem(at: log)
    return (isKilled ? nil : status, output)
  }

  func prepare() async throws {
    for command in [
      ["admin", "topics", "create", "--partitions", "\(Self.partitions)", "--execute"],
      ["admin", "migrate", "--execute"],
    ] {
      let (status, output) = try await run(command)
      guard status == 0 else { throw PeerError(description: "\(command): \(output)") }
    }
  }

  private func logFile(_ index: Int) -> URL {
    settings.folder.appendingPathComponent("worker-\(index).log")
  }

  private func log(_ index: Int, from start: Int = 0) -> String {
    guard let data = try? Data(contentsOf: logFile(index)) else { return "" }
    return String(decoding: data.dropFirst(start), as: UTF8.self)
  }

  private func start(_ index: Int) async throws {
    members[index].logLength = (try? Data(contentsOf: logFile(index)).count) ?? 0
    members[index].startedAt = .now
    members[index].memory = []
    members[index].process = try await ChildProcess.start(
      ChildProcess.Launch(
        executable: settings.worker, arguments: ["run"], environment: environment(),
        logFile: logFile(index).path))
  }

  /// Starts the workers, and again those that end though nobody wished it: which is found, unless one ended while it
  /// started and something else was wrong.
  func supervise() async throws {
    while !Task.isCancelled {
      for index in members.indices where members[index].wish == .runs {
        if let process = members[index].process, let status = process.endStatus {
          let text = log(index, from: members[index].logLength)
          let wasReady = text.contains("worker ready")
          let isDisturbed = await ledger.isDisturbed
          if wasReady || !isDisturbed {
            let lines = text.split(separator: "\n").suffix(4).joined(separator: " | ")
            await ledger.find(
              "worker \(index) ended by itself with \(ChildProcess.describe(status)): \(lines)")
          }
          members[index].process = nil
          try await Task.sleep(for: .seconds(1))
        }
        if members[index].process == nil, members[index].wish == .runs { try await start(index) }
      }
      sampleMemory()
      try await Task.sleep(for: .milliseconds(500))
    }
  }

  private func sampleMemory() {
    for index in members.indices {
      guard let process = members[index].process, process.isRunning,
        let text = try? String(
          contentsOfFile: "/proc/\(process.processID)/status", encoding: .utf8),
        let line = text.split(separator: "\n").first(where: { $0.hasPrefix("VmRSS:") }),
        let kibibytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
      else { continue }
      let age = ContinuousClock.now - members[index].startedAt
      if let last = members[index].memory.last, age - last.age < .seconds(5) { continue }
      members[index].memory.append((age, kibibytes << 10))
      peakMemory = max(peakMemory, kibibytes << 10)
    }
  }

  /// The growth from a process's second minute to its end, of those that lived for five minutes.
  func memoryGrowth() -> [Int] {
    members.compactMap { member in
      guard let last = member.memory.last, last.age > .seconds(300),
        let early = member.memory.filter({ $0.age < .seconds(120) }).map(\.bytes).max()
      else { return nil }
      return last.bytes - early
    }
  }

  /// Ends a worker as an orchestrator does, and finds it where that takes longer than it may.
  private func stop(_ index: Int) async {
    guard let process = members[index].process else { return }
    let begin = ContinuousClock.now
    let limit = configuration.shutdownDeadline + .seconds(10)
    process.signal(SIGTERM)
    while process.isRunning, .now - begin < limit { try? await Task.sleep(for: .milliseconds(50)) }
    if process.isRunning {
      await ledger.find("worker \(index) had not stopped \(limit) after SIGTERM")
      await process.stop(SIGKILL)
    }
    members[index].process = nil
  }

  func stopWorkers() async {
    for index in members.indices { members[index].wish = .isDown }
    await withTaskGroup(of: Void.self) { group in
      for index in members.indices { group.addTask { await self.stop(index) } }
    }
  }

  /// Kills what is left and removes what was made, but for a folder that is kept.
  func end(keepingFolder: Bool) async {
    for member in members { await member.process?.stop(SIGKILL) }
    await database.close()
    databaseProxy.stop()
    brokerProxy.stop()
    await broker.stop()
    await postgres.stop()
    if !keepingFolder {
      try? FileManager.default.removeItem(at: postgres.folder)
      try? FileManager.default.removeItem(at: settings.folder)
    }
  }

  // MARK: Faults

  /// Does it, and undoes it after its time.
  func apply(_ fault: ChaosPlan.Fault, traffic: ChaosTraffic) async throws {
    let marks = await ledger.begin(fault, areas(of: fault))
    BenchDatabase.say("\(fault)")
    do {
      try await perform(fault, traffic)
    } catch {
      await ledger.end(marks)
      throw error
    }
    await ledger.end(marks)
  }

  private func areas(of fault: ChaosPlan.Fault) -> [ChaosLedger.Area] {
    switch fault {
    case .databaseKilled, .databaseHeld, .databaseSlow, .databaseCut, .databaseRefuses,
      .sessionsEnded, .databaseReadOnly, .statementTimeout:
      [.database]
    case .brokerStopped, .brokerFrozen, .brokerHeld, .brokerSlow, .brokerCut: [.broker]
    case .workerKilled, .workerStopped, .workerFrozen, .eventsMadeAnew, .requestsMadeAnew:
      [.workers]
    case .eventsTruncated, .offsetsReset: []
    }
  }

  private func perform(_ fault: ChaosPlan.Fault, _ traffic: ChaosTraffic) async throws {
    switch fault {
    case .databaseKilled(let down):
      await postgres.kill()
      try await pause(down)
      postgres = try await PrivatePostgres.start(
        folder: settings.folder.appendingPathComponent("postgres"), port: postgres.port,
        logger: BenchDatabase.logger)
    case .databaseHeld(let time): try await hold(databaseProxy, .held, time)
    case .databaseSlow(let time): try await hold(databaseProxy, .slow(.milliseconds(20)), time)
    case .databaseCut: databaseProxy.cut()
    case .databaseRefuses(let time):
      databaseProxy.set(.refusing)
      databaseProxy.cut()
      try await hold(databaseProxy, .refusing, time)
    case .sessionsEnded: await endOtherSessions()
    case .databaseReadOnly(let time): try await setting("default_transaction_read_only", "on", time)
    case .statementTimeout(let time): try await setting("statement_timeout", "'30ms'", time)
    case .brokerStopped(let down):
      await broker.stop()
      try await pause(down)
      broker = try await DevelopmentBroker.start(
        executable: settings.broker, folder: settings.folder.appendingPathComponent("broker"),
        port: broker.port, logger: BenchDatabase.logger)
    case .brokerFrozen(let time):
      try await broker.signal(SIGSTOP)
      try await pause(time)
      try await broker.signal(SIGCONT)
    case .brokerHeld(let time): try await hold(brokerProxy, .held, time)
    case .brokerSlow(let time): try await hold(brokerProxy, .slow(.milliseconds(50)), time)
    case .brokerCut: brokerProxy.cut()
    case .workerKilled(let index, let down):
      members[index].wish = .isDown
      await members[index].process?.stop(SIGKILL)
      members[index].process = nil
      try await pause(down)
      members[index].wish = .runs
    case .workerStopped(let index, let down):
      members[index].wish = .isDown
      await stop(index)
      try await pause(down)
      members[index].wish = .runs
    case .workerFrozen(let index, let time):
      members[index].process?.signal(SIGSTOP)
      try await pause(time)
      members[index].process?.signal(SIGCONT)
    case .eventsMadeAnew(let isDown):
      try await makeAnew(configuration.kafka.behaviorTopic, withWorkersDown: isDown, traffic)
    case .requestsMadeAnew(let isDown):
      try await makeAnew(configuration.kafka.requestTopic, withWorkersDown: isDown, traffic)
    case .eventsTruncated: try await truncate(traffic)
    case .offsetsReset: try await resetOffsets()
    }
  }

  /// A fault's length: where the trial is over it ends, and is undone all the same.
  private func pause(_ time: Duration) async throws { try? await Task.sleep(for: time) }

  private func hold(_ proxy: LoopbackProxy, _ mode: LoopbackProxy.Mode, _ time: Duration)
    async throws
  {
    proxy.set(mode)
    try await pause(time)
    proxy.set(.open)
  }

  /// Statements of the trial's own, tried until the server takes them.
  private func sql(_ text: String) async {
    for _ in 0..<60 {
      if (try? await database.execute(PostgresQuery(unsafeSQL: text))) != nil { return }
      try? await Task.sleep(for: .milliseconds(500))
    }
    await ledger.find("the trial could not run \(text)")
  }

  /// Sets something for the workers' sessions, also those that are open, and takes it back.
  private func setting(_ name: String, _ value: String, _ time: Duration) async throws {
    await sql("ALTER ROLE oppu IN DATABASE oppu SET \(name) = \(value)")
    await endOtherSessions()
    try await pause(time)
    await sql("ALTER ROLE oppu IN DATABASE oppu RESET \(name)")
    await endOtherSessions()
  }

  private func endOtherSessions() async {
    await sql(
      """
      SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
      """)
  }

  // MARK: Topics

  /// Whether ingest stands at the end of every partition and every request has its reply.
  private func isDrained(_ replies: Bool) async throws -> Bool {
    if replies { return await ledger.unanswered.isEmpty }
    let admin = try KafkaAdmin(
      configuration: configuration.kafka.client, logger: BenchDatabase.logger)
    var ends: Int64 = 0
    for number in 0..<Self.partitions {
      ends += try await admin.watermarks(
        of: TopicPartition(topic: configuration.kafka.behaviorTopic, partition: number)
      ).high
    }
    await admin.close()
    let stored = try await database.query(
      "SELECT coalesce(sum(greatest(next_offset, 0)), 0)::bigint AS n FROM ingest_partitions"
    ).first?.decode("n", as: Int64.self)
    return stored == ends
  }

  /// Nothing is sent any more and all is taken; false where that does not come to be.
  private func drain(_ traffic: ChaosTraffic, replies: Bool) async throws -> Bool {
    try await traffic.pause()
    let end = ContinuousClock.now + .seconds(90)
    while .now < end, !Task.isCancelled {
      if (try? await isDrained(replies)) == true { return true }
      try await Task.sleep(for: .milliseconds(300))
    }
    return false
  }

  private func makeAnew(
    _ topic: String, withWorkersDown isDown: Bool, _ traffic: ChaosTraffic
  ) async throws {
    let isRequests = topic == configuration.kafka.requestTopic
    guard try await drain(traffic, replies: isRequests) else {
      await ledger.find("\(topic) was not read to its end within 90 s")
      await traffic.resume()
      return
    }
    if isDown { await stopWorkers() }
    let admin = try KafkaAdmin(
      configuration: configuration.kafka.client, logger: BenchDatabase.logger)
    _ = try? await admin.deleteTopics([topic])
    let new = NewTopic(name: topic, partitions: Self.partitions, replication: 1)
    for _ in 0..<60 {
      if try await admin.createTopics([new])[topic] == .created { break }
      try await Task.sleep(for: .milliseconds(500))
    }
    await admin.close()
    await traffic.resume(isAnew: true)
    if isDown {
      try await pause(.seconds(3))
      for index in members.indices { members[index].wish = .runs }
    }
  }

  /// Does what an operator does who is told that partitions wait: has them read from their beginning.
  func resolveGaps() async throws {
    while !Task.isCancelled {
      try await Task.sleep(for: .seconds(2))
      // Also of a schema that knows of no gaps.
      let gaps = try? await database.query(
        "SELECT partition FROM ingest_partitions p WHERE to_jsonb(p)->>'gap' IS NOT NULL"
      ).map { try $0.decode("partition", as: Int32.self) }
      guard let gaps, !gaps.isEmpty else { continue }
      let (status, output) = try await run(
        ["admin", "offsets", "reset", "--to", "beginning", "--execute"]
          + gaps.flatMap { ["--partition", "\($0)"] })
      await ledger.countCommand()
      BenchDatabase.say(
        status == 0 ? "partitions \(gaps) waited and were reset" : "offsets reset: \(output)")
    }
  }

  /// Half of what is there goes, all of which was read.
  private func truncate(_ traffic: ChaosTraffic) async throws {
    guard try await drain(traffic, replies: false) else {
      await traffic.resume()
      return
    }
    var before: [TopicPartition: Int64] = [:]
    let admin = try KafkaAdmin(
      configuration: configuration.kafka.client, logger: BenchDatabase.logger)
    for number in 0..<Self.partitions {
      let partition = TopicPartition(topic: configuration.kafka.behaviorTopic, partition: number)
      let marks = try await admin.watermarks(of: partition)
      before[partition] = (marks.low + marks.high) / 2
    }
    do { try await admin.deleteRecords(before: before) } catch { BenchDatabase.say("\(error)") }
    await admin.close()
    await traffic.resume()
  }

  /// Everything is read again: nothing is doubled, nobody who was erased comes back.
  private func resetOffsets() async throws {
    let (status, output) = try await run(
      ["admin", "offsets", "reset", "--to", "beginning", "--execute"])
    await ledger.countCommand()
    guard status == 0 else {
      BenchDatabase.say("offsets reset: \(output)")
      return
    }
    let end = ContinuousClock.now + .seconds(60)
    while .now < end, !Task.isCancelled {
      let behind = try? await database.query(
        "SELECT count(*) AS n FROM ingest_partitions WHERE next_offset = 0"
      ).first?.decode("n", as: Int.self)
      if behind == 0 { return }
      try await pause(.seconds(1))
    }
    if await !ledger.isDisturbed {
      await ledger.find("a worker did not follow `offsets reset` within 60 s")
    }
  }
}
