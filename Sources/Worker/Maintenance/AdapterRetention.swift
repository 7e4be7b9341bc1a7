// Weights and numbers of versions that will not answer again go.

import Foundation
import PostgresClient
import Storage

struct AdapterRetention: MaintenanceTask {
  static let name = "retention of adapters"
  static let lock = AdvisoryLock.adapterRetention
  static let pause = Duration.seconds(60)

  let policy: RetentionPolicy
  /// Most versions that are looked at are to stay: a step goes on where the last one ended, round and round.
  private var next: Date?

  init(policy: RetentionPolicy) { self.policy = policy }

  mutating func step(on connection: PostgresConnection) async throws -> MaintenanceStep {
    let done = try await Retention(connection).removeAdapters(policy, from: next)
    next = done.next
    return MaintenanceStep(
      ["weights": done.weights, "bytes": Int(done.bytes), "versions": done.versions])
  }
}
