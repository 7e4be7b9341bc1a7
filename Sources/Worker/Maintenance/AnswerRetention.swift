// Answers wait for feedback for some days only.

import Foundation
import PostgresClient
import Storage

struct AnswerRetention: MaintenanceTask {
  static let name = "retention of answers"
  static let lock = AdvisoryLock.answerRetention
  static let pause = Duration.seconds(60)
  private static let limit = 5_000

  let days: Int

  func step(on connection: PostgresConnection) async throws -> MaintenanceStep {
    let before = try await connection.now().addingTimeInterval(-86_400 * Double(days))
    let removed = try await Retention(connection).removeAnswers(
      before: before, limit: Self.limit)
    return MaintenanceStep(["answers": removed], isFull: removed == Self.limit)
  }
}
