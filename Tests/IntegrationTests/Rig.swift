// One test's own database and topics, with the services and processes that work on them.

import DevelopmentServers
import Foundation
import JSON
import KafkaClient
import Personalization
import PostgresClient
import Storage
import Synchronization
import TestSupport
import Testing
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
  /// - Parameters:
  ///   - replication: how many brokers have a copy of each topic.
  ///   - hasDefaultTopics: the topics have the names that everybody knows, and are made anew.
  static func with(
    partitions: Int32 = 2, replication: Int32 = 1, database: String? = nil, broker: String? = nil,
    hasDefaultTopics: Bool = false,
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
    if !hasDefaultTopics {
      kafka.behaviorTopic = "\(name)-behavior"
      kafka.requestTopic = "\(name)-requests"
      kafka.replyTopic = "\(name)-replies"
      kafka.adapterEventTopic = "\(name)-adapters"
    }
    kafka.groupPrefix = "\(name)"
    kafka.properties = [
      "session.timeout.ms": "6000", "heartbeat.interval.ms": "300",
      // Two members that join at the same moment are now and then both left without an answer by the development
      // broker. They ask again after this time: five minutes unless said.
      "max.poll.interval.ms": "30000",
    ]
    var configuration = WorkerConfiguration()
    configuration.kafka = kafka
    if let makeTopics {
      makeTopics(configuration.topics(partitions: partitions))
    } else {
      let admin = try KafkaAdmin(configuration: kafka.client, logger: Servers.logger)
      let topics = configuration.topics(partitions: partitions, replication: replication)
      if hasDefaultTopics { _ = try await admin.deleteTopics(topics.map(\.name)) }
      // A broker may still be deleting.
      try await eventually("topics are made") {
        try await admin.createTopics(topics).values.allSatisfy { $0 == .created }
      }
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

  /// With librdkafka's broker for tests instead of the development broker.
  static func withMock(
    partitions: Int32 = 1, _ body: (Rig, MockBroker) async throws -> Void
  ) async throws {
    let mock = try MockBroker()
    try await with(
      partitions: partitions, broker: mock.bootstrapServers, makeTopics: mock.make
    ) { try await body($0, mock) }
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
    if kafka.client.usesConsumerProtocol {
      // There they are the broker's affair, and may not be set.
      for name in ["session.timeout.ms", "heartbeat.interval.ms"] { kafka.properties[name] = nil }
    }
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
  func waitForIngest(messages: Int) async throws {
    let query: PostgresQuery =
      "SELECT coalesce(sum(greatest(next_offset, 0)), 0)::bigint FROM ingest_partitions"
    try await eventually(
      "\(messages) messages taken", state: "(\((try? await client.number(query)) ?? -1))"
    ) {
      do {
        return try await client.number(query) == messages
      } catch let error as PostgresError where error.isRetryable {
        return false
      }
    }
  }

  func withAdmin<T>(_ body: (KafkaAdmin) async throws -> T) async throws -> T {
    let admin = try KafkaAdmin(configuration: plainKafka, logger: Servers.logger)
    let result: Result<T, any Error>
    do { result = .success(try await body(admin)) } catch { result = .failure(error) }
    await admin.close()
    return try result.get()
  }

  func make(_ topic: String, partitions: Int32) async throws {
    let new = NewTopic(name: topic, partitions: partitions, replication: 1)
    try await withAdmin { admin in
      try await eventually("\(topic) is made") {
        try await admin.createTopics([new])[topic] == .created
      }
    }
  }

  /// Deletes a topic and makes another one under its name.
  func makeAnew(_ topic: String, partitions: Int32) async throws {
    _ = try await withAdmin { try await $0.deleteTopics([topic]) }
    try await make(topic, partitions: partitions)
  }

  func waitForMessages(_ topic: String, count: Int) async throws {
    try await withAdmin { admin in
      var found = 0
      try await eventually("\(count) messages in \(topic)", state: "(\(found))\n\(log())") {
        found = try await Self.messageCount(topic, admin)
        return found >= count
      }
    }
  }

  /// The messages of a topic, over all its partitions, once there are so many. Outside any group: whoever joins one
  /// is kept waiting by the broker.
  func read(_ topic: String, count: Int) async throws -> [KafkaMessage] {
    try await waitForMessages(topic, count: count)
    var messages: [KafkaMessage] = []
    try await KafkaTopicReader(configuration: plainKafka, logger: Servers.logger).read(topic) {
      messages.append($0)
      return true
    }
    return messages
  }

  /// How many messages a topic holds.
  func messageCount(_ topic: String) async throws -> Int {
    try await withAdmin { try await Self.messageCount(topic, $0) }
  }

  private static func messageCount(_ topic: String, _ admin: KafkaAdmin) async throws -> Int {
    let partitions = try await admin.listTopics().first { $0.name == topic }?.partitionCount ?? 0
    var count: Int64 = 0
    for partition in 0..<Int32(partitions) {
      let marks = try await admin.watermarks(of: TopicPartition(topic: topic, partition: partition))
      count += marks.high - marks.low
    }
    return Int(count)
  }

  /// The offset that the requests' group has committed of partition 0.
  func committedRequests() async throws -> Int64? {
    let partition = TopicPartition(topic: kafka.requestTopic, partition: 0)
    return try await withAdmin {
      try await $0.committedOffsets(group: "\(kafka.groupPrefix)-infer", of: [partition])
    }[partition]?.next
  }

  /// Without what belongs to consumers.
  private var plainKafka: KafkaConfiguration {
    KafkaConfiguration(bootstrapServers: kafka.bootstrapServers)
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
    environment["OPPU_MODEL"] = ShallowModel.path
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

  /// Ends a worker as an operator does; it drains and ends with 0.
  func stop(
    _ worker: ChildProcess, sourceLocation: SourceLocation = #_sourceLocation
  ) async {
    await worker.stop(SIGTERM, grace: .seconds(120))
    let end = worker.endStatus.map(ChildProcess.describe)
    #expect(end == "exit code 0", "\(log())", sourceLocation: sourceLocation)
  }

  /// The database by way of a proxy.
  func database(by port: Int) throws -> String {
    database.replacing(":\(try databasePort)/", with: ":\(port)/")
  }

  var databasePort: Int { get throws { try #require(URLComponents(string: database)?.port) } }
  var brokerPort: Int {
    get throws {
      try #require(kafka.bootstrapServers.split(separator: ":").last.flatMap { Int($0) })
    }
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

  /// How often a worker has said something.
  func count(_ text: String, in name: String = "worker.log") -> Int {
    log(name).components(separatedBy: text).count - 1
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
