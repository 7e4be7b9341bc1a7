// The ingest role: behaviour events from Kafka into PostgreSQL, exactly once.
//
// PostgreSQL holds the offsets. On assignment the consumer claims each partition (a new epoch) and starts where
// PostgreSQL stands; every batch moves that position in the transaction that writes its rows. Kafka's committed
// offsets are advisory, for lag tools. What cannot be taken goes to the dead letter topic before the position
// passes it.
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
import Synchronization

public struct IngestService: Service {
  private let kafka: WorkerConfiguration.Kafka
  private let context: LaneContext
  private let slot: WorkerSlot?
  private let logger: Logger

  public init(
    configuration: WorkerConfiguration.Kafka,
    settings: WorkerConfiguration.Ingest = WorkerConfiguration.Ingest(), catalogue: TaskCatalogue,
    client: PostgresClient, producer: KafkaProducer, logger: Logger
  ) {
    self.init(
      configuration: configuration, settings: settings, catalogue: catalogue, client: client,
      producer: producer, slot: nil, logger: logger)
  }

  /// - Parameter slot: where given, the consumer is a static member of its group under this number.
  init(
    configuration: WorkerConfiguration.Kafka, settings: WorkerConfiguration.Ingest,
    catalogue: TaskCatalogue, client: PostgresClient, producer: KafkaProducer, slot: WorkerSlot?,
    logger: Logger
  ) {
    self.slot = slot
    self.logger = logger
    kafka = configuration
    context = LaneContext(
      settings: settings, catalogue: catalogue, repository: IngestRepository(client),
      producer: producer, slots: WriterSlots(settings.writers), logger: logger)
  }

  public func run() async throws {
    let consumer = try KafkaConsumer(
      configuration: kafka.client, group: "\(kafka.groupPrefix)-ingest",
      topics: [kafka.behaviorTopic], properties: kafka.membership(slot), logger: logger)
    let lanes = Lanes(consumer: consumer, context: context)
    let committing = Task {
      while !Task.isCancelled {
        // As often as Kafka's own clients do it; nothing rests on it.
        try await Task.sleep(for: .seconds(5))
        await lanes.commit()
      }
    }
    let result = await Self.result { try await consume(consumer, lanes: lanes) }
    await lanes.stop(nil)
    committing.cancel()
    await lanes.commit()
    await consumer.close()
    try result.get()
    logger.info("ingest stopped")
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
        await lanes.stop(partitions)
        try await consumer.unassign(partitions)
        logger.info("ingest revoked", metadata: ["partitions": "\(Self.numbers(partitions))"])
      case .messages(let messages): lanes.deal(messages)
      case .idle: break
      }
    }
  }

  private static func numbers(_ partitions: [TopicPartition]) -> String {
    partitions.map { String($0.partition) }.joined(separator: ",")
  }
}

/// The lanes of the partitions that this process has.
private final class Lanes: Sendable {
  private struct State {
    var lanes: [TopicPartition: PartitionLane] = [:]
    var paused: Set<TopicPartition> = []
    var committed: [TopicPartition: Int64] = [:]
    var failure: (any Error)?
  }

  private let consumer: KafkaConsumer
  private let context: LaneContext
  private let state = Mutex(State())
  /// A lane that is full for longer than this is paused.
  private static let patience = Duration.seconds(1)
  /// A partition that was taken from us, while the group still says it is ours, is claimed anew after that long:
  /// an operator has put it to another offset. A member that was really replaced is told so by the group before.
  private static let reclaimAfter = Duration.seconds(10)
  /// How long a batch may take to end once its partition is taken away.
  private static let grace = Duration.seconds(10)

  init(consumer: KafkaConsumer, context: LaneContext) {
    self.consumer = consumer
    self.context = context
  }

  /// Claims partitions and begins where PostgreSQL stands.
  func start(_ partitions: [TopicPartition]) async throws {
    try await consumer.assign(try await open(partitions))
  }

  /// Claims again what was taken from us.
  private func reclaim() async throws {
    let lost = state.withLock { state in
      state.lanes.filter { $0.value.isLost(for: Self.reclaimAfter) }.map(\.key)
    }
    guard !lost.isEmpty else { return }
    context.logger.notice("claiming again", metadata: ["partitions": "\(lost)"])
    try await consumer.seek(try await open(lost))
  }

