// The ingest role: behaviour events from Kafka into PostgreSQL, exactly once.
//
// PostgreSQL holds the offsets. On assignment the consumer claims each partition (a new epoch) and starts where
// PostgreSQL stands; every batch moves that position in the transaction that writes its rows. Kafka's committed
// offsets are advisory, for lag tools. What cannot be taken goes to the dead letter topic before the position
// passes it.

import Foundation
import KafkaClient
import Logging
import Personalization
import PostgresClient
import ServiceLifecycle
import Storage

public struct IngestService: Service {
  private let configuration: WorkerConfiguration.Kafka
  private let catalogue: TaskCatalogue
  private let repository: IngestRepository
  private let producer: KafkaProducer
  private let slot: WorkerSlot?
  private let logger: Logger

  public init(
    configuration: WorkerConfiguration.Kafka, catalogue: TaskCatalogue, client: PostgresClient,
    producer: KafkaProducer, logger: Logger
  ) {
    self.init(
      configuration: configuration, catalogue: catalogue, client: client, producer: producer,
      slot: nil, logger: logger)
  }

  /// - Parameter slot: where given, the consumer is a static member of its group under this number.
  init(
    configuration: WorkerConfiguration.Kafka, catalogue: TaskCatalogue, client: PostgresClient,
    producer: KafkaProducer, slot: WorkerSlot?, logger: Logger
  ) {
    self.slot = slot
    self.configuration = configuration
    self.catalogue = catalogue
    self.repository = IngestRepository(client)
    self.producer = producer
    self.logger = logger
  }

  public func run() async throws {
    let consumer = try KafkaConsumer(
      configuration: configuration.client, group: "\(configuration.groupPrefix)-ingest",
      topics: [configuration.behaviorTopic], properties: configuration.membership(slot),
      logger: logger)
    do {
      try await consume(consumer)
    } catch {
      await consumer.close()
      throw error
    }
    await consumer.close()
    logger.info("ingest stopped")
  }

  private func consume(_ consumer: KafkaConsumer) async throws {
    var positions: [TopicPartition: Position] = [:]
    while !Task.isShuttingDownGracefully {
      switch try await consumer.next(maximumMessages: 1_000, timeout: .milliseconds(500)) {
      case .assigned(let partitions):
        positions = try await claim(partitions, consumer: consumer)
        try await consumer.assign(
          positions.mapValues { $0.next < 0 ? KafkaOffset.beginning : $0.next })
        logger.info("ingest assigned", metadata: ["partitions": "\(partitions.count)"])
      case .revoked(let partitions, _):
        for partition in partitions { positions[partition] = nil }
        try await consumer.unassign()
      case .messages(let messages):
        try await take(messages, positions: &positions, consumer: consumer)
      case .idle:
        break
      }
    }
  }

  /// Where a partition stands in PostgreSQL, as far as this owner knows.
  struct Position: Sendable {
    var next: Int64
    let epoch: Int64
  }

  private func claim(
    _ partitions: [TopicPartition], consumer: KafkaConsumer
  ) async throws -> [TopicPartition: Position] {
    var positions: [TopicPartition: Position] = [:]
    for (topic, group) in Dictionary(grouping: partitions, by: \.topic) {
      let claims = try await retryingDatabase("claiming partitions", logger: logger) {
        try await repository.claim(topic: topic, partitions: group.map(\.partition))
      }
      for claim in claims {
        positions[TopicPartition(topic: claim.topic, partition: claim.partition)] = Position(
          next: try await start(of: claim, consumer: consumer), epoch: claim.epoch)
      }
    }
    return positions
  }

  /// Where a partition continues, held against what the broker has: a gap on either side would otherwise be
  /// passed over in silence.
  private func start(
    of claim: IngestRepository.Claim, consumer: KafkaConsumer
  ) async throws -> Int64 {
    guard claim.nextOffset >= 0 else { return claim.nextOffset }
    let partition = TopicPartition(topic: claim.topic, partition: claim.partition)
    let marks: (low: Int64, high: Int64)
    do {
      marks = try await consumer.watermarks(of: partition)
    } catch let error as KafkaError where !error.isFatal {
      logger.warning("the offsets of \(partition) could not be checked: \(error)")
      return claim.nextOffset
    }
    if claim.nextOffset < marks.low {
      logger.error(
        "\(partition): \(marks.low - claim.nextOffset) messages expired on the broker before they were read (offsets \(claim.nextOffset) to \(marks.low - 1))"
      )
    } else if claim.nextOffset > marks.high {
      logger.error(
        "\(partition): PostgreSQL stands at offset \(claim.nextOffset), but the broker ends at \(marks.high): the topic was made anew, or the broker lost messages. Reading it again from its beginning; events with known ids are dropped"
      )
      try await repository.rewind(claim)
      return -1
    }
    return claim.nextOffset
  }

