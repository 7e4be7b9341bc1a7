// A number that this process has to itself among all workers of a database, and keeps over a restart.
//
// It names the process in its consumer groups (Kafka's static membership). A worker that was killed is back in a
// second under the same name and takes its old partitions at once, where the group would otherwise wait for the
// dead member's session to end. The number is an advisory lock in PostgreSQL: it is free as soon as the process
// that held it is gone, and no two processes have the same.

import Foundation
import PostgresClient
import StructuredLogging
import Synchronization

struct WorkerSlot: Sendable {
  private let holder: Task<Void, Never>
  private let session: Session
  private let client: PostgresClient
  private let logger: Logger

  /// The number, and PostgreSQL's process that holds its lock for this one, or was the last that did.
  private final class Session: Sendable {
    let lock = Mutex<(number: Int, processID: Int32?)>((0, nil))
  }

  /// From 1, the lowest that was free. Another one where somebody took the lock while the connection that held it
  /// was gone.
  var number: Int { session.lock.withLock { $0.number } }

  private static let keyBase: Int64 = 0x6F70_7075_0001_0000
  private static let maximum = 4_096

  /// Takes the lowest free number and holds it until `release`.
  /// - Throws: `PostgresError`.
  static func take(client: PostgresClient, logger: Logger) async throws -> WorkerSlot {
    let (taken, continuation) = AsyncThrowingStream<Void, any Error>.makeStream()
    let session = Session()
    let holder = Task {
      var mine: Int?
      var backoff = Backoff()
      while !Task.isCancelled {
        do {
          try await client.withConnection { connection in
            let number = try await lock(mine, for: session, on: connection)
            if let mine, mine != number {
              logger.notice(
                "another process has this worker's number \(mine); it has \(number) now")
            }
            mine = number
            continuation.yield()
            backoff = Backoff()
            while !Task.isCancelled {
              try await Task.sleep(for: .seconds(5))
              // The lock is this connection's; where it is gone, the same number is taken again.
              try await connection.execute("SELECT 1")
            }
          }
        } catch {
          guard mine != nil, !Task.isCancelled else {
            continuation.finish(throwing: error)
            return
          }
          logger.debug("the worker's number is not held at the moment: \(error)")
          try? await backoff.wait()
        }
      }
    }
    for try await _ in taken {
      return WorkerSlot(holder: holder, session: session, client: client, logger: logger)
    }
    throw CancellationError()
  }

  /// Returns once this process has a number to itself, as PostgreSQL says: the one that it had, or another. False
  /// where it has none for half a minute.
  /// - Throws: `PostgresError`; `CancellationError`.
  func isHeld() async throws -> Bool {
    for _ in 0..<30 {
      let (number, processID) = session.lock.withLock { $0 }
      let key = Self.keyBase + Int64(number)
      let holder = try await retryingDatabase("the worker's number", logger: logger) {
        // The key's halves are how pg_locks shows it.
        try await client.query(
          """
          SELECT pid FROM pg_locks, (SELECT \(key)::bigint AS key) AS mine
          WHERE locktype = 'advisory' AND granted AND objsubid = 1
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = (key >> 32)::oid AND objid = (key & 4294967295)::oid
          """
        ).first?.decode("pid", as: Int32.self)
      }
      if let holder, holder == processID { return true }
      // Nobody has it, or somebody who was faster: the holder has not noticed yet.
      try await Task.sleep(for: .seconds(1))
    }
    return false
  }

  /// Returns once the number's connection is given back.
  func release() async {
    holder.cancel()
    await holder.value
  }

  /// Locks the given number, or the lowest free one where another process has taken that meanwhile: Kafka ends the
  /// older of two members of one name, and that would be this process.
  private static func lock(
    _ wanted: Int?, for session: Session, on connection: PostgresConnection
  ) async throws -> Int {
    for number in (wanted.map { [$0] } ?? []) + Array(1...maximum) {
      let row = try await connection.query(
        "SELECT pg_try_advisory_lock(\(keyBase + Int64(number))) AS won, pg_backend_pid() AS pid"
      ).first
      if try row?.decode("won", as: Bool.self) == true {
        let processID = try row?.decode("pid", as: Int32.self)
        session.lock.withLock { $0 = (number, processID) }
        return number
      }
    }
    let own = maximum + Int(ProcessInfo.processInfo.processIdentifier)
    session.lock.withLock { $0 = (own, nil) }
    return own
  }
}

extension WorkerConfiguration.Kafka {
  static let nameProperty = "group.instance.id"

  /// A consumer's properties for static membership, unless the configuration names its own.
  func membership(_ slot: WorkerSlot?) -> [String: String] {
    // By the protocol of Kafka 4 a name is only free again when the session of the one who died is over, so that a
    // killed worker could not come back under it.
    guard let slot, isStaticMember, !client.usesConsumerProtocol else { return [:] }
    // Static members do not leave the group when they end, so the session decides how soon others take over.
    let defaults = [
      Self.nameProperty: "\(groupPrefix)-\(slot.number)", "session.timeout.ms": "15000",
    ]
    return defaults.filter { properties[$0.key] == nil }
  }
}
