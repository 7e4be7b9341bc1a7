// Requests wait for nothing longer than it is worth, users not for each other, and clients learn nothing of the inside.

import Foundation
import PostgresClient
import Synchronization
import Testing

@testable import Worker

@Suite struct WaitingTests {
  /// Does not come back, not even when it is cancelled.
  private static func never() async {
    await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
  }

  @Test("what does not come back is left behind when its time is over")
  func leftBehind() async throws {
    await #expect(throws: TimeIsOver.self) {
      try await within(.milliseconds(10)) { await Self.never() }
    }
    #expect(try await within(.seconds(60)) { 7 } == 7)
    await #expect(throws: MessageError.self) {
      try await within(.seconds(60)) { throw MessageError(.failed, "x") }
    }
  }

  @Test("a task that is cancelled does not go on waiting for what does not come back")
  func cancelled() async throws {
    let task = Task { try await within(.seconds(3_600)) { await Self.never() } }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
  }

  @Test("a database that hangs costs one its time, the others little, until it answers again")
  func patience() async throws {
    let patience = DatabasePatience()
    await #expect(throws: TimeIsOver.self) {
      try await patience.within(.milliseconds(10)) { await Self.never() }
    }
    let error = await #expect(throws: TimeIsOver.self) {
      try await patience.within(.seconds(3_600)) { await Self.never() }
    }
    #expect(error?.limit == .milliseconds(250))
    #expect(try await patience.within(.seconds(60)) { 1 } == 1)
    // Back to its full time: this would be over otherwise.
    try await patience.within(.seconds(60)) { try await Task.sleep(for: .milliseconds(400)) }
  }

  @Test("a user's works take their turns in order, and another user's go on beside them")
  func turns() async throws {
    let turns = UserTurns()
    let log = Log()
    let (gate, opener) = AsyncStream.makeStream(of: Void.self)
    let (begun, tell) = AsyncStream.makeStream(of: Void.self)
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        await turns.run("kim") {
          tell.finish()
          for await _ in gate {}
          log.add("kim 1")
        }
      }
      for await _ in begun {}
      group.addTask { await turns.run("kim") { log.add("kim 2") } }
      await turns.run("mara") { log.add("mara") }
      opener.finish()
      try await group.waitForAll()
    }
    #expect(log.lines == ["mara", "kim 1", "kim 2"])
  }

  @Test("an error reply names neither the database's place nor its statements")
  func secrets() {
    let inside = "db-7.internal.example"
    for error: any Error in [
      PostgresError(
        kind: .connection, message: "cannot connect to database at \(inside), port 5432"),
      PostgresError(kind: .server, sqlState: "42P01", message: inside, query: "SELECT \(inside)"),
      NSError(domain: inside, code: 1),
    ] {
      let told = Answerer.describe(error)
      #expect(!told.message.contains("internal.example"), "\(told)")
      #expect(!told.message.contains("5432"), "\(told)")
    }
    #expect(Answerer.describe(PostgresError(kind: .connection, message: "")).code == "unavailable")
    #expect(Answerer.describe(TimeIsOver(limit: .seconds(1))).code == "unavailable")
    let own = MessageError(.unknownAdapter, "kim/film_tag has no adapter version 3")
    #expect(Answerer.describe(own).message == own.message)
  }
}

private final class Log: Sendable {
  private let state = Mutex<[String]>([])
  var lines: [String] { state.withLock { $0 } }
  func add(_ line: String) { state.withLock { $0.append(line) } }
}
