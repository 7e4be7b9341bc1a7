// Jobs that are done and decisions go after the days that they are kept for inspection.

import PostgresClient
import Storage

struct RecordRetention: MaintenanceTask {
  static let name = "retention of records"
  static let lock = AdvisoryLock.recordRetention
  static let pause = Duration.seconds(60)

  let policy: RetentionPolicy

  func step(on connection: PostgresConnection) async throws -> MaintenanceStep {
    let retention = Retention(connection)
    let jobs = try await retention.removeJobs(policy)
    let decisions = try await retention.removeDecisions(policy)
    return MaintenanceStep(
      ["jobs": jobs, "decisions": decisions], isFull: max(jobs, decisions) == policy.limit)
  }
}
