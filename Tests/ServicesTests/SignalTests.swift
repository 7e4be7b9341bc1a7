import Foundation
import Services
import Testing

/// Each in a process of its own, for signals are the whole process's.
@Suite(.timeLimit(.minutes(2))) struct SignalTests {
  private static let line: @Sendable (String) -> Void = { line in
    FileHandle.standardError.write(Data("\(line)\n".utf8))
  }

  /// Sends a signal to this process as soon as it runs, then waits for the shutdown.
  private static func sender(_ signal: Int32) -> Work {
    Work {
      kill(getpid(), signal)
      try await gracefulShutdown()
    }
  }

  private static func lines(_ result: ExitTest.Result?) -> [Substring] {
    String(decoding: result?.standardErrorContent ?? [], as: UTF8.self).split(separator: "\n")
  }

  @Test("one SIGTERM stops the services, twice over; after them signals are what they were")
  func graceful() async throws {
    let result = await #expect(
      processExitsWith: .signal(SIGTERM), observing: [\.standardErrorContent]
    ) {
      for signal in [SIGTERM, SIGINT] {
        try await ServiceGroup(
          services: [SignalTests.sender(signal)], gracefulShutdownSignals: [.sigterm, .sigint],
          report: SignalTests.line
        ).run()
        SignalTests.line("stopped")
      }
      kill(getpid(), SIGTERM)
      try await Task.sleep(for: .seconds(60))
    }
    #expect(
      Self.lines(result) == [
        "SIGTERM: shutting down; again: at once", "stopped",
        "SIGINT: shutting down; again: at once", "stopped",
      ])
  }

  @Test("a second SIGINT ends the process at once, though a service hangs and nobody reads reports")
  func twice() async throws {
    let result = await #expect(
      processExitsWith: .exitCode(130), observing: [\.standardErrorContent]
    ) {
      let stubborn = Work {
        kill(getpid(), SIGINT)
        try await gracefulShutdown()
        kill(getpid(), SIGINT)
        DispatchSemaphore(value: 0).wait()
      }
      try await ServiceGroup(
        services: [stubborn], gracefulShutdownSignals: [.sigterm, .sigint],
        report: SignalTests.line
      ).run()
    }
    #expect(Self.lines(result).last == "SIGINT again: ending at once")
    await #expect(processExitsWith: .exitCode(143)) {
      let stubborn = Work {
        kill(getpid(), SIGTERM)
        try await gracefulShutdown()
        kill(getpid(), SIGTERM)
        DispatchSemaphore(value: 0).wait()
      }
      try await ServiceGroup(
        services: [stubborn], gracefulShutdownSignals: [.sigterm],
        report: { if $0.contains("again: ending") { DispatchSemaphore(value: 0).wait() } }
      ).run()
    }
  }

  @Test(
    "the caller can end the process though a service blocks its thread for ever",
    .enabled(if: ProcessInfo.processInfo.activeProcessorCount > 1))
  func blocked() async throws {
    await #expect(processExitsWith: .exitCode(9)) {
      let blocked = Work {
        kill(getpid(), SIGTERM)
        DispatchSemaphore(value: 0).wait()
      }
      do {
        try await ServiceGroup(
          services: [blocked], gracefulShutdownSignals: [.sigterm],
          shutdownDeadline: .milliseconds(20), cancellationGrace: .milliseconds(20)
        ).run()
      } catch ServiceGroupError.wouldNotStop(["Work"], nil) {
        exit(9)
      }
    }
  }

  @Test("two groups at once cannot both have the signals")
  func taken() async throws {
    await #expect(processExitsWith: .exitCode(4)) {
      let inner = Work {
        do {
          try await ServiceGroup(services: [], gracefulShutdownSignals: [.sigint]).run()
        } catch ServiceGroupError.cannotRun {
          exit(4)
        }
      }
      try await ServiceGroup(services: [inner], gracefulShutdownSignals: [.sigterm]).run()
    }
  }
}
