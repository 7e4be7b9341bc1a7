// A change that is tried and taken back, so that what would be done is found by the code that does it.

import PostgresClient

/// Carries the result of a rehearsal out of its transaction, which it thereby rolls back.
private struct Rehearsed<Result: Sendable>: Error { let result: Result }

extension PostgresClient {
  /// Runs a body in a transaction; a rehearsal is rolled back at its end. It refuses what the change itself would.
  /// - Throws: what the body throws; `PostgresError`.
  public func withTransaction<Result: Sendable>(
    isRehearsal: Bool, isolation: isolated (any Actor)? = #isolation,
    _ body: (PostgresConnection) async throws -> Result
  ) async throws -> Result {
    do {
      return try await withTransaction { connection in
        let result = try await body(connection)
        if isRehearsal { throw Rehearsed(result: result) }
        return result
      }
    } catch let rehearsed as Rehearsed<Result> {
      return rehearsed.result
    }
  }
}
