import Services
import Testing

@Suite(.timeLimit(.minutes(2))) struct ServiceGroupTests {
  private let journal = Journal()

  /// Notes its start, and its shutdown in two steps between which others could come.
  private func patient(_ name: String) -> Work {
    Work { [journal] in
      journal.note("\(name) started")
      try await gracefulShutdown()
      journal.note("\(name) told")
      for _ in 0..<20 { await Task.yield() }
      journal.note("\(name) ended")
    }
  }

  private static let reversed = [
    "c told", "c ended", "b told", "b ended", "a told", "a ended",
  ]

  @Test("services stop one after the other, the last one first")
  func order() async throws {
    let group = ServiceGroup(services: [patient("a"), patient("b"), patient("c")])
    async let run: Void = group.run()
    for name in ["a", "b", "c"] { await journal.wait(for: "\(name) started") }
    #expect(journal.lines.count == 3)
    group.triggerGracefulShutdown()
    group.triggerGracefulShutdown()
    try await run
    #expect(Array(journal.lines.dropFirst(3)) == Self.reversed)
  }

  @Test("a shutdown that was asked for before the start comes right after it")
  func early() async throws {
    let group = ServiceGroup(services: [patient("a"), patient("b"), patient("c")])
    group.triggerGracefulShutdown()
    try await group.run()
    #expect(journal.lines.filter { !$0.hasSuffix("started") } == Self.reversed)
    try await ServiceGroup(services: []).run()
  }

  @Test("a group runs once")
  func once() async throws {
    let group = ServiceGroup(services: [patient("a")])
    group.triggerGracefulShutdown()
    try await group.run()
    await #expect(throws: ServiceGroupError.self) { try await group.run() }
  }

  @Test("the error of one service stops the others in order and is thrown; later ones are reported")
  func failure() async throws {
    let gate = Gate()
    let late = Failing {
      try await gracefulShutdown()
      throw Broken("second")
    }
    let failing = Work {
      await gate.wait()
      throw Broken("first")
    }
    let reports = Journal()
    let group = ServiceGroup(
      services: [patient("a"), late, patient("b"), failing, patient("c")],
      report: { reports.note($0) })
    let run = Task { try await group.run() }
    for name in ["a", "b", "c"] { await journal.wait(for: "\(name) started") }
    gate.open()
    await #expect(throws: Broken("first")) { try await run.value }
    #expect(Array(journal.lines.dropFirst(3)) == Self.reversed)
    #expect(
      reports.lines == ["Work failed; shutting down: first", "Failing failed: second"])
  }

  @Test("a service that returns before it was told to stops the others and is named")
  func returning() async throws {
    let group = ServiceGroup(services: [patient("a"), Failing {}])
    let error = await #expect(throws: ServiceGroupError.self) { try await group.run() }
    #expect(error.map { "\($0)" } == "Failing ended though nobody had told it to")
    #expect(journal.lines.last == "a ended")
  }

  @Test("a service whose last pause is broken off by the shutdown has not failed")
  func interrupted() async throws {
    let pausing = Work {
      try await cancelWhenGracefulShutdown { try await Task.sleep(for: .seconds(3_600)) }
    }
    let group = ServiceGroup(services: [pausing, pausing])
    group.triggerGracefulShutdown()
    try await group.run()
  }

  @Test("cancelling the group cancels all services at once")
  func cancellation() async throws {
    let gates = [Gate(), Gate()]
    let services = gates.indices.map { index in
      Work { [journal] in
        journal.note("\(index) started")
        try? await Task.sleep(for: .seconds(3_600))
        journal.note("\(index) \(Task.isCancelled) \(Task.isShuttingDownGracefully)")
        // Ends only when the other one has been cancelled, too.
        gates[1 - index].open()
        await gates[index].wait()
      }
    }
    let run = Task { try await ServiceGroup(services: services).run() }
    for index in 0..<2 { await journal.wait(for: "\(index) started") }
    run.cancel()
    await #expect(throws: CancellationError.self) { try await run.value }
    #expect(Set(journal.lines.suffix(2)) == ["0 true true", "1 true true"])
  }

  @Test("after the deadline all are cancelled, and those that end then are no error")
  func deadline() async throws {
    let clock = ManualClock()
    let slow = Work { [journal] in
      try await gracefulShutdown()
      journal.note("slow told")
      try await Task.sleep(for: .seconds(3_600))
    }
    let reports = Journal()
    let group = ServiceGroup(
      services: [patient("a"), slow], shutdownDeadline: .seconds(30), clock: clock,
      report: { reports.note($0) })
    let run = Task { try await group.run() }
    await journal.wait(for: "a started")
    group.triggerGracefulShutdown()
    #expect(await clock.nextSleep() == .seconds(30))
    await journal.wait(for: "slow told")
    clock.advance(by: .seconds(29))
    for _ in 0..<50 { await Task.yield() }
    #expect(!journal.lines.contains("a ended"))
    clock.advance(by: .seconds(1))
    try await run.value
    #expect(reports.lines == ["cancelled after 30.0 seconds: Work, Work"])
  }

  @Test("a service that will not stop is left behind and named, with what began the shutdown")
  func stubborn() async throws {
    let clock = ManualClock()
    let gate = Gate()
    defer { gate.open() }
    let start = Gate()
    let stubborn = Work { await gate.wait() }
    let failing = Failing {
      await start.wait()
      throw Broken("the broker is gone")
    }
    let group = ServiceGroup(
      services: [stubborn, patient("a"), failing], shutdownDeadline: .seconds(30),
      cancellationGrace: .seconds(3), clock: clock)
    let run = Task { try await group.run() }
    await journal.wait(for: "a started")
    start.open()
    #expect(await clock.nextSleep() == .seconds(30))
    await journal.wait(for: "a ended")
    clock.advance(by: .seconds(30))
    #expect(await clock.nextSleep() == .seconds(3))
    clock.advance(by: .seconds(3))
    let error = await #expect(throws: ServiceGroupError.self) { try await run.value }
    #expect(
      error.map { "\($0)" } == "would not stop: Work; before: the broker is gone")
  }

  @Test("a cancelled group leaves a stubborn service behind where it has a deadline")
  func cancelledStubborn() async throws {
    let clock = ManualClock()
    let gate = Gate()
    defer { gate.open() }
    let group = ServiceGroup(
      services: [Work { await gate.wait() }], shutdownDeadline: .seconds(30), clock: clock)
    let run = Task { try await group.run() }
    run.cancel()
    #expect(await clock.nextSleep() == .seconds(2))
    clock.advance(by: .seconds(2))
    await #expect(throws: ServiceGroupError.self) { try await run.value }
  }
}
