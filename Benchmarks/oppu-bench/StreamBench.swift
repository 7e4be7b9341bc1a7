// `oppu-bench stream`: every line of the stream's goals in one report.

import ArgumentParsing
import DevelopmentServers
import Foundation

struct StreamBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stream",
    abstract: "Ingest, the queue, the scheduler, shift detection, and how soon all of it reacts.",
    discussion: """
      Runs `ingest`, `jobs`, `tick`, `shift` and `reaction`, one after the other, each in a process of its \
      own. Absolute figures differ between machines and hours. Let nothing else run meanwhile.
      """)

  @Option(help: "Also writes the rows to this file, as JSON.") var json: String?
  @Option(help: "Only these parts.", transform: { $0.split(separator: ",").map(String.init) })
  var parts = ["ingest", "jobs", "tick", "shift", "reaction"]
  @Option(help: "This project's folder.") var project: String
  @Option(help: "The demo's model, a GGUF file.") var model: String
  @Option(
    help:
      "The Python with River, for `shift`, and with confluent-kafka and psycopg, for `ingest` from Apache Kafka."
  )
  var python: String?

  func run() async throws {
    OutsideServers.untried.map(BenchDatabase.say)
    var report = EngineReport.here()
    let known = Set(
      OppuBench.configuration.subcommands.map {
        $0.configuration.commandName ?? "\($0)".lowercased()
      })
    for part in parts {
      guard known.contains(part) else {
        BenchDatabase.say("there is no \(part) to measure")
        continue
      }
      BenchDatabase.say("--- \(part)")
      do {
        let found = try measure(part)
        report.rows += found.rows
        report.versions.merge(found.versions ?? [:]) { $1 }
      } catch {
        // The others are worth having all the same; a goal that was not measured is not met.
        BenchDatabase.say("\(part) failed: \(error)")
        report.rows.append(
          EngineReport.Row(
            name: "\(part): failed", ours: 0, peer: nil, ratio: 0, goal: 1, unit: ""))
      }
    }
    try report.write(json)
  }

  /// What every part's file has.
  private struct Part: Decodable {
    let rows: [EngineReport.Row]
    let versions: [String: String]?
  }

  private func measure(_ part: String) throws -> Part {
    let file = FileManager.default.temporaryDirectory
      .appendingPathComponent("oppu-bench-\(UUID().uuidString.prefix(8)).json")
    defer { try? FileManager.default.removeItem(at: file) }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
    let more: [String] =
      switch part {
      case "reaction": ["--project", project, "--model", model]
      case "ingest", "shift": ["--project", project] + (python.map { ["--python", $0] } ?? [])
      default: []
      }
    process.arguments = [part, "--json", file.path] + more
    process.currentDirectoryURL = URL(fileURLWithPath: project)
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw PeerError(description: "it ended with \(process.terminationStatus)")
    }
    return try JSONDecoder().decode(Part.self, from: try Data(contentsOf: file))
  }
}
