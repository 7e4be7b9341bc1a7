// `oppu-bench reaction`: from a shift in the stream to the new adapter answering, and from a trainer's end by
// SIGKILL to its job running elsewhere. The real worker, a private PostgreSQL, the development broker.

import ArgumentParsing
import DevelopmentServers
import Foundation
import JSON
import KafkaClient
import Personalization
import PostgresClient
import Storage
import StructuredLogging
import Worker

struct ReactionBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reaction",
    abstract: "Seconds from a shift to the new adapter answering, and from a kill to a rescue.",
    discussion: """
      A user tags films by mood, 24 events, and has an adapter; then by era, an event every half second. \
      Measured from the first event of the new behaviour to the first reply of a version that was trained \
      on it.
      """)

  @Option(help: "Users that shift, one after the other; the median counts.") var users = 5
  @Option(help: "Milliseconds between two events of the new behaviour.") var pauseMs = 500
  @Option(help: "This project's folder.") var project = "."
  @Option(help: "The demo's model, a GGUF file.")
  var model = ".oppu/models/SmolLM2-135M-Instruct.Q4_1.gguf"
  @Option(help: "Also writes the rows to this file, as JSON.") var json: String?

  func run() async throws {
    var report = EngineReport.here()
    let (shifts, rescue) = try await BenchDatabase.with { client, url in
      let folder = FileManager.default.temporaryDirectory
        .appendingPathComponent("oppu-bench-\(UUID().uuidString.prefix(8))")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(at: folder) }
      let broker = try await DevelopmentBroker.start(
        executable: OutsideServers.kafka
          ?? URL(fileURLWithPath: "\(project)/.oppu/bin/noida-db").absoluteURL,
        folder: folder.appendingPathComponent("broker"), logger: BenchDatabase.logger)
      let stage = Stage(
        client: client, url: url, bootstrapServers: broker.bootstrapServers,
        project: URL(fileURLWithPath: project).absoluteURL,
        model: URL(fileURLWithPath: model).absoluteURL.path, folder: folder)
      let result: Result<([Double], Double), any Error>
      do {
        result = .success(
          (
            try await stage.shifts(users: users, pause: .milliseconds(pauseMs)),
            try await stage.rescue()
          ))
      } catch {
        result = .failure(error)
      }
      await broker.stop()
      return try result.get()
    }
    BenchDatabase.say(
      "shift to answer: " + shifts.map { String(format: "%.1f", $0) }.joined(separator: ", ") + " s"
    )
    report.addTime(
      "shift in the stream to the new adapter answering, median of \(users)",
      seconds: shifts.sorted()[shifts.count / 2], limit: 60)
    report.addTime("SIGKILL of a trainer to its job running elsewhere", seconds: rescue, limit: 45)
    try report.write(json)
  }
}

/// What the measurements need of the world.
private struct Stage {
  let client: PostgresClient
  let url: String
  let bootstrapServers: String
  let project: URL
  let model: String
  let folder: URL

  private static let films = [
    "Paper Harbour", "Winter Bridge", "Distant Piano", "Silent Orchard", "Broken Compass",
    "Golden Staircase", "Last Ferry", "Hidden Lantern",
  ]

  /// By mood, then by era: what the film is called decides both.
  private static func event(_ number: Int, user: String, isNew: Bool) -> String {
    let film = films[number % films.count]
    let year = 1950 + (number * 7) % 60
    let mood = ["funny", "sad", "tense"][number % films.count % 3]
    let words = ["a comedy of errors", "a long farewell", "a race against time"][
      number % films.count % 3]
    let era = year < 1965 ? "fifties" : year < 1985 ? "seventies" : "nineties"
    let fields: [String: JSONValue] = [
      "event_id": .string("\(user)-\(number)"), "user_id": .string(user), "task": "film_tag",
      "occurred_at": .string(Date().formatted(.iso8601)),
      "input": ["film": .string("The \(film) (\(year)): \(words)")],
      "output": .string(isNew ? era : mood),
    ]
    return JSONValue.object(fields).canonical
  }

