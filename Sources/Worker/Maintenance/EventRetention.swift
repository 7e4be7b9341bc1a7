// Events that are older than their task keeps them go.

import Foundation
import Personalization
import PostgresClient
import Storage

struct EventRetention: MaintenanceTask {
  static let name = "retention of events"
  static let lock = AdvisoryLock.eventRetention
  static let pause = Duration.seconds(60)

  let catalogue: TaskCatalogue

  func step(on connection: PostgresConnection) async throws -> MaintenanceStep {
    let now = try await connection.now()
    var events = 0
    var isFull = false
    for task in catalogue.tasks {
      guard let days = task.retentionDays else { continue }
      let done = try await Retention(connection).removeEvents(
        task: task.name, before: now.addingTimeInterval(-86_400 * Double(days)))
      events += done.events
      isFull = isFull || done.isFull
    }
    return MaintenanceStep(["events": events], isFull: isFull)
  }
}
