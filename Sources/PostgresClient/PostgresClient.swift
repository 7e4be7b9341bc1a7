// The client: a pool of connections with the calls that most code needs.

import StructuredLogging

/// An async client of PostgreSQL over libpq, safe to share between tasks.
///
/// Connections are opened when first needed. An error whose `isRetryable` is true leaves the client
/// usable: broken connections are replaced at the next call.
public final class PostgresClient: Sendable {
  private let configuration: PostgresConfiguration
  private let logger: Logger
  private let pool: ConnectionPool

  /// Opens no connection yet.
  public init(
    _ configuration: PostgresConfiguration, logger: Logger = Logger(label: "oppu.postgres")
  ) {
    self.configuration = configuration
    self.logger = logger
    pool = ConnectionPool(configuration: configuration, logger: logger)
  }

  /// Runs one statement on a pooled connection and returns its rows.
  ///
  /// - Throws: `PostgresError`, or `CancellationError` if the task was cancelled.
  public func query(_ query: PostgresQuery) async throws -> [PostgresRow] {
    try await withConnection { try await $0.query(query) }
  }

  /// Runs one statement and returns how many rows it changed (for SELECT: returned).
  ///
  /// - Throws: as `query(_:)`.
  @discardableResult
  public func execute(_ query: PostgresQuery) async throws -> Int {
    try await withConnection { try await $0.execute(query) }
  }

  /// Lends a connection to `body`, for session state such as advisory locks.
  ///
  /// A transaction that `body` leaves open is rolled back; session-level locks and settings are
  /// `body`'s to undo. Waits, first come, first served, while all connections are lent.
  /// - Throws: what `body` throws, `PostgresError` if no connection can be opened,
  ///   `CancellationError`.
  @discardableResult
  public func withConnection<T: Sendable>(
    isolation: isolated (any Actor)? = #isolation,
    _ body: (PostgresConnection) async throws -> T
  ) async throws -> T {
    let connection = try await pool.acquire()
    do {
      let result = try await body(connection)
      await pool.release(connection)
      return result
    } catch {
      await pool.release(connection)
      throw error
    }
  }

  /// Runs `body` in a transaction on one connection: COMMIT when it returns, ROLLBACK if it throws.
  ///
  /// - Throws: what `body` throws, or the error of BEGIN or COMMIT.
  @discardableResult
  public func withTransaction<T: Sendable>(
    isolation: isolated (any Actor)? = #isolation,
    _ body: (PostgresConnection) async throws -> T
  ) async throws -> T {
    try await withConnection { try await $0.withTransaction(body) }
  }

  /// Checks that the server answers.
  ///
  /// - Throws: `PostgresError` naming host, port and database.
  public func ping() async throws {
    try await execute("SELECT 1")
  }

  /// Listens to NOTIFY on a connection of its own; on return the LISTEN is in force.
  ///
  /// The stream throws when the connection breaks: listen again, and look for what was missed.
  /// Ending the iteration closes the connection.
  /// - Throws: `PostgresError` if there is no connection or the server refuses to listen.
  public func listen(
    _ channels: [String]
  ) async throws -> AsyncThrowingStream<PostgresNotification, any Error> {
    try await PostgresListener.start(configuration, channels: channels)
  }

  /// Refuses new work, waits for lent connections to come back, and closes them all.
  public func close() async { await pool.close() }
}
