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
  /// "oppu" with a purpose number: whose lock this is does the rounds.
  static let lockKey: Int64 = 0x6F70_7075_0000_0004

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
          try await round(now: Date())
        } catch {
          if !Task.isCancelled { logger.warning("retention: \(error); trying again later") }
        }
        try? await Task.sleep(for: Self.pause)
      }
    }
  }

  /// One round: at most `stepsPerRound` transactions for each task, unless another process is at it.
  /// - Returns: how many events and answers were removed.
  @discardableResult
  public func round(now: Date) async throws -> (events: Int, answers: Int) {
    try await client.withTransaction { connection in
      let rows = try await connection.query(
        "SELECT pg_try_advisory_xact_lock(\(Self.lockKey)) AS won")
      guard try rows.first?.decode("won", as: Bool.self) == true else { return (0, 0) }
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
