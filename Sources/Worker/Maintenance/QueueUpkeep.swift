// Jobs whose trainer is gone come back into the queue, and those that have waited long enough come into it.

import PostgresClient
import Storage

/// The upkeep of the queue of trainings.
public struct QueueUpkeep: MaintenanceTask {
  public static let name = "upkeep of the queue"
  public static let lock = AdvisoryLock.queueUpkeep
  public static let pause = Duration.seconds(5)

  /// Rows that a step skipped, because their transaction was just ending, are seen by the next ones for this long;
  /// a full step follows from time to time.
  private static let overlap = Duration.seconds(15)
  private static let fullInterval = Duration.seconds(120)
  /// How much of the time full steps, which may have to walk over many dead rows, take at most.
  private static let fullPauses = 20

  private let maximumAttempts: Int
  /// Everything that ran out before this was looked after.
  private var tended: ContinuousClock.Instant?
  private var nextFull: ContinuousClock.Instant?

  /// - Parameter maximumAttempts: a job that was begun this often is dead.
  public init(maximumAttempts: Int) { self.maximumAttempts = maximumAttempts }

  public mutating func step(on connection: PostgresConnection) async throws -> MaintenanceStep {
    let begin = ContinuousClock.now
    var since: Duration?
    if let tended, let nextFull, begin < nextFull { since = begin - tended + Self.overlap }
    let done = try await JobQueue(connection).tend(since: since, maximumAttempts: maximumAttempts)
    tended = begin
    if since == nil {
      let cost = ContinuousClock.now - begin
      nextFull = begin + max(Self.fullInterval, cost * Self.fullPauses)
    }
    return MaintenanceStep(
      [
        "rescued": done.rescued, "dead": done.dead, "superseded": done.superseded,
        "admitted": done.admitted,
      ], isFull: done.isFull)
  }
}
