// `oppu-bench chaos`: a long random trial of the real worker among servers that fail.

import ArgumentParsing
import DevelopmentServers
import Foundation
import KafkaClient
import TextTables
import Worker

struct ChaosBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chaos",
    abstract: "A long random trial: everything fails, and nothing may be lost.",
    discussion: """
      Events, requests, feedback, erasures and admin commands go to real workers while PostgreSQL, the broker, the \
      ways to them and the workers are killed, frozen, slowed and cut, and topics made anew. In the end what is \
      stored and what was answered is held against what was sent. What is found is printed, and the exit code is 1.

      The seed decides what goes wrong in which order; when exactly is the machine's.
      """)

  @Option(help: "How long things go wrong.") var minutes = 30.0
  @Option(help: "What the trial is drawn from.") var seed: UInt64 = 1
  @Option(help: "Events a second.") var events = 20
  @Option(help: "Requests a second.") var requests = 1
  @Option(help: "Users.") var users = 8
  @Option(help: "Worker processes, each with all roles.") var workers = 2
  @Option(
    help:
      "Only these kinds of faults: \(ChaosPlan.Phase.allCases.map(\.rawValue).joined(separator: ", "))."
  )
  var only: String?
  @Option(help: "The worker's program, this project's by default.") var worker: String?
  @Option(help: "This project's folder.") var project = "."
  @Option(help: "The demo's model, a GGUF file.")
  var model = ".oppu/models/SmolLM2-135M-Instruct.Q4_1.gguf"

  func validate() throws {
    guard minutes > 0, events > 0, requests > 0, users > 0, (1...16).contains(workers) else {
      throw ValidationError("Every number must be positive, and --workers at most 16.")
    }
    if let only, ChaosPlan.Phase(rawValue: only) == nil {
      throw ValidationError("There are no faults of the kind '\(only)'.")
    }
  }

  /// Small trainings and short pauses: what is tried is who does what, not how well.
  private static let settings = [
    "OPPU_SCHEDULE_FIRST_ADAPTER_EVENTS": "16", "OPPU_SCHEDULE_POLL_INTERVAL_MS": "500",
    "OPPU_SCHEDULE_LOSS_SIGNAL": "false", "OPPU_TRAIN_LEASE_MS": "10000",
    "OPPU_TRAIN_EPOCHS": "1", "OPPU_TRAIN_RANK": "4", "OPPU_TRAIN_TARGETS": "q_proj,v_proj",
    "OPPU_TRAIN_MAXIMUM_TOKENS": "4000",
    // Workers are killed every few seconds: three attempts of a healthy job can all meet that.
    "OPPU_TRAIN_MAXIMUM_ATTEMPTS": "10",
    // The development broker now and then answers nobody where two members join at the same moment, until this is
    // over.
    "OPPU_KAFKA_PROPERTIES": "max.poll.interval.ms=60000",
  ]

  func run() async throws {
    OutsideServers.untried.map(BenchDatabase.say)
    let root = URL(fileURLWithPath: project).absoluteURL
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("oppu-chaos-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let ledger = ChaosLedger()
    let stage = try await ChaosStage(
      ChaosStage.Settings(
        folder: folder,
        worker: worker ?? root.appendingPathComponent(".build/release/oppu-worker").path,
        broker: OutsideServers.kafka ?? root.appendingPathComponent(".oppu/bin/noida-db"),
        model: URL(fileURLWithPath: model, relativeTo: root).absoluteURL.path, workers: workers,
        settings: Self.settings), ledger: ledger)
    let result: Result<Void, any Error>
    do { result = .success(try await trial(stage, ledger)) } catch { result = .failure(error) }
    let isClean = await ledger.findings.isEmpty
    await stage.end(keepingFolder: !isClean)
    if !isClean { BenchDatabase.say("the workers' logs are in \(folder.path)") }
    try result.get()
    if !isClean { throw ExitCode(1) }
  }

  private func trial(_ stage: ChaosStage, _ ledger: ChaosLedger) async throws {
    // Ids as people have them: with an escape code, a line break, spaces, letters of other scripts.
    let odd = ["\u{1B}[31mred", "two\nlines", "ünï cödé/🎬", "1e3"]
    let names = (0..<users).map { $0 < odd.count ? odd[$0] : "user-\($0)" }
    let configuration = stage.configuration.kafka
    let traffic = ChaosTraffic(configuration, users: names, seed: seed, ledger: ledger)
    let replies = ChaosReplies(configuration, ledger: ledger)
    let check = ChaosCheck(stage: stage, ledger: ledger)
    try await stage.prepare()
    let supervisor = Task { try await stage.supervise() }
    let patrol = Task { try await stage.resolveGaps() }
    let reader = Task {
      while !Task.isCancelled {
        do { try await replies.read(partitions: ChaosStage.partitions, for: traffic) } catch {
          if await !ledger.isDisturbed { BenchDatabase.say("replies cannot be read: \(error)") }
        }
        try await Task.sleep(for: .seconds(2))
      }
    }
    let sender = Task {
      try await traffic.run(eventsPerSecond: events, requestsPerSecond: requests)
    }
    let plan = ChaosPlan(seed: seed, workers: workers)
    let operations = Task {
      try await ChaosOperator(stage: stage, ledger: ledger, users: names).run(plan)
    }
    try await disturb(plan, stage, ledger, traffic)
    operations.cancel()
    _ = await operations.result
    _ = try await stage.run(["admin", "queue", "resume", "--execute"])
    try await traffic.pause()
    sender.cancel()
    _ = await sender.result
    await traffic.close()
    try await settle(check)
    try? await replies.read(partitions: ChaosStage.partitions, for: traffic)
    reader.cancel()
    supervisor.cancel()
    patrol.cancel()
    _ = await (reader.result, supervisor.result, patrol.result)
    try await check.checkEvents()
    await check.checkRequests()
    try await check.checkJobs()
    await check.checkMemory()
    await stage.stopWorkers()
    await report(stage, ledger, check)
  }

  /// Phase after phase until the time is over.
  private func disturb(
    _ plan: ChaosPlan, _ stage: ChaosStage, _ ledger: ChaosLedger, _ traffic: ChaosTraffic
  ) async throws {
    var plan = plan
    let begin = ContinuousClock.now
    let end = begin + .seconds(minutes * 60)
    // Everybody has come up before anything goes wrong.
    try await Task.sleep(for: .seconds(20))
    while .now < end {
      var (phase, length) = plan.nextPhase()
      if let only = only.flatMap(ChaosPlan.Phase.init) { phase = only }
      let sent = await ledger.events.values.reduce(0) { $0 + $1.count }
      let open = await ledger.unanswered.count
      BenchDatabase.say(
        "\(Int((ContinuousClock.now - begin) / .seconds(60))) min, \(phase.rawValue): \(sent) events sent, \(open) requests open"
      )
      let phaseEnd = min(end, .now + length)
      while .now < phaseEnd {
        guard let fault = plan.nextFault(in: phase) else {
          try await Task.sleep(for: length)
          break
        }
        try await stage.apply(fault, traffic: traffic)
        try await Task.sleep(for: plan.rest())
      }
    }
  }

  /// Nothing goes wrong any more: everything under way has to come to its end.
  private func settle(_ check: ChaosCheck) async throws {
    let end = ContinuousClock.now + .seconds(300)
    var open = ["?"]
    while .now < end {
      if let now = try? await check.open() {
        if now != open, !now.isEmpty { BenchDatabase.say("still " + now.joined(separator: ", ")) }
        open = now
        if open.isEmpty { return }
      }
      try await Task.sleep(for: .seconds(1))
    }
    await check.ledger.find(
      "not done five minutes after the last fault: \(open.joined(separator: ", "))")
  }

  private func report(_ stage: ChaosStage, _ ledger: ChaosLedger, _ check: ChaosCheck) async {
    let events = await ledger.events.values.flatMap { $0 }
    let faults = await ledger.faults
    let findings = await ledger.findings
    let rows: [(String, String)] = [
      ("seed, minutes", "\(seed), \(minutes)"),
      ("events sent, refused ones", "\(events.count), \(await ledger.poison.count)"),
      ("events stored", "\(await check.figure("SELECT count(*) FROM behavior_events"))"),
      (
        "requests, answered twice", "\(await ledger.requests.count), \(await check.secondReplies())"
      ),
      (
        "erasures, admin commands",
        "\(await ledger.erasures.values.reduce(0) { $0 + $1.count }), \(await ledger.commands)"
      ),
      (
        "jobs done, adapters",
        "\(await check.figure("SELECT count(*) FROM training_jobs_done")), \(await check.figure("SELECT count(*) FROM adapters"))"
      ),
      ("highest memory of a worker", "\(await stage.peakMemory >> 20) MiB"),
      (
        "faults",
        faults.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
      ),
      ("found", "\(findings.count)"),
    ]
    let table = TextTable<(String, String)> { row in
      [Column(title: "", value: row.0), Column(title: "", value: row.1)]
    }
    print(table.string(for: rows))
    for finding in findings { print("- \(finding)") }
  }
}
