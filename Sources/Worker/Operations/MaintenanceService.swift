// Retention: what is older than it may be is removed, a little at a time, by one process at a time.

import Foundation
import Personalization
import PostgresClient
import Services
import Storage
import StructuredLogging

public struct MaintenanceService: Service {
  private let catalogue: TaskCatalogue
  private let answerDays: Int
  private let client: PostgresClient
  private let logger: Logger

  /// Between rounds that found nothing more to do.
  private static let pause = Duration.seconds(60)
  /// Transactions in one round at most, for each task.
  private static let stepsPerRound = 20
  /// How far this machine's clock may be off the database's without a word.
  private static let tolerance = 300.0

  public init(
    catalogue: TaskCatalogue, answerDays: Int, client: PostgresClient, logger: Logger
  ) {
    self.catalogue = catalogue
    self.answerDays = answerDays
    self.client = client
    self.logger = logger
  }

  public func run() async throws {
    await cancelWhenGracefulShutdown {
      while !Task.isCancelled {
        do {
          try await round()
        } catch {
          if !Task.isCancelled { logger.warning("retention: \(error); trying again later") }
        }
        try? await Task.sleep(for: Self.pause)
      }
    }
  }

  /// One round: at most `stepsPerRound` transactions for each task, unless another process is at it. What is old is
  /// so by the database's clock: a machine whose own is years ahead must not delete years of events.
  /// - Returns: how many events and answers were removed.
  @discardableResult
  public func round(here: Date = Date()) async throws -> (events: Int, answers: Int) {
    try await client.withTransaction { connection in
      guard try await AdvisoryLock.retention.isTaken(inTransaction: connection) else {
        return (0, 0)
      }
      let now = try await connection.query("SELECT now() AS now").first?.decode(
        "now", as: Date.self)
      guard let now else { return (0, 0) }
      let ahead = here.timeIntervalSince(now)
      if abs(ahead) > Self.tolerance {
        logger.warning("this machine's clock is \(Int(ahead)) s ahead of the database's")
      }
      return try await remove(now: now)
    }
  }

  private func remove(now: Date) async throws -> (events: Int, answers: Int) {
    var events = 0
    let repository = RetentionRepository(client)
    for task in catalogue.tasks {
      guard let days = task.retentionDays else { continue }
      let before = now.addingTimeInterval(-86_400 * Double(days))
      for _ in 0..<Self.stepsPerRound {
        let step = try await repository.removeExpired(task: task.name, before: before)
        events += step.events
        if !step.isFull || Task.isCancelled { break }
      }
    }
    var answers = 0
    let before = now.addingTimeInterval(-86_400 * Double(answerDays))
    for _ in 0..<Self.stepsPerRound {
      let removed = try await AnswerRepository(client).removeExpired(before: before, limit: 5_000)
      answers += removed
      if removed < 5_000 || Task.isCancelled { break }
    }
    if events + answers > 0 {
      logger.info(
        "retention", metadata: ["events": "\(events)", "answers": "\(answers)"])
    }
    return (events, answers)
  }
}
