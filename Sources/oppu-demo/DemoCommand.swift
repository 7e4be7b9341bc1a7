// `oppu-demo`: the guided tour of oppu-worker, as an outside client of the real binary.

import ArgumentParsing
import DevelopmentServers
import Foundation
import KafkaClient
import Personalization
import StructuredLogging

@main
struct DemoCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scripts/demo",
    abstract: "Watch users' behaviour change the answers that they get.",
    discussion: """
      Starts a private PostgreSQL, a development broker and the real oppu-worker in a folder of \
      their own, plays a stream of behaviour events, asks, plays the rest, asks the same again, \
      and shows in tables what came of it. Exit code 0 means that everything claimed was seen, 1 \
      that something was not, 130 that it was interrupted. Ctrl-C at any time stops it all.

      Without options it plays the project's sample stream (examples/sample): six users and \
      tasks of three kinds; three users change their ways half-way, three do not. Takes minutes.

      With --events it plays your own: a file with one behaviour event a line, \
      {"user_id": …, "task": …, "occurred_at": …, "input": {…}, "output": …}. The last event of \
      every user and task is kept back, so that the answers can be held against what the user \
      really said. Tasks that are not built in are declared in a YAML file (--tasks).

      The worker's settings can be changed by its environment variables, for example \
      OPPU_TRAIN_EPOCHS=3 scripts/demo (`oppu-worker run --print-config` lists them).
      """)

  @Option(help: ArgumentHelp("Play this file of behaviour events.", valueName: "file"))
  var events: String?

  @Option(
    help: ArgumentHelp(
      "Tasks beyond the built-in ones (with --events: examples/real-events.tasks.yaml).",
      valueName: "file"))
  var tasks: String?

  @Flag(help: "Leave the folder with the logs and data. (After a failure it stays anyway.)")
  var keep = false

  @Option(help: ArgumentHelp("Where all data and logs go.", valueName: "folder"))
  var folder: String?

  @Option(help: ArgumentHelp("The oppu-worker to start.", valueName: "path"))
  var worker: String?

  @Option(help: ArgumentHelp("Base model, a GGUF file.", valueName: "path"))
  var model: String?

  @Option(help: ArgumentHelp("The project's folder.", visibility: .hidden))
  var project = "."

  func run() async throws {
    let console = Console()
    let catalogue: TaskCatalogue
    let scenario: Scenario
    do {
      (catalogue, scenario) = try load()
    } catch {
      throw ValidationError("\(error)")
    }
    let stage = Stage(stageSettings)
    let interruption = Interruption(onSecond: { stage.killAll() })
    let tour = Tour(stage: stage, scenario: scenario, catalogue: catalogue, console: console)
    let outcome: Result<Bool, any Error>
    do {
      outcome = .success(try await Self.run(tour, stage, until: interruption))
    } catch {
      outcome = .failure(error)
    }
    console.endProgress()
    // What failed can be looked into.
    let isFailure =
      switch outcome {
      case .success(let isSeen): !isSeen
      case .failure(let error): !(error is Interrupted)
      }
    let stays = await stage.stop(keepingFolder: keep || isFailure)
    if stays { console.say("Logs and data are in \(stageSettings.folder.path).") }
    switch outcome {
    case .success(true): return
    case .success(false): throw ExitCode(1)
    case .failure(is Interrupted): throw ExitCode(130)
    case .failure(let error):
      FileHandle.standardError.write(Data("demo: \(error)\n".utf8))
      throw ExitCode(1)
    }
  }

  /// The tour, cut short by a signal or by the end of the worker.
  private static func run(
    _ tour: Tour, _ stage: Stage, until interruption: Interruption
  ) async throws -> Bool {
    let signals = interruption.first
    return try await withThrowingTaskGroup(of: Bool.self) { group in
      group.addTask { try await tour.run() }
      group.addTask { try await stage.watchWorker() }
      group.addTask {
        for await _ in signals {
          tour.console.say("\nStopping everything (Ctrl-C again kills).")
          throw Interrupted()
        }
        throw CancellationError()
      }
      defer { group.cancelAll() }
      return try await group.next() ?? false
    }
  }

  // MARK: Options

  private var root: URL { URL(fileURLWithPath: project).standardizedFileURL }

  private func load() throws -> (TaskCatalogue, Scenario) {
    var catalogue = TaskCatalogue.builtIn
    if let tasksFile { catalogue = catalogue.merging(try TaskCatalogue.loading(path: tasksFile)) }
    let scenario =
      if let events {
        try Scenario.file(events, catalogue: catalogue)
      } else {
        try Scenario.sample(
          folder: root.appendingPathComponent("examples/sample"), catalogue: catalogue)
      }
    return (catalogue, scenario)
  }

  private var tasksFile: String? {
    let standard = root.appendingPathComponent("examples/real-events.tasks.yaml").path
    return tasks ?? (events == nil ? nil : standard)
  }

  private var stageSettings: Stage.Settings {
    let environment = ProcessInfo.processInfo.environment
    func path(_ given: String?, _ standard: String) -> URL {
      given.map { URL(fileURLWithPath: $0) } ?? root.appendingPathComponent(standard)
    }
    return Stage.Settings(
      folder: path(folder, ".oppu/demo"), worker: path(worker, ".build/release/oppu-worker"),
      model: path(
        model ?? environment["OPPU_MODEL"], ".oppu/models/SmolLM2-135M-Instruct.Q4_1.gguf"
      ).path,
      tasksFile: tasksFile.map { URL(fileURLWithPath: $0).path },
      broker: root.appendingPathComponent(".oppu/bin/noida-db"),
      workerDefaults: [
        // Looks more often than a worker that has all day.
        "OPPU_SCHEDULE_POLL_INTERVAL_MS": "250", "OPPU_TRAIN_POLL_INTERVAL_MS": "250",
        // A heartbeat every five seconds, for the progress bar.
        "OPPU_TRAIN_LEASE_MS": "15000",
        // No more events come after the last one: a shift need not wait for them for long.
        "OPPU_SCHEDULE_SHIFT_PATIENCE_MS": "10000",
        // Streams of one's own are many and their texts long: a tour trains each of them briefly.
        "OPPU_TRAIN_MAXIMUM_TOKENS": events == nil ? "30000" : "4000",
        "OPPU_PROMPT_CUTOFF": events == nil ? "256" : "96",
      ])
  }
}
