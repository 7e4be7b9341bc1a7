// One test's own database and topics, with the services and processes that work on them.

import DevelopmentServers
import Foundation
import KafkaClient
import Personalization
import PostgresClient
import Storage
import Synchronization
import Worker

struct Rig: Sendable {
  let database: String
  let client: PostgresClient
  let kafka: WorkerConfiguration.Kafka
  let producer: KafkaProducer
  let folder: URL
  private let workers = Workers()

  /// The processes that were started; one that a failed test leaves behind would take the others' time.
  private final class Workers: Sendable {
    private let started = Mutex<[ChildProcess]>([])
    func add(_ worker: ChildProcess) { started.withLock { $0.append(worker) } }
    func kill() async {
      for worker in started.withLock({ $0 }) { await worker.stop(SIGKILL) }
    }
  }

  /// Makes database and topics, runs the body, closes the clients, ends what processes are left.
  static func with(
    partitions: Int32 = 2, database: String? = nil, broker: String? = nil,
    makeTopics: (([NewTopic]) -> Void)? = nil,
    _ body: (Rig) async throws -> Void
  ) async throws {
    let url: String
    if let database { url = database } else { url = try await Servers.makeDatabase() }
    var kafka = WorkerConfiguration().kafka
    let name = UUID().uuidString.prefix(8)
    if let broker {
      kafka.bootstrapServers = broker
    } else {
      kafka.bootstrapServers = try await Servers.bootstrapServers()
    }
    kafka.behaviorTopic = "\(name)-behavior"
    kafka.requestTopic = "\(name)-requests"
    kafka.replyTopic = "\(name)-replies"
    kafka.adapterEventTopic = "\(name)-adapters"
    kafka.groupPrefix = "\(name)"
    kafka.properties = ["session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"]
    var configuration = WorkerConfiguration()
    configuration.kafka = kafka
    if let makeTopics {
      makeTopics(configuration.topics(partitions: partitions))
    } else {
      let admin = try KafkaAdmin(configuration: kafka.client, logger: Servers.logger)
      _ = try await admin.createTopics(configuration.topics(partitions: partitions))
      await admin.close()
    }
    let producer = try KafkaProducer(
      configuration: KafkaConfiguration(bootstrapServers: kafka.bootstrapServers),
      logger: Servers.logger)
    let folder = Servers.folder("rig")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try await withClient(url) { client in
      try await Migrator(client: client).migrate()
      let rig = Rig(
        database: url, client: client, kafka: kafka, producer: producer, folder: folder)
      let result: Result<Void, any Error>
      do { result = .success(try await body(rig)) } catch { result = .failure(error) }
      await rig.workers.kill()
      await producer.close()
      try result.get()
    }
  }

  // MARK: In this process

