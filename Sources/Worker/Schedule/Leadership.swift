// One scheduler at a time: the leader, by an advisory lock of PostgreSQL.
//
// The lock belongs to a session, here to one connection that the leader holds for as long as it leads. When the
// process ends, or PostgreSQL notices that its connection is dead, the lock is free and a standby's next try
// gets it. The leader may notice later than PostgreSQL that its connection is gone: for a while there are two
// that believe they lead. What the old one may still do is bounded, by kind:
//
// - What it writes to PostgreSQL goes through the connection that holds the lock. No session, no lock, and no
//   write either: there is nothing to trust here, and no window.
// - What it does outside (it publishes adapter events to Kafka) it does only while the lock was seen to be held
//   within the trust window: the last answer of that connection came to a question that was asked no longer ago
//   than `trustWindow`. Before that has passed it asks again, and where no answer comes it stops. A standby that
//   got the lock meanwhile publishes from the same outbox, so at worst events of those seconds come twice, which
//   consumers of adapter events have to bear anyway.
// - What it computes is thrown away with the write that fails. Should a pooler have put another session behind
//   the connection, a look is still only written where the stream stands where the look began.
//
// The window is shorter than any time in which PostgreSQL would give the lock of a silent session away
// (`tcp_keepalives_*`, `tcp_user_timeout`: tens of seconds at least), so that an overlap is rare, not only
// harmless.

import Foundation
import PostgresClient
import Storage

/// The lock, held on a connection.
struct Leadership: ~Copyable {
  let connection: PostgresConnection
  private let window: Duration
  private var confirmedAt: ContinuousClock.Instant

  static let trustWindow: Duration = .seconds(5)

  /// Tries to become the leader; nil where another one is.
  static func take(
    on connection: PostgresConnection, window: Duration = trustWindow
  ) async throws -> Leadership? {
    let asked = ContinuousClock.now
    let rows = try await connection.query(
      "SELECT pg_try_advisory_lock(\(AdvisoryLock.leader.key)) AS won")
    guard try rows.first?.decode("won", as: Bool.self) == true else { return nil }
    return Leadership(connection: connection, window: window, confirmedAt: asked)
  }

  private init(
    connection: PostgresConnection, window: Duration, confirmedAt: ContinuousClock.Instant
  ) {
    self.connection = connection
    self.window = window
    self.confirmedAt = confirmedAt
  }

  /// What is done outside of PostgreSQL has to begin before this.
  var trustedUntil: ContinuousClock.Instant { confirmedAt + window }

  /// Makes sure that the lock was held less than the trust window ago; asks only where that is not known.
  /// - Throws: `PostgresError` where the connection is gone, and with it the leadership; ``LostLeadershipError``
  ///   where the lock is not this session's.
  mutating func confirm() async throws {
    if ContinuousClock.now - confirmedAt > window / 2 { try await ask() }
  }

  /// Asks PostgreSQL whether this session holds the lock. Throws as `confirm`.
  mutating func ask() async throws {
    let asked = ContinuousClock.now
    // The key's halves are how pg_locks shows it; our own session is the one that has to hold it.
    let rows = try await connection.query(
      """
      SELECT 1 FROM pg_locks, (SELECT \(AdvisoryLock.leader.key) AS key) AS leader
      WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()
        AND classid = (key >> 32)::oid AND objid = (key & 4294967295)::oid AND objsubid = 1
      """)
    guard !rows.isEmpty else { throw LostLeadershipError() }
    guard ContinuousClock.now - asked < window else { throw LostLeadershipError() }
    confirmedAt = asked
  }

  consuming func giveUp() async {
    _ = try? await connection.execute("SELECT pg_advisory_unlock(\(AdvisoryLock.leader.key))")
  }
}

/// This process does not lead any more, or cannot be sure of it.
struct LostLeadershipError: Error, CustomStringConvertible {
  var description: String { "this process leads no longer" }
}
