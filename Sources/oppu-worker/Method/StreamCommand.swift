// `oppu-worker stream`: each event of users' streams is predicted before it is learnt, under several
// policies of when to train.

import ArgumentParsing
import Evaluation
import EvaluationReport
import Foundation
import JSON
import LanguageModel
import OPPU
import Personalization
import Worker

struct StreamCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stream",
    abstract: "Measure when to train: quality against cost along users' streams of events.",
    discussion: """
      Reads behaviour events, one a line, as `admin events import` does. Every event is predicted before it \
      is learnt (prequential evaluation), under each of these policies:

        never      the task's adapter, or the base model, to the end
        scheduled  a training every --every events
        shift      as the worker: a first adapter, then on every detected shift, and after many new events
        oracle     a training at every event

      A training is the worker's: it goes on from the adapter before it, with the events since and some older \
      ones again, after a shift with those since the change; settings of --preset and --set. All policies \
      train alike and differ only in when.

      --planted joins two users' events into one stream, so that the behaviour changes at a known event.

      Writes results.json and report.html. A stopped study goes on with the same command.

      Example: oppu-worker stream --events events.jsonl --task LaMP_5 --others lamp/LaMP_5 --out streaming
      With planted shifts: the same with --planted --events-per-user 80 --out planted
      """)

  @OptionGroup(title: "Method") var method: MethodOptions
  @Option(name: .long, help: "File of events, one JSON object a line.", completion: .file())
  var events: String
  @Option(name: .long, help: "Task, or several with commas (default: all that the file has).")
  var task: String?
  @Option(name: .long, help: "Policies with commas.")
  var policies = StreamingPolicy.allCases.map(\.argument).joined(separator: ",")
  @Option(name: .long, help: "Results folder.", completion: .directory) var out: String
  @Option(name: .long, help: "At most so many streams of a task.") var users: Int?
  @Option(
    name: .customLong("events-per-user"),
    help: "The first so many events of a stream (default: all).")
  var eventsPerUser: Int?
  @Flag(
    name: .long,
    help: "Join the first half of one user's events and of the next's: a shift at a known place.")
  var planted = false
  @Option(
    name: .long,
    help:
      "Folder in LaMP's format, or one of such folders by task: train a task adapter on others.json."
  )
  var others: String?
  @Option(name: .long, help: "What stands in prompts: plain, rag-K, pag, rag-K+pag.")
  var variant = "plain"
  @Option(name: .long, help: "Minutes for each task; users beyond it are left out and named.")
  var budget: Double?
  @Option(name: .long, help: "Events between two trainings on schedule (default: --new-events).")
  var every: Int?
  @Option(
    name: .customLong("first-adapter-events"), help: "As the worker's schedule.firstAdapterEvents.")
  var firstAdapterEvents = WorkerConfiguration().schedule.rules.firstAdapterEvents
  @Option(name: .customLong("new-events"), help: "As the worker's schedule.newEvents.")
  var newEvents = WorkerConfiguration().schedule.rules.newEvents
  @Option(name: .customLong("shift-events"), help: "As the worker's schedule.shiftEvents.")
  var shiftEvents = WorkerConfiguration().schedule.rules.shiftEvents
  @Option(
    name: .customLong("false-alarm-events"), help: "As the worker's schedule.falseAlarmEvents.")
  var falseAlarmEvents = WorkerConfiguration().schedule.falseAlarmEvents

  func validate() throws {
    let numbers: [(String, Int?, Int)] = [
      ("users", users, 1), ("events-per-user", eventsPerUser, 2), ("every", every, 1),
      ("first-adapter-events", firstAdapterEvents, 1), ("new-events", newEvents, 1),
      ("shift-events", shiftEvents, 1), ("false-alarm-events", falseAlarmEvents, 20),
    ]
    for (name, value, least) in numbers {
      if let value, value < least {
        throw ValidationError("--\(name) must be at least \(least), not \(value).")
      }
    }
    if let budget, !(budget > 0) { throw ValidationError("--budget must be above 0 minutes.") }
    guard !planted || eventsPerUser != nil else {
      throw ValidationError(
        "--planted needs --events-per-user N: the behaviour changes after N / 2 events.")
    }
  }

  func run() async throws {
    try await Failure.explain {
      let settings = try method.settings()
      let policies = try policies.split(separator: ",").map {
        try StreamingPolicy(named: String($0))
      }
      guard Set(policies).count == policies.count, !policies.isEmpty else {
        throw ValidationError("--policies: each policy once, and at least one.")
      }
      let arm = try Arm(variant == "plain" ? "task" : "task+\(variant)", retrieve: method.retrieve)
      let catalogue = try method.catalogue()
      let file = try EventHistories(path: events, catalogue: catalogue)
      for note in file.notes.prefix(10) { Failure.say("\(events):\(note.line): \(note.problem)") }
      if file.notes.count > 10 {
        Failure.say("… and \(file.notes.count - 10) more lines, in results.json")
      }
      let found = Set(file.histories.map(\.task))
      let names = task.map { $0.split(separator: ",").map(String.init) } ?? found.sorted()
      for name in names where !found.contains(name) {
        _ = try catalogue.task(named: name)
        throw ValidationError(
          "--events \(events) has no events of the task \(name) that can be used; it has "
            + "\(found.isEmpty ? "none at all" : found.sorted().joined(separator: ", ")).")
      }
      guard !names.isEmpty else {
        throw ValidationError("--events \(events) has no events that can be used.")
      }
      try OutputFolder.prepare(out)
      try await ComputeQueue("stream").run {
        let model = try method.loadModel()
        var all: [EvaluationResults] = []
        for name in names {
          let plan = StreamingPlan(
            policies: policies, rules: rules, settings: settings, variant: arm.variant ?? .plain,
            budget: budget.map { .seconds($0 * 60) }, seed: method.seed,
            folder: names.count == 1
              ? URL(fileURLWithPath: out) : URL(fileURLWithPath: out).appending(path: name))
          let results = try study(
            catalogue.task(named: name), file, catalogue, model: model, plan: plan)
          print(EvaluationTable(results).text)
          all.append(results)
          try HTMLReport(all, title: "Streaming").write(
            to: URL(fileURLWithPath: out).appending(path: "report.html"))
        }
        Failure.say("wrote \(out)/report.html")
      }
    }
  }

  private var rules: StreamingRules {
    StreamingRules(
      every: every ?? newEvents, firstAdapterEvents: firstAdapterEvents, newEvents: newEvents,
      shiftEvents: shiftEvents, falseAlarmEvents: falseAlarmEvents)
  }

  private func study(
    _ task: TaskDefinition, _ file: EventHistories, _ catalogue: TaskCatalogue, model: LlamaModel,
    plan: StreamingPlan
  ) throws -> EvaluationResults {
    let started = Date()
    var (streams, tooShort) = streams(of: task, file)
    guard !streams.isEmpty else {
      throw ValidationError(
        "--planted: no two users have \((eventsPerUser ?? 0) / 2) events of the task \(task.name); "
          + "give a smaller --events-per-user.")
    }
    if let users { streams = Array(streams.prefix(users)) }
    let adapter = try taskAdapter(task, catalogue, streams, model: model, plan: plan)
    let bar = ProgressLine()
    let findings = try StreamingRun(
      model: model, task: task, taskAdapter: adapter, plan: plan
    ).run(streams) { progress in
      let left = progress.secondsLeft.map { ", \(Evaluate.time($0)) left" } ?? ""
      bar.show(progress.done, of: progress.total, "\(task.name): \(progress.stage)\(left)")
      return true
    }
    bar.end()
    var results = EvaluationResults(
      task: task.name, kind: task.kind.rawValue,
      metrics: task.metrics.map { MetricInfo($0.rawValue, higherIsBetter: $0.higherIsBetter) },
      provenance: try EvaluationProvenance.now(
        model: model, files: [events], seed: plan.seed, started: started))
    let title =
      planted
      ? "planted shift after \((eventsPerUser ?? 0) / 2) events"
      : "events of \(URL(fileURLWithPath: events).lastPathComponent)"
    results.streaming = [
      StreamingSummary(task: task, outcomes: findings.outcomes, seed: plan.seed)
        .study(title: title)
    ].compactMap(\.self)
    results.configuration = .object([
      "method": try JSONValue(encoding: plan.settings),
      "rules": try JSONValue(encoding: plan.rules), "prompts": .string(plan.variant.name),
      "task_adapter": .bool(adapter != nil),
    ])
    let done = Set(findings.outcomes.map(\.user))
    results.users = EvaluatedUsers(
      done: streams.map(\.user).filter(done.contains), leftOut: tooShort + findings.leftOut)
    results.notes = file.notes.map {
      DataNote(file: URL(fileURLWithPath: events).lastPathComponent, row: $0.line, text: $0.problem)
    }
    try results.write(toFolder: plan.folder)
    return results
  }

  /// The task's streams, in the order of their first events.
  private func streams(
    of task: TaskDefinition, _ file: EventHistories
  ) -> (streams: [UserStream], tooShort: [EvaluatedUsers.LeftOut]) {
    let all = file.histories.filter { $0.task == task.name }.map {
      UserStream(user: $0.userID, items: Array($0.items.prefix(eventsPerUser ?? .max)))
    }
    guard planted, let eventsPerUser else { return (all, []) }
    let half = eventsPerUser / 2
    let long = all.filter { $0.items.count >= half }
    let pairs = stride(from: 0, to: long.count - 1, by: 2).compactMap {
      UserStream(planting: long[$0 + 1], after: long[$0], events: half)
    }
    return (
      pairs,
      all.filter { $0.items.count < half }.map {
        .init(user: $0.user, reason: "there are fewer than \(half) events to plant a shift with")
      }
    )
  }

  /// Trained on users of `--others` who have no part in the streams; nil without such a folder.
  private func taskAdapter(
    _ task: TaskDefinition, _ catalogue: TaskCatalogue, _ streams: [UserStream],
    model: LlamaModel, plan: StreamingPlan
  ) throws -> Adapter? {
    guard let others,
      let folder = try method.tasks(named: task.name, in: others, of: catalogue).first?.folder
    else { return nil }
    let dataset = try LaMPDataset(folder: folder, task: task, catalogue: catalogue)
    guard !dataset.others.isEmpty else { throw EvaluationError.noOtherUsers }
    guard dataset.historyTask == task else {
      throw EvaluationError.folder(
        "the histories in \(folder) are of the task \(dataset.historyTask.name), not of "
          + "\(task.name); leave out --others")
    }
    let evaluated =
      streams.map { LaMPUser(id: $0.user, history: $0.items, queries: []) }
      + streams.flatMap(\.people).map { LaMPUser(id: $0, history: [], queries: []) }
    try LaMPUser.requireDisjoint(evaluated: evaluated, others: dataset.others)
    var settings = plan.settings
    settings.examples.inputFields = dataset.queryFields
    let store = TaskAdapterStore(folder: plan.folder.appending(path: "task-adapters"))
    if let known = try store.load(
      plan.variant, of: task, model: model, evaluated: evaluated.map(\.id),
      wanted: .init(settings: settings, users: dataset.others.map(\.id), seed: plan.seed))
    {
      return known.adapter
    }
    let bar = ProgressLine()
    let trained = try store.train(
      TaskAdaptation(model: model, task: task, settings: settings, variant: plan.variant),
      on: dataset.others, queries: true, seed: plan.seed
    ) { step in
      bar.show(step.step, of: step.steps, "\(task.name): task adapter")
      return true
    }
    bar.end()
    return trained?.adapter
  }
}
