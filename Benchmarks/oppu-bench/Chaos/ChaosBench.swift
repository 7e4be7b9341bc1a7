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
      ways to them and the workers are killed, frozen, slowed and cut, tables locked, topics made anew, offsets \
      reset, workers stopped while a server hangs, and while some requests do what could hold up the others: huge \
      weights, a long history, long answers, replies to topics that do not exist. In the end what is stored, answered \
      and trained is held against what was sent. What is found is printed, and the exit code is 1.

      The seed decides what goes wrong in which order; when exactly is the machine's. --worker tries another build, \
      also an older one: nothing is set that it would not know. With OPPU_TEST_KAFKA, a folder with a script `kafka` \
      (CONTRIBUTING.md), the brokers are Apache Kafka's, --brokers says how many, and they are killed as well.

      Example: oppu-bench chaos --minutes 4 --seed 3 --only topics
      """)

  @Option(help: "How long things go wrong.") var minutes = 30.0
  @Option(help: "What the trial is drawn from.") var seed: UInt64 = 1
  @Option(help: "Events a second.") var events = 20
  @Option(help: "Requests a second.") var requests = 1
  @Option(help: "Users.") var users = 8
  @Option(help: "Worker processes, each with all roles.") var workers = 2
  @Option(help: "Brokers that are one cluster, with a copy of everything on each.") var brokers = 1
  @Option(
    help:
      "Only these faults: \(ChaosPlan.Phase.allCases.map(\.rawValue).joined(separator: ", ")), or one kind by its name, e.g. databaseHeld."
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
    guard (1...3).contains(brokers), brokers == 1 || OutsideServers.kafka != nil else {
      throw ValidationError("--brokers is 1, or up to 3 of Apache Kafka (OPPU_TEST_KAFKA).")
    }
    if let only, ChaosPlan.Scope(only) == nil {
      throw ValidationError("There are no faults '\(only)'.")
    }
  }

  /// Small trainings and short pauses: what is tried is who does what, not how well.
  private static let settings = [
    "OPPU_SCHEDULE_FIRST_ADAPTER_EVENTS": "16", "OPPU_SCHEDULE_POLL_INTERVAL_MS": "500",
    "OPPU_SCHEDULE_LOSS_SIGNAL": "false",
    "OPPU_TRAIN_LEASE_MS": "\(Int(ChaosLeases.lease / .milliseconds(1)))",
    "OPPU_KAFKA_IDLE_REST_MS": "100",
    // Full soon, so that memory that grows is no cache.
    "OPPU_INFER_ADAPTER_CACHE_BYTES": "16777216", "OPPU_INFER_PREFIX_CACHE_BYTES": "16777216",
    "OPPU_TRAIN_EPOCHS": "1", "OPPU_TRAIN_RANK": "4", "OPPU_TRAIN_TARGETS": "q_proj,v_proj",
    "OPPU_TRAIN_MAXIMUM_TOKENS": "4000",
    // Workers are killed every few seconds: three attempts of a healthy job can all meet that.
    "OPPU_TRAIN_MAXIMUM_ATTEMPTS": "10",
    // A member that is silent for longer is put out of its group. The development broker, too, now and then answers
    // nobody where two members join at the same moment, until this is over.
    "OPPU_KAFKA_PROPERTIES": "max.poll.interval.ms=30000,session.timeout.ms=15000",
  ]

  func run() async throws {
    OutsideServers.untried.map(BenchDatabase.say)
    let root = URL(fileURLWithPath: project).absoluteURL
    let program = worker ?? root.appendingPathComponent(".build/release/oppu-worker").path
    let modelFile = URL(fileURLWithPath: model, relativeTo: root).absoluteURL.path
    for file in [program, modelFile] where !FileManager.default.fileExists(atPath: file) {
      throw PeerError(description: "there is no \(file); scripts/setup and a build come first")
    }
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("oppu-chaos-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let stage = try await ChaosStage(
      folder: folder,
      worker: program, count: workers,
      broker: OutsideServers.kafka ?? root.appendingPathComponent(".oppu/bin/noida-db"),
      brokers: brokers, model: modelFile,
      settings: Self.settings)
    let result: Result<Void, any Error>
    do { result = .success(try await trial(stage)) } catch { result = .failure(error) }
    let isClean = await stage.ledger.findings.isEmpty
    await stage.end(keepingFolder: !isClean)
    if isClean {
      try? FileManager.default.removeItem(at: folder)
    } else {
      BenchDatabase.say("the workers' logs are in \(folder.path)")
    }
    try result.get()
    if !isClean { throw ExitCode(1) }
  }

  private func trial(_ stage: ChaosStage) async throws {
    // Ids as people have them: with an escape code, a line break, spaces, letters of other scripts.
    let odd = ["\u{1B}[31mred", "two\nlines", "ünï cödé/🎬", "1e3"]
    let names = (0..<users).map { $0 < odd.count ? odd[$0] : "user-\($0)" }
    let (servers, members, ledger) = (stage.servers, stage.workers, stage.ledger)
    let traffic = ChaosTraffic(stage.kafka, users: names, seed: seed, ledger: ledger)
    let replies = ChaosReplies(stage.kafka, ledger: ledger)
    let topics = ChaosTopics(
      servers: servers, workers: members, traffic: traffic, ledger: ledger,
      configuration: stage.kafka)
    let crowds = ChaosCrowds(
      servers: servers, workers: members, traffic: traffic, ledger: ledger, users: names)
    let leases = ChaosLeases(database: servers.database, ledger: ledger)
    let check = ChaosCheck(database: servers.database, workers: members, ledger: ledger)
    let faults = ChaosFaults(
      servers: servers, workers: members, topics: topics, crowds: crowds, ledger: ledger)
    let plan = ChaosPlan(
      seed: seed, workers: workers, brokers: brokers, mayBeKilled: !servers.brokers.isStandIn,
      only: only.flatMap(ChaosPlan.Scope.init))
    try await stage.prepare()
    let watchers = [
      Task { try await members.supervise() }, Task { try await topics.resolveGaps() },
      Task { try await leases.watch() },
      Task {
        while !Task.isCancelled {
          do { try await replies.read(partitions: ChaosTopics.partitions, for: traffic) } catch {
            if await !ledger.isDisturbed { BenchDatabase.say("replies cannot be read: \(error)") }
          }
          try await Task.sleep(for: .seconds(2))
        }
      },
    ]
    let sender = Task {
      try await traffic.run(eventsPerSecond: events, requestsPerSecond: requests)
    }
    let operations = Task {
      try await ChaosOperator(workers: members, ledger: ledger, users: names).run(plan)
    }
    try await disturb(plan, faults, ledger)
    operations.cancel()
    _ = await operations.result
    _ = try await members.run(["admin", "queue", "resume", "--execute"])
    try await traffic.pause()
    sender.cancel()
    _ = await sender.result
    await traffic.close()
    try await settle(check)
    try? await replies.read(partitions: ChaosTopics.partitions, for: traffic)
    for watcher in watchers { watcher.cancel() }
    for watcher in watchers { _ = await watcher.result }
    try await check.checkEvents()
    await check.checkRequests()
    try await leases.check()
    try await check.checkVersions()
    await check.checkMemory()
    await members.stopAll()
    await report(stage, check)
  }

  /// So many findings are a world in which nothing works; more of them tell nothing.
  private static let enough = 100
  private static let patience = Duration.seconds(180)

  /// Phase after phase until the time is over.
  private func disturb(
    _ plan: ChaosPlan, _ faults: ChaosFaults, _ ledger: ChaosLedger
  ) async throws {
    var plan = plan
    let begin = ContinuousClock.now
    let end = begin + .seconds(minutes * 60)
    // Everybody has come up before anything goes wrong.
    try await Task.sleep(for: .seconds(20))
    while .now < end, await ledger.findings.count < Self.enough {
      let (phase, length) = plan.nextPhase()
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
        try await faults.apply(fault)
        try await Task.sleep(for: plan.rest())
      }
    }
  }

  /// Nothing goes wrong any more: everything under way has to come to its end, however slow the machine is.
  private func settle(_ check: ChaosCheck) async throws {
    var last = ChaosCheck.Rest()
    var changedAt = ContinuousClock.now
    while .now - changedAt < Self.patience {
      guard await check.ledger.findings.count < Self.enough else { return }
      if let rest = try? await check.rest() {
        if rest.open.isEmpty { return }
        if rest.open != last.open {
          BenchDatabase.say("still " + rest.open.joined(separator: ", "))
        }
        if rest != last { changedAt = .now }
        last = rest
      }
      try await Task.sleep(for: .seconds(1))
    }
    await check.ledger.find(
      "still open, and nothing moves for \(Self.patience): \(last.open.joined(separator: ", "))")
  }

  private func report(_ stage: ChaosStage, _ check: ChaosCheck) async {
    let ledger = stage.ledger
    let events = await ledger.events.values.flatMap { $0 }
    let faults = await ledger.faults
    let findings = await ledger.findings
    let rows: [(String, String)] = [
      ("seed, minutes", "\(seed), \(minutes)"),
      ("events sent, refused ones", "\(events.count), \(await ledger.poison.count)"),
      (
        "events stored",
        "\(await check.figure("SELECT count(*) FROM behavior_events WHERE topic <> \(ChaosCrowds.topic)"))"
      ),
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
      ("highest memory of a worker", "\(await stage.workers.peakMemory >> 20) MiB"),
      (
        "faults",
        faults.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
      ),
      ("machine busy with others", "\(Int(await ledger.busySeconds)) s"),
      ("found", "\(findings.count)"),
    ]
    let table = TextTable<(String, String)> { row in
      [Column(title: "", value: row.0), Column(title: "", value: row.1)]
    }
    print(table.string(for: rows))
    for finding in findings { print("- \(finding)") }
  }
}
