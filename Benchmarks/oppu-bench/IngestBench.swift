// `oppu-bench ingest`: events through the broker into PostgreSQL, beside psql's COPY of the same rows.
//
// The server is a private one with fsync on and its own defaults; the broker is the development broker. What is
// measured is the real service, from its start until the last row is committed, on a backlog; consumer group,
// checks, exactly-once transactions and all. The peer is one `\copy` of the rows that came of it, columns and
// indexes the same, into an empty database on the same server.

import ArgumentParsing
import DevelopmentServers
import Foundation
import KafkaClient
import Personalization
import PostgresClient
import Storage
import StructuredLogging
import Worker

struct IngestBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ingest",
    abstract: "Events a second through the broker into PostgreSQL, beside psql's COPY.",
    discussion: "Let nothing else run meanwhile; the ratio is what counts.")

  @Option(
    help: "Events of 300 bytes. (The development broker slows down where it holds many more.)")
  var events = 150_000
  @Option(help: "Users that they are of.") var users = 2_000
  @Option(help: "Partitions of the topic.") var partitions: Int32 = 4
  @Option(help: "Times that each is measured; the best counts.") var runs = 4
  @Option(help: "The development broker's program.") var broker = ".oppu/bin/noida-db"
  @Option(help: "Also writes the rows to this file, as JSON.") var json: String?

  func run() async throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("oppu-bench-\(UUID().uuidString.prefix(8))")
    var logger = Logger(label: "bench")
    logger.logLevel =
      ProcessInfo.processInfo.environment["OPPU_BENCH_LOG"].flatMap { Logger.Level(rawValue: $0) }
      ?? .error
    let postgres = try await PrivatePostgres.start(
      folder: folder.appendingPathComponent("postgres"), logger: logger)
    let kafka = try await DevelopmentBroker.start(
      executable: OutsideServers.kafka ?? URL(fileURLWithPath: broker).absoluteURL,
      folder: folder.appendingPathComponent("broker"), logger: logger)
    demoteAutosave(of: kafka.processID)
    let result: Result<Void, any Error>
    do {
      result = .success(
        try await measure(
          postgres: postgres.connectionString, kafka: kafka.bootstrapServers, folder: folder,
          logger: logger))
    } catch { result = .failure(error) }
    await kafka.stop()
    await postgres.stop()
    try? FileManager.default.removeItem(at: postgres.folder)
    try? FileManager.default.removeItem(at: folder)
    try result.get()
  }

  private func measure(
    postgres: String, kafka: String, folder: URL, logger: Logger
  ) async throws {
    var settings = WorkerConfiguration()
    settings.kafka.bootstrapServers = kafka
    settings.kafka.groupPrefix = "bench"
    let admin = try KafkaAdmin(configuration: settings.kafka.client, logger: logger)
    _ = try await admin.createTopics(settings.topics(partitions: partitions))
    await admin.close()
    say("producing \(events) events of 300 bytes")
    try await produce(settings.kafka, logger: logger)

    let rows = folder.appendingPathComponent("rows.copy").path
    var ours: [Double] = []
    var peer: [Double] = []
    for run in 1...max(1, runs) {
      settings.kafka.groupPrefix = "bench-\(run)"
      let database = try await makeDatabase("ours\(run)", on: postgres, logger: logger)
      say("run \(run): the service")
      ours.append(try await ingest(settings, database: database, logger: logger))
      let names = Self.columns.joined(separator: ", ")
      if run == 1 {
        try psql(database, "\\copy (SELECT \(names) FROM behavior_events) TO '\(rows)'")
      }
      let empty = try await makeDatabase("peer\(run)", on: postgres, logger: logger)
      say("run \(run): psql")
      let seconds = try ContinuousClock().measure {
        try psql(empty, "\\copy behavior_events (\(names)) FROM '\(rows)'")
      }
      peer.append(Double(events) / (seconds / .seconds(1)))
      say(String(format: "run %d: %.0f and %.0f events/s", run, ours[run - 1], peer[run - 1]))
    }
    let (best, bestPeer) = (ours.max() ?? 0, peer.max() ?? 1)
    // Either of the two goals is enough; the second names no peer but a figure.
    var report = EngineReport(
      machine: .here(threads: ProcessInfo.processInfo.activeProcessorCount), versions: [:])
    report.add(
      "ingest, exactly once, fsync on, against psql \\copy", best, bestPeer, goal: 0.9,
      unit: "events/s")
    report.add("ingest, against 80,000 events/s", best, 80_000, goal: 1, unit: "events/s")
    print(report.table())
    if let json { try report.json().write(to: URL(fileURLWithPath: json), options: .atomic) }
  }

  private static let columns = [
    "user_id", "task", "ordinal", "event_id", "kind", "occurred_at", "input", "output",
    "request_id", "verdict", "extra", "topic", "partition", "\"offset\"",
  ]

  /// The development broker writes all that it holds as one JSON text whenever something has changed, a heartbeat
  /// even; on two cores that takes a third of the machine from whoever is measured. Its thread gets what is left
  /// over. (Kafka appends to a file.)
  private func demoteAutosave(of process: pid_t) {
    let tasks = "/proc/\(process)/task"
    for name in (try? FileManager.default.contentsOfDirectory(atPath: tasks)) ?? [] {
      guard let thread = id_t(name),
        let command = try? String(contentsOfFile: "\(tasks)/\(name)/comm", encoding: .utf8),
        command.hasPrefix("autosave")
      else { continue }
      #if os(Linux)
        setpriority(__priority_which_t(PRIO_PROCESS.rawValue), thread, 19)
      #endif
    }
  }

  // MARK: Events

  /// A text of words, so that it compresses and compares as text does.
  private func event(_ number: Int, user: Int) -> Data {
    let words = ["paper", "harbour", "winter", "bridge", "thief", "letter", "orphan", "train"]
    var text = ""
    var state = UInt64(number) &* 0x9E37_79B9_7F4A_7C15
    while text.utf8.count < 120 {
      text += words[Int(state >> 61)] + " "
      state = state &* 6_364_136_223_846_793_005 &+ 1
    }
    var value =
      #"{"event_id":"e-\#(number)","user_id":"user-\#(user)","task":"film_tag","#
      + #""occurred_at":"2026-01-31T09:30:00Z","input":{"film":"\#(text)"#
    let end = #""},"output":"funny"}"#
    value += String(repeating: "x", count: max(0, 300 - value.utf8.count - end.utf8.count)) + end
    return Data(value.utf8)
  }

  private func produce(_ kafka: WorkerConfiguration.Kafka, logger: Logger) async throws {
    var configuration = kafka.client
    configuration.properties["linger.ms"] = "20"
    let producer = try KafkaProducer(configuration: configuration, logger: logger)
    let chunk = 20_000
    for start in stride(from: 0, to: events, by: chunk) {
      let messages = (start..<min(start + chunk, events)).map { number in
        let user = Int(UInt64(number) &* 0x9E37_79B9_7F4A_7C15 >> 33) % users
        return OutgoingMessage(
          topic: kafka.behaviorTopic, partition: Int32(user) % partitions,
          key: Data("user-\(user)".utf8), value: event(number, user: user))
      }
      if let failure = await producer.send(messages).first { throw failure.value }
    }
    await producer.close()
  }

  // MARK: Ours

  private func makeDatabase(
    _ name: String, on server: String, logger: Logger
  ) async throws -> String {
    let client = PostgresClient(PostgresConfiguration(server), logger: logger)
    try await client.execute(PostgresQuery(unsafeSQL: "CREATE DATABASE \(name)"))
    // What earlier runs left to be written must not be charged to this one.
    try await client.execute("CHECKPOINT")
    await client.close()
    let url = server.replacing(/\/oppu$/, with: "/\(name)")
    let inside = PostgresClient(PostgresConfiguration(url), logger: logger)
    try await Migrator(client: inside).migrate()
    await inside.close()
    return url
  }

  /// Events a second.
  private func ingest(
    _ settings: WorkerConfiguration, database: String, logger: Logger
  ) async throws -> Double {
    let client = PostgresClient(PostgresConfiguration(database), logger: logger)
    let producer = try KafkaProducer(configuration: settings.kafka.client, logger: logger)
    let service = IngestService(
      configuration: settings.kafka, settings: settings.ingest, catalogue: .builtIn,
      client: client, producer: producer, logger: logger)
    let begin = ContinuousClock.now
    let running = Task {
      do { try await service.run() } catch is CancellationError {} catch {
        say("the service ended: \(error)")
        throw error
      }
    }
    var first: ContinuousClock.Instant?
    var taken: Int64 = 0
    while taken < Int64(events) {
      try await Task.sleep(for: .milliseconds(20))
      if first == nil {
        // From the first assignment on: joining a group is waiting, not work.
        let claims = try await client.query("SELECT 1 FROM ingest_partitions LIMIT 1")
        if !claims.isEmpty { first = ContinuousClock.now }
        continue
      }
      taken =
        try await client.query(
          "SELECT coalesce(sum(greatest(next_offset, 0)), 0)::bigint AS n FROM ingest_partitions"
        ).first?.decode("n") ?? 0
    }
    let seconds = (ContinuousClock.now - (first ?? begin)) / .seconds(1)
    running.cancel()
    _ = await running.result
    let stored: Int64 =
      try await client.query("SELECT count(*) AS n FROM behavior_events").first?.decode("n") ?? 0
    guard stored == Int64(events) else {
      throw ValidationError("\(stored) of \(events) events were stored")
    }
    await producer.close()
    await client.close()
    return Double(events) / seconds
  }

  private func psql(_ database: String, _ command: String) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [
      "psql", "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", command,
    ]
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw ValidationError("psql ended with \(process.terminationStatus)")
    }
  }

  private func say(_ text: String) {
    FileHandle.standardError.write(Data("bench: \(text)\n".utf8))
  }
}