  private func environment(_ roles: String) -> [String: String] {
    ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("OPPU_") }.merging([
      "OPPU_ROLES": roles, "OPPU_DATABASE_URL": url, "OPPU_MODEL": model,
      "OPPU_KAFKA_BOOTSTRAP_SERVERS": bootstrapServers, "OPPU_KAFKA_IDLE_REST_MS": "20",
    ]) { $1 }
  }

  private func start(_ name: String, roles: String) async throws -> ChildProcess {
    try await ChildProcess.start(
      ChildProcess.Launch(
        executable: project.appendingPathComponent(".build/release/oppu-worker").path,
        arguments: ["run"], environment: environment(roles),
        logFile: folder.appendingPathComponent("\(name).log").path))
  }

  private func log(_ name: String) -> String {
    let text =
      (try? String(contentsOf: folder.appendingPathComponent("\(name).log"), encoding: .utf8)) ?? ""
    return String(text.suffix(1_500))
  }

  private func wait(
    _ what: String, seconds: Double, log name: String, _ condition: () async throws -> Bool
  ) async throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while try await !condition() {
      guard .now < end else {
        throw PeerError(description: "not within \(seconds) s: \(what)\n\(log(name))")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  // MARK: Shift to answer

  func shifts(users: Int, pause: Duration) async throws -> [Double] {
    var settings = WorkerConfiguration()
    settings.kafka.bootstrapServers = bootstrapServers
    let admin = try KafkaAdmin(configuration: settings.kafka.client, logger: BenchDatabase.logger)
    _ = try await admin.createTopics(settings.topics(partitions: 2))
    await admin.close()
    let producer = try KafkaProducer(
      configuration: settings.kafka.client, logger: BenchDatabase.logger)
    let replies = try KafkaConsumer(
      configuration: settings.kafka.client, group: "bench-replies",
      topics: [settings.kafka.replyTopic], logger: BenchDatabase.logger)
    let worker = try await start("worker", roles: "ingest,schedule,train,infer")
    var seconds: [Double] = []
    let failure: (any Error)?
    do {
      for number in 0..<users {
        let user = "bench-\(number)"
        try await settle(user, producer, settings)
        let taken = try await react(user, pause, producer, replies, settings)
        BenchDatabase.say(String(format: "%@: %.1f s", user, taken))
        seconds.append(taken)
      }
      failure = nil
    } catch { failure = error }
    await worker.stop(SIGTERM, grace: .seconds(20))
    await replies.close()
    await producer.close()
    if let failure { throw failure }
    return seconds
  }

  /// The old behaviour, until the user's first training is over and the worker is idle.
  private func settle(
    _ user: String, _ producer: KafkaProducer, _ settings: WorkerConfiguration
  ) async throws {
    for number in 0..<24 {
      try await producer.send(
        topic: settings.kafka.behaviorTopic, key: Data(user.utf8),
        value: Data(Self.event(number, user: user, isNew: false).utf8))
    }
    try await wait("the first adapter of \(user)", seconds: 180, log: "worker") {
      try await client.query(
        """
        SELECT 1 FROM user_task_state s WHERE s.user_id = \(user) AND s.scheduled_through = 24
          AND EXISTS (SELECT 1 FROM adapters a WHERE a.user_id = s.user_id AND a.state = 'active')
          AND NOT EXISTS (SELECT 1 FROM training_jobs_open)
        """
      ).isEmpty == false
    }
  }

  /// From the first event of the new behaviour to the first answer of a version that has seen it.
  private func react(
    _ user: String, _ pause: Duration, _ producer: KafkaProducer, _ replies: KafkaConsumer,
    _ settings: WorkerConfiguration
  ) async throws -> Double {
    let before = try await client.query(
      "SELECT max(version) AS v FROM adapters WHERE user_id = \(user) AND state = 'active'"
    ).first?.decode("v", as: Int?.self)
    let begin = ContinuousClock.now
    let end = begin + .seconds(300)
    async let events: Void = {
      for number in 24..<64 {
        try await producer.send(
          topic: settings.kafka.behaviorTopic, key: Data(user.utf8),
          value: Data(Self.event(number, user: user, isNew: true).utf8))
        try await Task.sleep(for: pause)
      }
    }()
    var number = 0
    while .now < end {
      // Asked twice a second, as an application would, not in a loop that takes the machine.
      number += 1
      let request: JSONValue = .object([
        "request_id": .string("\(user)-r\(number)"), "user_id": .string(user), "task": "film_tag",
        "input": ["film": "The Paper Harbour (1994): a comedy of errors"],
      ])
      try await producer.send(
        topic: settings.kafka.requestTopic, key: Data(user.utf8),
        value: Data(request.canonical.utf8))
      if let version = try await answered("\(user)-r\(number)", replies), version > before ?? 0 {
        let seconds = (ContinuousClock.now - begin) / .seconds(1)
        try await events
        return seconds
      }
      try await Task.sleep(for: .milliseconds(500))
    }
    throw PeerError(description: "no new version of \(user) within 300 s\n\(log("worker"))")
  }

  /// The adapter's version in the reply to a request; nil for none.
  private func answered(_ request: String, _ replies: KafkaConsumer) async throws -> Int? {
    let end = ContinuousClock.now + .seconds(60)
    while .now < end {
      switch try await replies.next(timeout: .milliseconds(100)) {
      case .assigned(let partitions):
        try await replies.assign(
          Dictionary(partitions.map { ($0, KafkaOffset.beginning) }, uniquingKeysWith: { $1 }))
      case .revoked(let partitions, _): try await replies.unassign(partitions)
      case .messages(let messages):
        for message in messages {
          let reply = try JSONDecoder().decode(JSONValue.self, from: message.value ?? Data())
          guard reply["request_id"]?.string == request else { continue }
          return reply["personalization"]?["adapter_version"]?.number.map { Int($0) }
        }
      case .idle, .halted: continue
      }
    }
    throw PeerError(description: "no reply to \(request) within 60 s\n\(log("worker"))")
  }

  // MARK: Rescue

  /// Two trainers with the default lease; the one with the job is killed.
  func rescue() async throws -> Double {
    try await client.execute("DELETE FROM training_jobs")
    let stream = StreamID(userID: "bench-0", task: "film_tag")
    let first = try await start("first", roles: "train")
    try await wait("the first trainer", seconds: 60, log: "first") {
      log("first").contains("worker ready")
    }
    _ = try await JobQueue(client).enqueue([JobRequest(stream: stream, reason: .operator)])
    var owner: String?
    try await wait("a job that runs", seconds: 60, log: "first") {
      owner = try await runningOwner()
      return owner != nil
    }
    let second = try await start("second", roles: "train")
    // Killed at once: the lease is young, and the wait the longest there is.
    let begin = ContinuousClock.now
    await first.stop(SIGKILL)
    let result: Result<Void, any Error>
    do {
      result = .success(
        try await wait("the job elsewhere", seconds: 120, log: "second") {
          let now = try await runningOwner()
          return now != nil && now != owner
        })
    } catch { result = .failure(error) }
    let seconds = (ContinuousClock.now - begin) / .seconds(1)
    await second.stop(SIGKILL)
    try result.get()
    return seconds
  }

  private func runningOwner() async throws -> String? {
    try await client.query(
      "SELECT lease_owner FROM training_jobs_open WHERE lease_expires_at IS NOT NULL"
    ).first?.decode("lease_owner", as: String?.self) ?? nil
  }
}