  private func take(
    _ messages: [KafkaMessage], positions: inout [TopicPartition: Position], consumer: KafkaConsumer
  ) async throws {
    let groups = Dictionary(grouping: messages) {
      TopicPartition(topic: $0.topic, partition: $0.partition)
    }
    for (partition, group) in groups.sorted(by: { $0.key < $1.key }) {
      // A partition that was lost between fetch and now belongs to somebody else.
      guard var position = positions[partition] else { continue }
      // What PostgreSQL has already (the consumer may start a little earlier) is not offered twice.
      let fresh = group.filter { $0.offset >= position.next }
      do {
        try await take(fresh[...], at: &position)
        positions[partition] = position
      } catch let error as ZombieConsumerError {
        logger.warning("\(error)")
        positions[partition] = nil
      }
    }
    let offsets = positions.filter { groups[$0.key] != nil }.mapValues(\.next)
    do {
      try await consumer.commit(offsets)
    } catch let error as KafkaError where !error.isFatal {
      // Advisory only: the truth is in PostgreSQL.
      logger.debug("offsets not committed to Kafka: \(error)")
    }
  }

  /// Writes messages of one partition; splits a batch that PostgreSQL refuses until the message at fault is
  /// alone, which then becomes a dead letter.
  private func take(_ messages: ArraySlice<KafkaMessage>, at position: inout Position) async throws
  {
    guard let last = messages.last else { return }
    let (steps, deadLetters) = decode(messages)
    for letter in deadLetters { try await bury(letter) }
    let batch = IngestBatch(
      topic: last.topic, partition: last.partition, expectedOffset: position.next,
      nextOffset: last.offset + 1, epoch: position.epoch, steps: steps,
      deadLetters: deadLetters.count)
    do {
      try await write(batch)
      position.next = batch.nextOffset
    } catch let error as PostgresError where error.isDataError {
      if messages.count > 1 {
        let middle = messages.startIndex + messages.count / 2
        try await take(messages[..<middle], at: &position)
        try await take(messages[middle...], at: &position)
        return
      }
      let letter = DeadLetter(
        message: last, error: MessageError(.invalidMessage, "PostgreSQL refused it: \(error)"),
        stage: "store")
      try await bury(letter)
      var skipped = batch
      skipped.steps = []
      skipped.deadLetters = 1
      try await write(skipped)
      position.next = batch.nextOffset
    }
  }

  private func decode(_ messages: ArraySlice<KafkaMessage>) -> ([IngestStep], [DeadLetter]) {
    var steps: [IngestStep] = []
    var events: [IncomingEvent] = []
    var letters: [DeadLetter] = []
    for message in messages {
      do {
        switch try BehaviorEvent(message, catalogue: catalogue) {
        case .record(let event): events.append(event)
        case .erase(let userID):
          if !events.isEmpty { steps.append(.events(events)) }
          events = []
          steps.append(.erase(userID: userID))
        }
      } catch {
        let reason = error as? MessageError ?? MessageError(.invalidMessage, "\(error)")
        letters.append(DeadLetter(message: message, error: reason, stage: "decode"))
      }
    }
    if !events.isEmpty { steps.append(.events(events)) }
    return (steps, letters)
  }

  private func bury(_ letter: DeadLetter) async throws {
    logger.warning(
      "dead letter: \(letter.error.message)",
      metadata: [
        "topic": "\(letter.message.topic)", "partition": "\(letter.message.partition)",
        "offset": "\(letter.message.offset)",
      ])
    var backoff = Backoff()
    while true {
      do {
        return try await letter.send(by: producer)
      } catch let error as KafkaError where error.isRetriable && !Task.isShuttingDownGracefully {
        logger.warning("dead letter not sent: \(error); trying again")
        try await backoff.wait()
      }
    }
  }

  /// Writes a batch, waiting out a database that is away.
  ///
  /// A connection that broke at COMMIT leaves open whether the batch was taken. The next attempt then finds the
  /// partition moved on; if it stands exactly where this batch put it, under our epoch, the batch was taken.
  private func write(_ batch: IngestBatch) async throws {
    var uncertain = false
    var backoff = Backoff()
    while true {
      do {
        let result = try await repository.write(batch)
        logger.debug(
          "ingested",
          metadata: [
            "partition": "\(batch.partition)", "events": "\(result.events)",
            "duplicates": "\(result.duplicates)", "next": "\(batch.nextOffset)",
          ])
        return
      } catch let error as ZombieConsumerError {
        if uncertain,
          try await retryingDatabase(
            "ingest", logger: logger, { try await repository.stands(batch) })
        {
          return
        }
        throw error
      } catch let error as PostgresError
        where error.isRetryable && !Task.isShuttingDownGracefully
      {
        uncertain = true
        logger.warning("ingest: \(error); trying again")
        try await backoff.wait()
      }
    }
  }
}

extension PostgresError {
  /// The data itself was refused: no retry helps, another row might pass.
  var isDataError: Bool {
    // Refused by the client before it was sent, e.g. a character that PostgreSQL cannot hold.
    if kind == .invalidParameter { return true }
    guard let sqlState else { return false }
    return sqlState.hasPrefix("22") || sqlState.hasPrefix("23") || sqlState == "54000"
  }
}
