// The schedule role: watches every stream for shifts and decides when to train.
//
// One leader at a time, by a PostgreSQL advisory lock that it holds on a connection of its own: the lock is gone
// with the connection, so a dead leader is replaced at the next poll. Every look at a stream is written with
// "scheduled_through = where the look began", so even two leaders at once cannot decide the same events twice.

import Foundation
import KafkaClient
import LanguageModel
import Logging
import Personalization
import PostgresClient
import ServiceLifecycle
import ShiftDetection
import Storage

public struct SchedulerService: Service {
  private let settings: WorkerConfiguration.Schedule
  private let adapterEventTopic: String
  private let client: PostgresClient
  private let repository: ScheduleRepository
  private let watcher: StreamWatcher
  private let producer: KafkaProducer
  private let logger: Logger

  /// Streams looked at between two checks of the leadership.
  private static let streamsPerTick = 100

  /// - Parameter model: where given, the adapters' losses on new events are a signal too.
  public init(
    configuration: WorkerConfiguration, catalogue: TaskCatalogue, model: LlamaModel?,
    client: PostgresClient, producer: KafkaProducer, logger: Logger
  ) {
    settings = configuration.schedule
    adapterEventTopic = configuration.kafka.adapterEventTopic
    self.client = client
    repository = ScheduleRepository(client)
    watcher = StreamWatcher(
      configuration: configuration, catalogue: catalogue,
      model: configuration.schedule.lossSignal ? model : nil, client: client, logger: logger)
    self.producer = producer
    self.logger = logger
  }

  public func run() async throws {
    var backoff = Backoff()
    while !Task.isShuttingDownGracefully {
      do {
        try await client.withConnection { connection in
          try await leadWhilePossible(on: connection)
        }
        backoff = Backoff()
        await pause()
      } catch let error as PostgresError where error.isRetryable {
        logger.warning("schedule: \(error); trying again")
        try await backoff.wait()
      }
    }
    logger.info("schedule stopped")
  }

  private func leadWhilePossible(on connection: PostgresConnection) async throws {
    let key = ScheduleRepository.leaderLockKey
    let rows = try await connection.query("SELECT pg_try_advisory_lock(\(key)) AS won")
    guard try rows.first?.decode("won", as: Bool.self) == true else { return }
    logger.info("schedule: this process leads")
    do {
      while !Task.isShuttingDownGracefully {
        // Leadership is this connection: where it is gone, the statement throws.
        try await connection.execute("SELECT 1")
        if try await tick() == 0 { await pause() }
      }
    } catch {
      _ = try? await connection.execute("SELECT pg_advisory_unlock(\(key))")
      throw error
    }
    try await connection.execute("SELECT pg_advisory_unlock(\(key))")
  }

  /// One round; returns how many streams moved.
  private func tick() async throws -> Int {
    try await publishOutbox()
    var moved = 0
    for stream in try await repository.dirty(limit: Self.streamsPerTick) {
      if Task.isShuttingDownGracefully { break }
      do {
        guard let outcome = try await watcher.look(at: stream, now: Date()) else { continue }
        try await repository.record(outcome)
        moved += 1
        for decision in outcome.decisions {
          logger.info(
            "decision: \(decision.action.rawValue), \(decision.reason)",
            metadata: ["stream": "\(stream.stream)", "ordinal": "\(decision.ordinal)"])
        }
      } catch let error where !(error is PostgresError) && !(error is CancellationError) {
        // One stream that cannot be looked at must not keep the others waiting.
        logger.error("schedule: \(error)", metadata: ["stream": "\(stream.stream)"])
      }
    }
    return moved
  }

  private func publishOutbox() async throws {
    let outbox = OutboxRepository(client)
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    for message in try await outbox.waiting() {
      do {
        try await producer.send(
          topic: adapterEventTopic, key: Data(message.key.utf8),
          value: try encoder.encode(message.event),
          headers: [KafkaHeader(key: "content-type", value: Data("application/json".utf8))])
      } catch let error as KafkaError {
        // It stays in the outbox for the next round.
        logger.warning("adapter event not published: \(error)")
        return
      }
      try await outbox.remove(id: message.id)
    }
  }

  private func pause() async {
    await cancelWhenGracefulShutdown { try? await Task.sleep(for: settings.pollInterval) }
  }
}
