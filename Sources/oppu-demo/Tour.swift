// The tour itself: start, play, ask, play on, ask again, report.

import Foundation
import KafkaClient
import Personalization
import StructuredLogging

/// The worker did not get ready.
struct NotReadyError: Error, CustomStringConvertible, LocalizedError {
  var seconds: Int
  var log: String
  var description: String {
    "the worker took no events after \(seconds) s; its log is \(log)"
  }
  var errorDescription: String? { description }
}

struct Tour: Sendable {
  let stage: Stage
  let scenario: Scenario
  let catalogue: TaskCatalogue
  let console: Console

  private static let readySeconds = 120

  /// Returns whether all was seen that is claimed.
  func run() async throws -> Bool {
    let begin = ContinuousClock.now
    try await stage.prepare()
    console.heading("Starting PostgreSQL, a broker and the worker")
    console.progress("starting PostgreSQL", fraction: nil)
    let database = try await stage.startPostgres()
    console.progress("starting the broker", fraction: nil)
    let brokers = try await stage.startBroker()
    console.progress("making topics and tables", fraction: nil)
    try await stage.startWorker(brokers: brokers, database: database)
    console.progress("waiting for the worker", fraction: nil)
    let observer = Observer(database: database)
    // A broker on this machine answers in milliseconds, so one that is gone is noticed soon.
    let kafka = KafkaConfiguration(
      bootstrapServers: brokers, properties: ["client.id": "oppu-demo"],
      idleRest: .milliseconds(100))
    var quiet = Logger(label: "oppu.demo.kafka")
    quiet.logLevel = .critical
    let producer = try KafkaProducer(
      configuration: KafkaConfiguration(
        bootstrapServers: brokers,
        properties: ["client.id": "oppu-demo", "delivery.timeout.ms": "20000"]), logger: quiet)
    do {
      try await waitUntilReady(observer)
      console.say(
        "  ready after \((ContinuousClock.now - begin).inWords); the worker's log is "
          + stage.workerLog)
      let isSeen = try await play(begin, observer, kafka, producer)
      await producer.close(timeout: .seconds(2))
      await observer.close()
      return isSeen
    } catch {
      await producer.close(timeout: .seconds(2))
      await observer.close()
      throw error
    }
  }

  private func waitUntilReady(_ observer: Observer) async throws {
    let deadline = ContinuousClock.now + .seconds(Self.readySeconds)
    while !(try await observer.isReady()) {
      guard ContinuousClock.now < deadline else {
        throw NotReadyError(seconds: Self.readySeconds, log: stage.workerLog)
      }
      try await Task.sleep(for: .milliseconds(100))
    }
  }

  private func play(
    _ begin: ContinuousClock.Instant, _ observer: Observer, _ kafka: KafkaConfiguration,
    _ producer: KafkaProducer
  ) async throws -> Bool {
    let player = Player(producer: producer, observer: observer, console: console)
    let settling = Settling(observer: observer, console: console, workerLog: stage.workerLog)
    let requests = Requests(configuration: kafka, producer: producer, console: console)

    console.heading("Playing the first part: users as they were")
    try await player.play(scenario.first, title: "first part")
    try await settling.wait(played: scenario.first.count, since: WorkerProgress())

    console.heading("Asking \(scenario.questions.count) requests")
    let before = try await requests.ask(scenario.questions, round: "before")
    console.say("  \(before.filter { $0?.isOK == true }.count) answered")

    console.heading(
      scenario.hasTruth
        ? "Playing the rest: \(scenario.shifts.count) users change their ways"
        : "Playing the rest")
    let middle = try await observer.progress()
    try await player.play(scenario.second, title: "second part")
    try await settling.wait(played: scenario.events.count, since: middle)

    console.heading("Asking the same requests again")
    let after = try await requests.ask(scenario.questions, round: "after")
    console.say("  \(after.filter { $0?.isOK == true }.count) answered")

    let progress = try await observer.progress()
    let evidence = TourFindings(
      scenario: scenario, catalogue: catalogue, progress: progress,
      stored: try await observer.stored(),
      deadLetters: try await TourDeadLetter.read(progress.deadLetters, configuration: kafka),
      shifts: try await observer.shifts(), adapters: try await observer.adapters(),
      before: before, after: after, elapsed: ContinuousClock.now - begin,
      peakMemory: await stage.workerPeakMemory())
    Report(evidence: evidence, console: console).print()
    return evidence.claims.allSatisfy(\.isMet)
  }
}
