// LISTEN: a thread that waits on one connection's socket and passes notifications on.

import CLibPQ
import Foundation
import Synchronization

/// What NOTIFY sent.
public struct PostgresNotification: Sendable, Hashable {
  public var channel: String
  /// Empty where NOTIFY gave none.
  public var payload: String
  /// The server process that sent it.
  public var processID: Int32
}

/// Owns a listening connection; only its own thread touches libpq.
final class PostgresListener: Sendable {
  private typealias Stream = AsyncThrowingStream<PostgresNotification, any Error>
  private let isStopped = Atomic(false)

  static func start(
    _ configuration: PostgresConfiguration, channels: [String]
  ) async throws -> AsyncThrowingStream<PostgresNotification, any Error> {
    let listener = PostgresListener()
    let (stream, continuation) = Stream.makeStream()
    continuation.onTermination = { _ in listener.isStopped.store(true, ordering: .relaxed) }
    try await withCheckedThrowingContinuation {
      (ready: CheckedContinuation<Void, any Error>) in
      let thread = Thread {
        listener.run(configuration, channels: channels, ready: ready, output: continuation)
      }
      thread.name = "oppu.postgres.listen"
      thread.start()
    }
    return stream
  }

  private func run(
    _ configuration: PostgresConfiguration, channels: [String],
    ready: CheckedContinuation<Void, any Error>, output: Stream.Continuation
  ) {
    let connection: OpaquePointer
    do {
      connection = try Self.connect(configuration, channels: channels)
    } catch {
      ready.resume(throwing: error)
      output.finish(throwing: error)
      return
    }
    ready.resume()
    defer { PQfinish(connection) }
    while !isStopped.load(ordering: .relaxed) {
      while let notification = PQnotifies(connection) {
        output.yield(
          PostgresNotification(
            channel: String(cString: notification.pointee.relname),
            payload: String(cString: notification.pointee.extra),
            processID: notification.pointee.be_pid))
        PQfreemem(notification)
      }
      // Wakes now and then only to see whether the reader has gone.
      guard isReadable(PQsocket(connection), timeoutMilliseconds: 250) else { continue }
      if PQconsumeInput(connection) == 0 || PQstatus(connection) != CONNECTION_OK {
        var error = statementFailure(on: connection)
        error.kind = .connection
        output.finish(throwing: error)
        return
      }
    }
    output.finish()
  }

  private static func connect(
    _ configuration: PostgresConfiguration, channels: [String]
  ) throws -> OpaquePointer {
    let connection = try openConnection(configuration)
    do {
      guard PQstatus(connection) == CONNECTION_OK else { throw connectionFailure(connection) }
      for channel in channels {
        let sql = "LISTEN " + "\"" + channel.replacing("\"", with: "\"\"") + "\""
        guard let result = PQexec(connection, sql) else { throw statementFailure(on: connection) }
        defer { PQclear(result) }
        guard PQresultStatus(result) == PGRES_COMMAND_OK else {
          throw serverFailure(result, on: connection, query: sql)
        }
      }
    } catch {
      PQfinish(connection)
      throw error
    }
    return connection
  }
}
