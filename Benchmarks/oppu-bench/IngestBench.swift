// `oppu-bench ingest`: events through the broker into PostgreSQL, beside psql's COPY of the same rows.
//
// The server is a private one with fsync on and its own defaults; the broker is the development broker and, where
// OPPU_TEST_KAFKA is set, Apache Kafka after it. What is measured is the real service, from its start until the last row
// is committed, on a backlog; consumer group, checks, exactly-once transactions and all. The peer is one `\copy` of the
// rows that came of it, columns and indexes the same, into an empty database on the same server; of Apache Kafka it is a
// consumer in Python that copies into the same table.

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
    abstract:
      "Events a second through a broker into PostgreSQL, beside psql's COPY and a consumer in Python.",
    discussion: "Let nothing else run meanwhile; the ratio is what counts.")

  @Option(
    help: "Events of 300 bytes. (The development broker slows down where it holds many more.)")
  var events = 150_000
  @Option(help: "Users that they are of.") var users = 2_000
  @Option(help: "Partitions of the topic.") var partitions: Int32 = 4
  @Option(help: "Times that each is measured; the best counts.") var runs = 4
  @Option(help: "The development broker's program.") var broker = ".oppu/bin/noida-db"
  @Option(help: "The Python with confluent-kafka and psycopg, for Apache Kafka's peer.")
  var python: String?
  @Option(help: "This project's folder.") var project = "."
  @Option(help: "Also writes the rows to this file, as JSON.") var json: String?

  func run() async throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("oppu-bench-\(UUID().uuidString.prefix(8))")
    var logger = Logger(label: "bench")
    logger.logLevel =
      ProcessInfo.processInfo.environment["OPPU_BENCH_LOG"].flatMap { Logger.Level(rawValue: $0) }
      ?? .error
    let postgres = try await PrivatePostgres.start(
      folder: folder.appendingPathComponent("postgres"), script: OutsideServers.postgres,
      logger: logger)
    let result: Result<Void, any Error>
    do {
      result = .success(
        try await report(postgres: postgres.connectionString, folder: folder, logger: logger))
    } catch { result = .failure(error) }
    await postgres.stop()
    try? FileManager.default.removeItem(at: postgres.folder)
    try? FileManager.default.removeItem(at: folder)
    try result.get()
  }

  private func report(postgres: String, folder: URL, logger: Logger) async throws {
    let standIn = try await measure(
      URL(fileURLWithPath: broker).absoluteURL, name: "standin", postgres: postgres,
      folder: folder, logger: logger)
    // Either of the two goals is enough; the second names no peer but a figure.
    var report = EngineReport(
      machine: .here(threads: ProcessInfo.processInfo.activeProcessorCount), versions: [:])
    report.add(
      "ingest, exactly once, fsync on, against psql \\copy", standIn.ours, standIn.copy, goal: 0.9,
      unit: "events/s")
    report.add(
      "ingest, against 80,000 events/s", standIn.ours, 80_000, goal: 1, unit: "events/s")
    if let program = OutsideServers.kafka {
      let kafka = try await measure(
        program, name: "kafka", postgres: postgres, folder: folder, logger: logger)
      // Here too either is enough.
      report.add(
        "ingest from Apache Kafka, against the development broker", kafka.ours, standIn.ours,
        goal: 0.8, unit: "events/s")
      report.add(
        "ingest from Apache Kafka, against a consumer in Python with COPY", kafka.ours,
        kafka.python?.eventsPerS, goal: 0.8, unit: "events/s")
      report.versions = kafka.python?.versions ?? [:]
    }
    print(report.table())
    if let json { try report.json().write(to: URL(fileURLWithPath: json), options: .atomic) }
  }

  private struct PythonFigures: Decodable {
    let eventsPerS: Double
    let versions: [String: String]
  }

  /// Events a second, the best of all runs.
  private struct Figures {
    var ours = 0.0
    /// psql's.
    var copy = 0.0
    var python: PythonFigures?
  }

  private func measure(
    _ program: URL, name: String, postgres: String, folder: URL, logger: Logger
  ) async throws -> Figures {
    say("--- \(name)")
    let kafka = try await DevelopmentBroker.start(
      executable: program, folder: folder.appendingPathComponent(name), logger: logger)
    demoteAutosave(of: kafka.processID)
    let result: Result<Figures, any Error>
    do {
      result = .success(
        try await measure(
          kafka.bootstrapServers, isStandIn: DevelopmentBroker.isStandIn(program), name: name,
          postgres: postgres, folder: folder, logger: logger))
    } catch { result = .failure(error) }
    await kafka.stop()
    return try result.get()
  }

  private func measure(
    _ kafka: String, isStandIn: Bool, name: String, postgres: String, folder: URL, logger: Logger
  ) async throws -> Figures {
    var settings = WorkerConfiguration()
    settings.kafka.bootstrapServers = kafka
    settings.kafka.groupPrefix = "bench"
    let admin = try KafkaAdmin(configuration: settings.kafka.client, logger: logger)
    _ = try await admin.createTopics(settings.topics(partitions: partitions))
    await admin.close()
    say("producing \(events) events of 300 bytes")
    try await produce(settings.kafka, logger: logger)

    let rows = folder.appendingPathComponent("rows.copy").path
    var figures = Figures()
    let peers = PeerPrograms(model: "", threads: 1, python: python ?? "python3", project: project)
    let hasPython = !isStandIn && peers.has("confluent_kafka") && peers.has("psycopg")
    if !isStandIn, !hasPython {
      say("no consumer in Python: pip install confluent-kafka 'psycopg[binary]', and --python")
    }
    for run in 1...max(1, runs) {
      settings.kafka.groupPrefix = "bench-\(run)"
      let database = try await makeDatabase("\(name)\(run)", on: postgres, logger: logger)
      let ours = try await ingest(settings, database: database, logger: logger)
      say(String(format: "run %d: the service, %.0f events/s", run, ours))
      figures.ours = max(figures.ours, ours)
      if isStandIn {
        let copy = try await copy(
          from: database, run: run, postgres: postgres, rows: rows, logger: logger)
        say(String(format: "run %d: psql, %.0f events/s", run, copy))
        figures.copy = max(figures.copy, copy)
      } else if hasPython {
        let empty = try await makeDatabase("python\(run)", on: postgres, logger: logger)
        let found = try peers.script(
          "kafka_copy.py",
          [
            "--bootstrap-servers", kafka, "--topic", settings.kafka.behaviorTopic,
            "--database", empty, "--events", "\(events)",
          ], as: PythonFigures.self)
        say(String(format: "run %d: Python, %.0f events/s", run, found.eventsPerS))
        if found.eventsPerS > figures.python?.eventsPerS ?? 0 { figures.python = found }
      }
    }
    return figures
  }

  /// psql's COPY of the rows that a run of ours has stored into an empty table of the same form: events a second.
  private func copy(
    from database: String, run: Int, postgres: String, rows: String, logger: Logger
  ) async throws -> Double {
    let names = Self.columns.joined(separator: ", ")
    if run == 1 {
      try psql(database, "\\copy (SELECT \(names) FROM behavior_events) TO '\(rows)'")
    }
    let empty = try await makeDatabase("copy\(run)", on: postgres, logger: logger)
    let seconds = try ContinuousClock().measure {
      try psql(empty, "\\copy behavior_events (\(names)) FROM '\(rows)'")
    }
    return Double(events) / (seconds / .seconds(1))
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
    let url = server.replacing(/\/\w+$/, with: "/\(name)")
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
