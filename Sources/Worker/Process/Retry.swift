// Waiting out what passes: a database that restarts, a broker that moves.

import Foundation
import PostgresClient
import Services
import StructuredLogging

/// Doubling pauses between attempts, up to a limit.
struct Backoff {
  private var pause: Duration = .milliseconds(200)
  private let maximum: Duration

  init(maximum: Duration = .seconds(10)) { self.maximum = maximum }

  /// Sleeps; throws `CancellationError` where the task is cancelled.
  mutating func wait() async throws {
    try await Task.sleep(for: pause)
    pause = min(pause * 2, maximum)
  }
}

/// Runs work that talks to PostgreSQL until it succeeds, fails for a reason that a retry cannot mend, or the
/// worker is asked to stop.
func retryingDatabase<T: Sendable>(
  _ what: String, logger: Logger, _ work: () async throws -> T
) async throws -> T {
  var backoff = Backoff()
  while true {
    do {
      return try await work()
    } catch let error as PostgresError
      where error.isRetryable && !Task.isShuttingDownGracefully
    {
      logger.warning("\(what): \(error); trying again")
      try await backoff.wait()
    }
  }
}
