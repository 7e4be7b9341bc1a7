// A number that this process has to itself among all workers of a database, and keeps over a restart.
//
// It names the process in its consumer groups (Kafka's static membership). A worker that was killed is back in a
// second under the same name and takes its old partitions at once, where the group would otherwise wait for the
// dead member's session to end. The number is an advisory lock in PostgreSQL: it is free as soon as the process
// that held it is gone, and no two processes have the same.

import Foundation
import PostgresClient
import StructuredLogging

struct WorkerSlot: Sendable {
  /// From 1, the lowest that was free.
  let number: Int
  private let holder: Task<Void, Never>

  private static let keyBase: Int64 = 0x6F70_7075_0001_0000
  private static let maximum = 4_096

  /// Takes the lowest free number and holds it until `release`.
  /// - Throws: `PostgresError`.
  static func take(client: PostgresClient, logger: Logger) async throws -> WorkerSlot {
    let (numbers, continuation) = AsyncThrowingStream<Int, any Error>.makeStream()
    let holder = Task {
      var mine: Int?
      var backoff = Backoff()
      while !Task.isCancelled {
        do {
          try await client.withConnection { connection in
            mine = try await lock(mine, on: connection)
            if let mine { continuation.yield(mine) }
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
    for try await number in numbers { return WorkerSlot(number: number, holder: holder) }
    throw CancellationError()
  }

  /// Returns once the number's connection is given back.
  func release() async {
    holder.cancel()
    await holder.value
  }

  /// Locks the given number, or the lowest free one. A number of ours that another process has taken meanwhile
  /// stays our name: Kafka then ends the older of the two, which is this one.
  private static func lock(_ wanted: Int?, on connection: PostgresConnection) async throws -> Int {
    for number in wanted.map({ $0...$0 }) ?? 1...maximum {
      let rows = try await connection.query(
        "SELECT pg_try_advisory_lock(\(keyBase + Int64(number))) AS won")
      if try rows.first?.decode("won", as: Bool.self) == true { return number }
    }
    return wanted ?? maximum + Int(ProcessInfo.processInfo.processIdentifier)
  }
}

extension WorkerConfiguration.Kafka {
  /// A consumer's properties for static membership, unless the configuration names its own.
  func membership(_ slot: WorkerSlot?) -> [String: String] {
    guard let slot, isStaticMember else { return [:] }
    // Static members do not leave the group when they end, so the session decides how soon others take over.
    let defaults = [
      "group.instance.id": "\(groupPrefix)-\(slot.number)", "session.timeout.ms": "15000",
    ]
    return defaults.filter { properties[$0.key] == nil }
  }
}
