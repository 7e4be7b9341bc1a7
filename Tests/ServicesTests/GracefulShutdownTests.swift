import Services
import Testing

@Suite(.timeLimit(.minutes(2))) struct GracefulShutdownTests {
  /// Runs work as a service that is told to shut down when the work opens the gate.
  private func serve(_ work: @escaping @Sendable (Gate) async throws -> Void) async throws {
    let gate = Gate()
    let group = ServiceGroup(services: [Work { try await work(gate) }])
    async let told: Void = {
      await gate.wait()
      group.triggerGracefulShutdown()
    }()
    try await group.run()
    await told
  }

  @Test("outside services nothing shuts down, and operations run as they are")
  func outside() async throws {
    #expect(!Task.isShuttingDownGracefully)
    #expect(await cancelWhenGracefulShutdown { 5 } == 5)
    await #expect(throws: Broken("no")) {
      try await cancelWhenGracefulShutdown { throw Broken("no") }
    }
    let waiting = Task { try await gracefulShutdown() }
    let pausing = Task {
      await cancelWhenGracefulShutdown { try? await Task.sleep(for: .seconds(3_600)) }
    }
    waiting.cancel()
    pausing.cancel()
    await pausing.value
    await #expect(throws: CancellationError.self) { try await waiting.value }
  }

  @Test("child tasks and tasks of a service know that it shuts down")
  func inherited() async throws {
    try await serve { gate in
      #expect(!Task.isShuttingDownGracefully)
      gate.open()
      try await gracefulShutdown()
      await withTaskGroup(of: Bool.self) { group in
        group.addTask { Task.isShuttingDownGracefully }
        group.addTask { await Task { Task.isShuttingDownGracefully }.value }
        for await isShuttingDown in group { #expect(isShuttingDown) }
      }
      #expect(!Task.isCancelled)
      let isKnown = await Task.detached { Task.isShuttingDownGracefully }.value
      #expect(!isKnown)
    }
  }

  @Test("a shutdown cancels the operation, not its service, and each time anew")
  func cancels() async throws {
    try await serve { gate in
      let isCancelled = await cancelWhenGracefulShutdown {
        gate.open()
        try? await Task.sleep(for: .seconds(3_600))
        return Task.isCancelled
      }
      #expect(isCancelled)
      #expect(!Task.isCancelled)
      // After the shutdown began, operations are cancelled from their start.
      await #expect(throws: CancellationError.self) {
        try await cancelWhenGracefulShutdown { try await Task.sleep(for: .seconds(3_600)) }
      }
      #expect(await cancelWhenGracefulShutdown { "done" } == "done")
    }
  }

  @Test("a thousand operations of a service leave nothing that a shutdown would cancel")
  func many() async throws {
    try await serve { gate in
      await withTaskGroup(of: Int.self) { group in
        for number in 0..<1_000 {
          group.addTask { await cancelWhenGracefulShutdown { number } }
        }
        var sum = 0
        for await number in group { sum += number }
        #expect(sum == 499_500)
      }
      gate.open()
      try await gracefulShutdown()
    }
  }
}
