// Every advisory lock of this program, so that no two purposes share one.

import PostgresClient

/// A purpose that one session at a time may serve.
///
/// The numbers are "oppu" and a purpose; other users of advisory locks are not met by chance. Beside these there
/// are the workers' numbers (`WorkerSlot`, from 0x6F70_7075_0001_0000 on) and, of two 32-bit numbers, the locks
/// of erasures by user.
public enum AdvisoryLock: Int64, CaseIterable, Sendable {
  /// Applying the schema.
  case migrations = 0x6F70_7075_0000_0001
  /// Leading the schedule.
  case leader = 0x6F70_7075_0000_0002
  /// Looking after the queue: expired leases, jobs that wait for their time.
  case queueUpkeep = 0x6F70_7075_0000_0004
  /// Removing what is older than it may be: each kind has a lock of its own.
  case eventRetention = 0x6F70_7075_0000_0005
  case answerRetention = 0x6F70_7075_0000_0006
  case adapterRetention = 0x6F70_7075_0000_0007
  case recordRetention = 0x6F70_7075_0000_0008

  /// The key as SQL: two schemas of one database are two systems, each with its own leader. In the schema `public`
  /// it is the bare number.
  public var key: PostgresQuery {
    """
    (\(rawValue)::bigint # CASE WHEN coalesce(current_schema(), 'public') = 'public' THEN 0
      ELSE hashtext(current_schema())::bigint & 4294836224 END)
    """
  }

  /// Takes the lock until the transaction ends; false where another session has it.
  /// - Throws: `PostgresError`.
  public func isTaken(inTransaction connection: PostgresConnection) async throws -> Bool {
    try await connection.query("SELECT pg_try_advisory_xact_lock(\(key)) AS won")
      .first?.decode("won", as: Bool.self) == true
  }
}
