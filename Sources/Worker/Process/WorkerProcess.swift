// A worker process: what it needs is checked, then its roles run as services until it is told to stop.

import FineTuning
import Foundation
import KafkaClient
import LanguageModel
import LinearAlgebra
import Personalization
import PostgresClient
import Services
import Storage
import StructuredLogging

/// Why a worker does not start.
public enum StartError: Error, CustomStringConvertible, LocalizedError {
  case missingTopics([String])
  /// Topics that this process may not see, whether they are there or not.
  case hiddenTopics([String])
  /// A group that this process may not use.
  case forbiddenGroup(String)
  /// Fewer connections than the roles hold while they wait for one more.
  case tooFewConnections(Int, needed: Int)

  public var description: String {
    switch self {
    case .missingTopics(let names):
      "Kafka has no topic \(names.joined(separator: ", ")); create them with `oppu-worker admin topics create --execute`"
    case .hiddenTopics(let names):
      "Kafka does not let this user see \(names.joined(separator: ", ")): Describe on each topic is missing (docs/operating.md, Security)"
    case .forbiddenGroup(let name):
      "Kafka does not let this user use the group \(name): Read on it is missing (docs/operating.md, Security)"
    case .tooFewConnections(let maximum, let needed):
      "database.maximumConnections is \(maximum), but these roles need at least \(needed)"
    }
  }
  public var errorDescription: String? { description }
}

/// A worker process and its life.
public struct WorkerProcess: Sendable {
  private let configuration: WorkerConfiguration
  private let logger: Logger

  public init(configuration: WorkerConfiguration, logger: Logger) {
    self.configuration = configuration
    self.logger = logger
  }

  /// Runs until SIGTERM or SIGINT, then drains.
  /// - Throws: what keeps it from starting: model file, database, broker, topics, task file.
  public func run() async throws {
    let roles = configuration.roles
    logger.info(
      "worker starting",
      metadata: [
        "roles": "\(roles.map(\.rawValue).sorted().joined(separator: ","))",
        "librdkafka": "\(KafkaLibrary.current)",
      ])
    try configuration.kafka.client.check()
    let needed = configuration.leastConnections
    guard configuration.database.maximumConnections >= needed else {
      throw StartError.tooFewConnections(
        configuration.database.maximumConnections, needed: needed)
    }
    let catalogue = try configuration.catalogue()
    let client = PostgresClient(
      PostgresConfiguration(
        configuration.database.url,
        maximumConnections: configuration.database.maximumConnections), logger: logger)
    try await prepareDatabase(client)
    try await checkTopics()
    let model = try await loadModel(catalogue)
    let producer = try KafkaProducer(configuration: configuration.kafka.client, logger: logger)
    let slot = try await retryingDatabase("the worker's number", logger: logger) {
      try await WorkerSlot.take(client: client, logger: logger)
    }

    // The first to start and the last to stop: what the others use.
    var services: [any Service] = [Connections(producer: producer, client: client, slot: slot)]
    if roles.contains(.ingest) {
      services.append(
        IngestService(
          configuration: configuration.kafka, settings: configuration.ingest,
          catalogue: catalogue, client: client, key: configuration.receiptKey, producer: producer,
          slot: slot, logger: logger.role(.ingest)))
    }
    if roles.contains(.schedule) {
      services.append(
        SchedulerService(
          configuration: configuration, catalogue: catalogue, model: model, client: client,
          producer: producer, logger: logger.role(.schedule)))
    }
    if let model {
      if roles.contains(.train) {
        services.append(
          TrainerService(
            configuration: configuration, catalogue: catalogue, model: model, client: client,
            logger: logger.role(.train)))
      }
      if roles.contains(.infer) {
        services.append(
          InferenceService(
            configuration: configuration, catalogue: catalogue, model: model, client: client,
            producer: producer, slot: slot, logger: logger.role(.infer)))
      }
    }
    services.append(
      MaintenanceService(
        tasks: configuration.maintenance(catalogue), client: client, logger: logger))
    logger.info(
      "worker ready",
      metadata: [
        "roles": "\(roles.map(\.rawValue).sorted().joined(separator: ","))",
        "worker": "\(slot.number)",
      ])
    try await ServiceGroup(
      services: services, gracefulShutdownSignals: [.sigterm, .sigint],
      shutdownDeadline: configuration.shutdownDeadline
    ) { [logger] in logger.notice("\($0)") }.run()
    logger.info("worker stopped")
  }

  /// Closes what the roles use once all of them have ended.
  private struct Connections: Service {
    let producer: KafkaProducer
    let client: PostgresClient
    let slot: WorkerSlot

    func run() async throws {
      try? await gracefulShutdown()  // cancelled: it is closed all the same
      await producer.close()
      // Its connection has to be back before the pool can close.
      await slot.release()
      await client.close()
    }
  }