  /// Claims partitions and opens their lanes; returns where each begins.
  private func open(_ partitions: [TopicPartition]) async throws -> [TopicPartition: Int64] {
    await stop(partitions)
    var offsets: [TopicPartition: Int64] = [:]
    for (topic, group) in Dictionary(grouping: partitions, by: \.topic) {
      let claims = try await retryingDatabase("claiming partitions", logger: context.logger) {
        try await context.repository.claim(topic: topic, partitions: group.map(\.partition))
      }
      for claim in claims {
        let next = try await begin(of: claim)
        let lane = PartitionLane(claim, expected: next, context: context) { [weak self] error in
          self?.state.withLock { $0.failure = $0.failure ?? error }
        }
        offsets[lane.partition] = next < 0 ? KafkaOffset.beginning : next
        state.withLock { $0.lanes[lane.partition] = lane }
      }
    }
    return offsets
  }

  /// Ends lanes, all of them where none are named; returns when their batches in hand are written or given up.
  func stop(_ partitions: [TopicPartition]?) async {
    let ended = state.withLock { state in
      let names = partitions ?? Array(state.lanes.keys)
      state.paused.subtract(names)
      return names.compactMap { state.lanes.removeValue(forKey: $0) }
    }
    await withTaskGroup(of: Void.self) { group in
      for lane in ended { group.addTask { await lane.stop(grace: Self.grace) } }
    }
    let offsets = Dictionary(
      ended.filter { $0.next >= 0 }.map { ($0.partition, $0.next) }, uniquingKeysWith: { $1 })
    await commit(offsets)
  }

  /// Gives each lane its messages.
  func deal(_ messages: [KafkaMessage]) {
    let lanes = state.withLock { $0.lanes }
    var start = messages.startIndex
    while start < messages.endIndex {
      let partition = messages[start].partition
      var end = start + 1
      while end < messages.endIndex, messages[end].partition == partition { end += 1 }
      // A partition that was lost between fetch and now belongs to somebody else.
      lanes[messages[start].topicPartition]?.queue.append(messages[start..<end])
      start = end
    }
  }

  /// Waits a little for lanes that are full, pauses those that stay so and resumes those that are not.
  /// - Returns: false while a lane is paused.
  /// - Throws: what ended a lane.
  func makeRoom() async throws -> Bool {
    try await reclaim()
    let limits = context.limits
    let deadline = ContinuousClock.now + Self.patience
    var full: [TopicPartition] = []
    repeat {
      if let failure = state.withLock({ $0.failure }) { throw failure }
      full = state.withLock { state in
        state.lanes.filter { !state.paused.contains($0.key) && $0.value.queue.holds(2, of: limits) }
          .map(\.key)
      }
      if full.isEmpty { break }
      try await Task.sleep(for: .milliseconds(2))
    } while ContinuousClock.now < deadline
    if !full.isEmpty {
      state.withLock { $0.paused.formUnion(full) }
      try await consumer.pause(full)
      context.logger.debug("paused", metadata: ["partitions": "\(full)"])
    }
    let free = state.withLock { state in
      state.paused.filter { state.lanes[$0].map { !$0.queue.holds(1, of: limits) } ?? true }
    }
    if !free.isEmpty {
      state.withLock { $0.paused.subtract(free) }
      try await consumer.resume(Array(free))
      context.logger.debug("resumed", metadata: ["partitions": "\(free)"])
    }
    return state.withLock { $0.paused.isEmpty }
  }

  /// Tells Kafka how far PostgreSQL is.
  func commit() async {
    let offsets = state.withLock { state in
      state.lanes.mapValues(\.next).filter { $0.value >= 0 && state.committed[$0.key] != $0.value }
    }
    await commit(offsets)
  }

  private func commit(_ offsets: [TopicPartition: Int64]) async {
    guard !offsets.isEmpty else { return }
    do {
      try await consumer.commit(offsets)
      state.withLock { $0.committed.merge(offsets) { $1 } }
    } catch {
      // Advisory only: the truth is in PostgreSQL.
      context.logger.debug("offsets not committed to Kafka: \(error)")
    }
  }

  /// Where a partition continues, held against what the broker has: a gap on either side would otherwise be
  /// passed over in silence.
  private func begin(of claim: IngestRepository.Claim) async throws -> Int64 {
    guard claim.nextOffset >= 0 else { return claim.nextOffset }
    let partition = TopicPartition(topic: claim.topic, partition: claim.partition)
    let logger = context.logger
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
      try await context.repository.rewind(claim)
      return -1
    }
    return claim.nextOffset
  }
}
