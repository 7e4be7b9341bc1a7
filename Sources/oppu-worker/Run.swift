// `oppu-worker run`: the worker itself.

import ArgumentParser
import Foundation
import Logging
import Worker

struct Run: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a worker until it is told to stop (SIGTERM drains).",
    discussion: """
      Takes on all roles unless --roles says otherwise; run as many processes as you like. On SIGTERM or \
      Ctrl-C it finishes the batch in hand, gives a training job back, and leaves its consumer groups.
      """)

  @OptionGroup var options: ConfigurationOptions

  @Option(name: .long, help: "Roles with commas: ingest, schedule, train, infer [roles].")
  var roles: String?

  @Flag(name: .long, help: "Show the settings in force, secrets masked, and exit.")
  var printConfig = false

  func run() async throws {
    var options = options
    if let roles { options.set.append("roles=\(roles)") }
    let configuration = try await Failure.explain { try await options.load() }
    if printConfig {
      for setting in Setting.all {
        print("# \(setting.help) [\(Setting.environmentName(setting.key))]")
        print("\(setting.key): \(setting.show(configuration))")
      }
      return
    }
    let logger = options.makeLogger("oppu-worker")
    try await Failure.explain {
      try await WorkerProcess(configuration: configuration, logger: logger).run()
    }
  }
}