  /// Runs the ingest service for the length of the body.
  /// - Parameters:
  ///   - properties: librdkafka's, over the rig's.
  ///   - broker: another way to the broker.
  ///   - idleRest: as `dev` has it with the development broker.
  func withIngest(
    _ settings: WorkerConfiguration.Ingest = WorkerConfiguration.Ingest(),
    properties: [String: String] = [:], broker: String? = nil, idleRest: Duration = .zero,
    _ body: () async throws -> Void
  ) async throws {
    var kafka = kafka
    kafka.idleRest = idleRest
    kafka.properties.merge(properties) { $1 }
    if let broker { kafka.bootstrapServers = broker }
    let service = IngestService(
      configuration: kafka, settings: settings, catalogue: .builtIn, client: client,
      producer: producer, logger: Servers.logger)
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        do { try await service.run() } catch is CancellationError {}
      }
      do {
        try await body()
      } catch let error as Timeout {
        // Where the service has ended by itself, why is the better message.
        group.cancelAll()
        try await group.waitForAll()
        throw error
      }
      group.cancelAll()
      try await group.waitForAll()
    }
  }

  @discardableResult
  func produce(
    _ value: String?, key: String? = nil, to topic: String? = nil, partition: Int32? = nil,
    headers: [KafkaHeader] = [], timestamp: Date? = nil
  ) async throws -> (partition: Int32, offset: Int64) {
    try await producer.send(
      topic: topic ?? kafka.behaviorTopic, partition: partition, key: key.map { Data($0.utf8) },
      value: value.map { Data($0.utf8) }, headers: headers, timestamp: timestamp)
  }

  /// Produces many events at once, in order.
  func produce(_ values: [String], key: String, partition: Int32) async throws {
    try await produce(
      values.map { value in
        OutgoingMessage(
          topic: kafka.behaviorTopic, partition: partition, key: Data(key.utf8),
          value: Data(value.utf8))
      })
  }

  /// Produces messages in their order, all acknowledged.
  func produce(_ messages: [OutgoingMessage], by producer: KafkaProducer? = nil) async throws {
    let failures = await (producer ?? self.producer).send(messages)
    if let failure = failures.first { throw failure.value }
  }

  /// Waits until PostgreSQL stands at the sum of these offsets over all partitions.
  func waitForIngest(messages: Int, seconds: Int = 30) async throws {
    let query: PostgresQuery =
      "SELECT coalesce(sum(greatest(next_offset, 0)), 0)::bigint FROM ingest_partitions"
    try await eventually(
      "\(messages) messages taken", seconds: seconds,
      state: "(\((try? await client.number(query)) ?? -1))"
    ) {
      do {
        return try await client.number(query) == messages
      } catch let error as PostgresError where error.isRetryable {
        return false
      }
    }
  }

  /// The first messages of a topic, over all its partitions.
  func read(_ topic: String, count: Int, seconds: Int = 60) async throws -> [KafkaMessage] {
    let consumer = try KafkaConsumer(
      configuration: KafkaConfiguration(bootstrapServers: kafka.bootstrapServers),
      group: UUID().uuidString, topics: [topic], logger: Servers.logger)
    var messages: [KafkaMessage] = []
    let deadline = ContinuousClock.now + .seconds(seconds)
    while messages.count < count, ContinuousClock.now < deadline {
      switch try await consumer.next(timeout: .milliseconds(200)) {
      case .assigned(let partitions):
        try await consumer.assign(
          Dictionary(partitions.map { ($0, KafkaOffset.beginning) }, uniquingKeysWith: { $1 }))
      case .revoked(let partitions, _): try await consumer.unassign(partitions)
      case .messages(let batch): messages += batch
      case .idle, .halted: continue
      }
    }
    await consumer.close()
    guard messages.count >= count else {
      throw Timeout(description: "\(messages.count) of \(count) messages in \(topic)")
    }
    return messages
  }

  /// How many messages a topic holds.
  func messageCount(_ topic: String, partitions: Int32 = 2) async throws -> Int {
    let consumer = try KafkaConsumer(
      configuration: KafkaConfiguration(bootstrapServers: kafka.bootstrapServers),
      group: UUID().uuidString, topics: [topic], logger: Servers.logger)
    var count: Int64 = 0
    for partition in 0..<partitions {
      let marks = try await consumer.watermarks(
        of: TopicPartition(topic: topic, partition: partition))
      count += marks.high - marks.low
    }
    await consumer.close()
    return Int(count)
  }

  // MARK: The real binary

  /// The worker's environment: nothing of the outside but what every program needs.
  func environment(_ settings: [String: String]) -> [String: String] {
    var environment = ProcessInfo.processInfo.environment.filter { name, _ in
      !name.hasPrefix("OPPU_") && !name.hasPrefix("PG")
    }
    environment["OPPU_DATABASE_URL"] = database
    environment["OPPU_KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrapServers
    environment["OPPU_KAFKA_BEHAVIOR_TOPIC"] = kafka.behaviorTopic
    environment["OPPU_KAFKA_REQUEST_TOPIC"] = kafka.requestTopic
    environment["OPPU_KAFKA_REPLY_TOPIC"] = kafka.replyTopic
    environment["OPPU_KAFKA_ADAPTER_EVENT_TOPIC"] = kafka.adapterEventTopic
    environment["OPPU_KAFKA_GROUP_PREFIX"] = kafka.groupPrefix
    environment["OPPU_KAFKA_PROPERTIES"] = kafka.properties.map { "\($0)=\($1)" }
      .joined(separator: ",")
    environment["OPPU_MODEL"] = Paths.model
    environment.merge(settings) { $1 }
    return environment
  }

  /// Starts `oppu-worker run`; its output goes to `log`.
  func startWorker(
    _ settings: [String: String] = [:], log: String = "worker.log"
  ) async throws -> ChildProcess {
    let worker = try await ChildProcess.start(
      ChildProcess.Launch(
        executable: Paths.worker, arguments: ["run"], environment: environment(settings),
        logFile: folder.appendingPathComponent(log).path))
    workers.add(worker)
    return worker
  }

  /// Runs `oppu-worker admin …` to its end.
  func admin(
    _ arguments: [String], settings: [String: String] = [:]
  ) async throws -> (code: Int32, output: String) {
    let name = "admin-\(UUID().uuidString.prefix(8)).log"
    let process = try await ChildProcess.start(
      ChildProcess.Launch(
        executable: Paths.worker, arguments: ["admin"] + arguments,
        environment: environment(settings), logFile: folder.appendingPathComponent(name).path))
    workers.add(process)
    let code = (await process.waitForEnd() >> 8) & 0xFF
    return (code, log(name))
  }

  func log(_ name: String = "worker.log") -> String {
    (try? String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)) ?? ""
  }
}

extension KafkaMessage {
  func text(_ header: String) -> String? {
    self.header(header).map { String(decoding: $0, as: UTF8.self) }
  }

  func json() throws -> JSONValue {
    try JSONDecoder().decode(JSONValue.self, from: value ?? Data())
  }
}
