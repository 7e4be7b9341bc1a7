// The schedule role: the leader looks at streams that changed, keeps to the training budget and publishes adapter
// events. Others stand by.

import Foundation
import KafkaClient
import LanguageModel
import Personalization
import PostgresClient
import Services
import Storage
import StructuredLogging

/// The role `schedule`: one process leads, the others stand by.
public struct SchedulerService: Service {
  private let settings: WorkerConfiguration.Schedule
  private let client: PostgresClient
  private let round: SchedulerRound
  private let publisher: OutboxPublisher
  private let teller: ErasureTeller
  private let logger: Logger
  /// Streams looked at in one batch.
  private let batchSize: Int

  /// How often the budget is looked at.
  private static let budgetInterval: Duration = .seconds(5)

  /// - Parameter model: where given, the adapters' losses on new events are a signal too.
  public init(
    configuration: WorkerConfiguration, catalogue: TaskCatalogue, model: ServedModel?,
    client: PostgresClient, producer: KafkaProducer, logger: Logger
  ) {
    settings = configuration.schedule
    self.client = client
    round = SchedulerRound(
      configuration: configuration, catalogue: catalogue, model: model, client: client,
      logger: logger)
    // A forward pass for each event: short batches, so that nothing else waits for long.
    batchSize = model != nil && settings.lossSignal ? 50 : SchedulerRound.batchSize
    publisher = OutboxPublisher(
      topic: configuration.kafka.adapterEventTopic, producer: producer, logger: logger)
    teller = ErasureTeller(kafka: configuration.kafka, producer: producer)
    self.logger = logger
  }

  public func run() async throws {
    var backoff = Backoff()
    while !Task.isShuttingDownGracefully {
      do {
        try await client.withConnection { connection in
          guard let leadership = try await Leadership.take(on: connection) else { return }
          try await lead(leadership)
        }
        backoff = Backoff()
        await pause()
      } catch let error as PostgresError where error.isRetryable {
        logger.warning("schedule: \(error); trying again")
        try await backoff.wait()
      } catch is LostLeadershipError {
        logger.warning("schedule: this process leads no longer")
        try await backoff.wait()
      }
    }
    logger.info("schedule stopped")
  }

  private func lead(_ leadership: consuming Leadership) async throws {
    logger.info("schedule: this process leads")
    let connection = leadership.connection
    var nextBudget = ContinuousClock.now
    var nextTelling = ContinuousClock.now
    do {
      while !Task.isShuttingDownGracefully {
        try await leadership.confirm()
        try await publisher.publish(on: connection, until: leadership.trustedUntil)
        if ContinuousClock.now >= nextTelling {
          nextTelling = .now + (await tellErasures(on: connection) ? .seconds(1) : .seconds(15))
        }
        if ContinuousClock.now >= nextBudget {
          try await keepBudget(JobQueue(connection))
          nextBudget = .now + Self.budgetInterval
        }
        let report = try await round.run(on: connection, limit: batchSize)
        if !report.isFull { await pause() }
      }
    } catch {
      await leadership.giveUp()
      throw error
    }
    await leadership.giveUp()
  }

  /// Tells the topic of erasures that it could not be told of when an operator ordered them: those that are so new
  /// that the operator's command may be telling it are left to that.
  /// - Returns: false where it still cannot.
  private func tellErasures(on connection: PostgresConnection) async -> Bool {
    do {
      try await teller.tell(in: connection, since: ErasureTeller.patience)
      return true
    } catch {
      logger.warning("erasures are not told to the topic yet: \(error)")
      return false
    }
  }

  /// Closes the queue while the trainings of the last hour took as long as they may.
  private func keepBudget(_ queue: JobQueue) async throws {
    guard settings.trainingSecondsPerHour > 0 else {
      // Another leader may have had a limit.
      return try await queue.close(for: nil, note: nil)
    }
    let used = try await queue.secondsOfLastHour()
    let isUsedUp = used >= Double(settings.trainingSecondsPerHour)
    try await queue.close(
      for: isUsedUp ? Self.budgetInterval * 4 : nil,
      note: isUsedUp
        ? "trainings took \(Int(used)) s of the last hour; schedule.trainingSecondsPerHour is "
          + "\(settings.trainingSecondsPerHour)" : nil)
  }

  private func pause() async {
    await cancelWhenGracefulShutdown { try? await Task.sleep(for: settings.pollInterval) }
  }
}
