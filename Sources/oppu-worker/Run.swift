// `oppu-worker run`: the worker itself.

import ArgumentParsing
import Foundation
import StructuredLogging
import Worker

struct Run: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a worker until it is told to stop (SIGTERM drains).",
    discussion: """
      Takes on all roles unless --roles says otherwise; run as many processes as you like. On SIGTERM or \
      Ctrl-C it finishes the batch in hand, gives a training job back, and leaves its consumer groups.
      """)

  @OptionGroup(title: "Settings") var options: ConfigurationOptions

  @Option(
    name: .long, help: "Roles with commas: ingest, schedule, train, infer [roles].",
    completion: .roleNames)
  var roles: String?

  @Flag(name: .long, help: "Show the settings in force, secrets masked, and exit.")
  var printConfig = false

  func run() async throws {
    let flag = roles.map { SettingText(text: $0, source: .flag("--roles")) }
    let (configuration, given) = try await Failure.explain {
      let layers = try options.layers(over: flag.map { ["roles": $0] } ?? [:])
      return (try layers.configuration(), layers.given)
    }
    if printConfig {
      print(SettingListing(configuration: configuration, given: given).text())
      return
    }
    let logger = options.makeLogger("oppu-worker")
    try await Failure.explain {
      try await WorkerProcess(configuration: configuration, logger: logger).run()
    }
  }
}