  private func prepareDatabase(_ client: PostgresClient) async throws {
    // A wrong address is told at once; what breaks after the first answer is waited out.
    try await client.ping()
    try await retryingDatabase("sessions", logger: logger) { try await SessionCheck.run(client) }
    let migrator = Migrator(client: client)
    try await retryingDatabase("migrations", logger: logger) {
      guard configuration.database.migrate else { return try await migrator.check() }
      for step in try await migrator.migrate() {
        logger.notice("applied migration \(step.number) (\(step.name))")
      }
    }
    try await retryingDatabase("erasure receipts", logger: logger) {
      try await configuration.receiptKey.settle(in: client)
    }
  }

  private func checkTopics() async throws {
    let admin = try KafkaAdmin(configuration: configuration.kafka.client, logger: logger)
    do {
      try await configuration.checkAccess(by: admin)
      await admin.close()
    } catch {
      await admin.close()
      throw error
    }
  }

  /// The model, where a role needs it; opened off the cooperative pool, for it reads and hashes a large file.
  private func loadModel(_ catalogue: TaskCatalogue) async throws -> ServedModel? {
    let roles = configuration.roles
    let needed =
      roles.contains(.train) || roles.contains(.infer)
      || (roles.contains(.schedule) && configuration.schedule.lossSignal)
    guard needed else { return nil }
    let configuration = configuration
    let model = try await ComputeQueue("load").run {
      let model = try ServedModel.load(configuration, catalogue: catalogue)
      _ = model.base.fingerprint
      return model
    }
    for note in model.base.tokenizer.notes { logger.warning("model file: \(note)") }
    let report = BLAS.shared.report.coreName
    logger.info(
      "model loaded",
      metadata: [
        "model": "\(URL(fileURLWithPath: configuration.model).lastPathComponent)",
        "fingerprint": "\(model.base.fingerprint.prefix(12))", "kernels": "\(report)",
        "task adapters": "\(model.tasks.isEmpty ? "none" : model.tasks.joined(separator: ","))",
      ])
    return model
  }
}

extension WorkerConfiguration {
  /// Looks whether the topics are there and the groups may be used.
  /// - Throws: ``StartError``; `KafkaError`.
  public func checkAccess(by admin: KafkaAdmin) async throws {
    let names = topics(partitions: 1).map(\.name)
    let presence = try await admin.presence(of: names)
    let hidden = names.filter { presence[$0] == .hidden }
    if !hidden.isEmpty { throw StartError.hiddenTopics(hidden) }
    let missing = names.filter { presence[$0] == .missing }
    if !missing.isEmpty { throw StartError.missingTopics(missing) }
    for (role, topic) in [(Role.ingest, kafka.behaviorTopic), (.infer, kafka.requestTopic)]
    where roles.contains(role) {
      let group = "\(kafka.groupPrefix)-\(role.rawValue)"
      guard await admin.mayUse(group: group, topic: topic) else {
        throw StartError.forbiddenGroup(group)
      }
    }
  }

  /// Built-in tasks and those of the task file.
  public func catalogue() throws -> TaskCatalogue {
    guard let tasksFile else { return .builtIn }
    return TaskCatalogue.builtIn.merging(try .loading(path: tasksFile))
  }

  /// What the roles look after: each kind of thing is removed by those who make it or use it.
  func maintenance(_ catalogue: TaskCatalogue) -> [any MaintenanceTask] {
    var tasks: [any MaintenanceTask] = []
    if roles.contains(.ingest) { tasks.append(EventRetention(catalogue: catalogue)) }
    if roles.contains(.ingest) || roles.contains(.infer) {
      tasks.append(AnswerRetention(days: infer.answerDays))
    }
    if roles.contains(.schedule) {
      tasks.append(AdapterRetention(policy: schedule.retention))
      tasks.append(RecordRetention(policy: schedule.retention))
    }
    // By the trainers' own limit of attempts.
    if roles.contains(.train) {
      tasks.append(QueueUpkeep(maximumAttempts: train.maximumAttempts))
    }
    return tasks
  }

  /// Connections without which the roles would wait for each other for ever: the worker's number holds one, the
  /// schedule's leader one; all of them need one more to get on.
  var leastConnections: Int { 2 + (roles.contains(.schedule) ? 1 : 0) }

  /// The topics that a worker reads and writes. Dead letter topics have as many partitions as their sources,
  /// for a dead letter keeps its partition.
  public func topics(partitions: Int32, replication: Int32 = 1) -> [NewTopic] {
    [
      kafka.behaviorTopic, kafka.requestTopic, kafka.replyTopic, kafka.adapterEventTopic,
      DeadLetter.topic(for: kafka.behaviorTopic), DeadLetter.topic(for: kafka.requestTopic),
    ].map { NewTopic(name: $0, partitions: partitions, replication: replication) }
  }
}

extension Logger {
  fileprivate func role(_ role: Role) -> Logger {
    var logger = self
    logger[metadataKey: "role"] = "\(role.rawValue)"
    return logger
  }
}
