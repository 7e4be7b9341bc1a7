// The ingest role: behaviour events from Kafka into PostgreSQL, exactly once.
//
// PostgreSQL holds the offsets. On assignment the consumer claims each partition (a new epoch) and starts where
// PostgreSQL stands; every batch moves that position in the transaction that writes its rows. Kafka's committed
// offsets are advisory, for lag tools. What cannot be taken goes to the dead letter topic before the position
// passes it.
//
// A stored offset counts only for the log that it was stored for: Lanes, LogCheck.
//
// One task polls the group and deals messages out to the partitions' lanes; it never waits for PostgreSQL, so
// that heartbeats and rebalances go on while a database is away. A lane that cannot keep up is paused.

import Foundation
import KafkaClient
import Personalization
import PostgresClient
import Services
import Storage
import StructuredLogging

/// The role `ingest`: stores events.
public struct IngestService: Service {
  private let kafka: WorkerConfiguration.Kafka
  private let context: LaneContext
  private let slot: WorkerSlot?
  private let logger: Logger

  /// As a member of its group without a name that outlives it, with the database's own key for
  /// receipts.
  public init(
    configuration: WorkerConfiguration.Kafka,
    settings: WorkerConfiguration.Ingest = WorkerConfiguration.Ingest(), catalogue: TaskCatalogue,
    client: PostgresClient, producer: KafkaProducer, logger: Logger
  ) {
    self.init(
      configuration: configuration, settings: settings, catalogue: catalogue, client: client,
      key: .stored, producer: producer, slot: nil, logger: logger)
  }

  /// - Parameter slot: where given, the consumer is a static member of its group under this number.
  init(
    configuration: WorkerConfiguration.Kafka, settings: WorkerConfiguration.Ingest,
    catalogue: TaskCatalogue, client: PostgresClient, key: ReceiptKey, producer: KafkaProducer,
    slot: WorkerSlot?, logger: Logger
  ) {
    self.slot = slot
    self.logger = logger
    kafka = configuration
    context = LaneContext(
      settings: settings, catalogue: catalogue, repository: IngestRepository(client, key: key),
      producer: producer, slots: WriterSlots(settings.writers), logger: logger)
  }

  public func run() async throws {
    try await kafka.asMember(slot, logger: logger) { try await read() }
    logger.info("ingest stopped")
  }

  /// The life of one consumer.
  private func read() async throws {
    let group = "\(kafka.groupPrefix)-ingest"
    // An offset that the log does not have is told, never exchanged for another; a damaged byte is not stored.
    let properties = kafka.membership(slot).merging([
      "auto.offset.reset": "error", "check.crcs": "true",
    ]) { $1 }
    let consumer = try KafkaConsumer(
      configuration: kafka.client, group: group, topics: [kafka.behaviorTopic],
      properties: properties, logger: logger)
    let probe = try KafkaLogProbe(configuration: kafka.client, group: group, logger: logger)
    let lanes = Lanes(consumer: consumer, check: LogCheck(probe), context: context)
    let watching = Task { await lanes.watch(topic: kafka.behaviorTopic) }
    let committing = Task {
      while !Task.isCancelled {
        // As often as Kafka's own clients do it; nothing rests on it.
        try await Task.sleep(for: .seconds(5))
        await lanes.commit()
      }
    }
    let result = await Self.result { try await consume(consumer, lanes: lanes) }
    watching.cancel()
    probe.close()
    await lanes.stop()
    committing.cancel()
    await lanes.commit()
    await consumer.close()
    try result.get()
  }

  private static func result(_ work: () async throws -> Void) async -> Result<Void, any Error> {
    do { return .success(try await work()) } catch { return .failure(error) }
  }

  private func consume(_ consumer: KafkaConsumer, lanes: Lanes) async throws {
    while !Task.isShuttingDownGracefully {
      let isFree = try await lanes.makeRoom()
      let event = try await consumer.next(
        maximumMessages: 2_000, timeout: .milliseconds(isFree ? 500 : 20))
      switch event {
      case .assigned(let partitions):
        try await lanes.start(partitions)
        logger.info("ingest assigned", metadata: ["partitions": "\(Self.numbers(partitions))"])
      case .revoked(let partitions, _):
        await lanes.revoke(partitions)
        try await consumer.unassign(partitions)
        logger.info("ingest revoked", metadata: ["partitions": "\(Self.numbers(partitions))"])
      case .messages(let messages): lanes.deal(messages)
      case .halted(let partition, let error): lanes.halt(partition, error)
      case .idle: break
      }
    }
  }

  private static func numbers(_ partitions: [TopicPartition]) -> String {
    partitions.map { String($0.partition) }.joined(separator: ",")
  }
}
