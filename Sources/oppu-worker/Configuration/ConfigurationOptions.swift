// The options that every command that talks to Kafka, PostgreSQL or the model has in common, and how they
// become a configuration: flags over environment over file over defaults.

import ArgumentParsing
import Foundation
import StructuredLogging
import Worker

struct ConfigurationOptions: ParsableArguments {
  @Option(
    name: .long, help: "YAML file with settings. `oppu-worker run --print-config` shows them all.",
    completion: .file(extensions: ["yaml", "yml"]))
  var config: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "One setting, e.g. --set schedule.newEvents=50. May be repeated.", valueName: "key=value"),
    completion: .settingKeys)
  var set: [String] = []

  @Option(name: .long, help: "Kafka brokers, host:port with commas [kafka.bootstrapServers].")
  var kafka: String?

  @Option(name: .long, help: "PostgreSQL as a libpq URI or keyword string [database.url].")
  var database: String?

  @Option(
    name: .long, help: "Base model, a GGUF file or a Hugging Face folder [model].",
    completion: .file(extensions: ["gguf"]))
  var model: String?

  @Option(
    name: .long, help: "YAML file with tasks beyond the built-in ones [tasksFile].",
    completion: .file(extensions: ["yaml", "yml"]))
  var tasks: String?

  @Option(
    name: .long, help: "How much is logged on stderr: trace, debug, info, notice, warning, error.")
  var logLevel: LogLevel = .info

  /// The settings in force.
  /// - Throws: as ``layers(over:)`` and ``SettingLayers/configuration()`` do.
  func load() throws -> WorkerConfiguration { try layers().configuration() }

  /// What was given by flags, environment and file.
  /// - Parameter flags: what a command's own options say, over all else.
  /// - Throws: `ValidationError` for `--config` and `--set` themselves.
  func layers(over flags: [String: SettingText] = [:]) throws -> SettingLayers {
    try reportUnknownVariables()
    var layers = SettingLayers()
    if let config {
      do {
        layers.add(try SettingLayers.file(config))
      } catch { throw ValidationError("--config \(error)") }
    }
    layers.add(SettingLayers.environment())
    layers.add(try changes())
    for (key, flag, text) in [
      ("kafka.bootstrapServers", "--kafka", kafka), ("database.url", "--database", database),
      ("model", "--model", model), ("tasksFile", "--tasks", tasks),
    ] {
      if let text { layers.add([key: SettingText(text: text, source: .flag(flag))]) }
    }
    layers.add(flags)
    return layers
  }

  private func changes() throws -> [String: SettingText] {
    var layer: [String: SettingText] = [:]
    for pair in set {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2, Setting.all.contains(where: { $0.key == parts[0] }) else {
        if let moved = Setting.whereMoved(String(parts[0])) {
          throw ValidationError("--set \(pair): \(moved)")
        }
        let near = Spelling.nearest(to: String(parts[0]), among: Setting.all.map(\.key))
        throw ValidationError(
          near.map { "--set \(pair): there is no setting \"\(parts[0])\". Did you mean \"\($0)\"?" }
            ?? "--set \(pair): expected key=value with a key of `oppu-worker run --print-config`.")
      }
      layer[String(parts[0])] = SettingText(text: String(parts[1]), source: .flag("--set"))
    }
    return layer
  }

  /// A misspelt variable changes nothing, which somebody should be told; one that did something once is refused.
  private func reportUnknownVariables() throws {
    let variables = ProcessInfo.processInfo.environment
    for key in Setting.moved.keys.sorted() where variables[Setting.environmentName(key)] != nil {
      let moved = Setting.whereMoved(key) ?? ""
      throw ValidationError("\(Setting.environmentName(key)): \(moved)")
    }
    let known = Set(Setting.all.map { Setting.environmentName($0.key) } + ["OPPU_THREADS"])
    for name in variables.keys.sorted()
    where name.hasPrefix("OPPU_") && !known.contains(name) {
      Failure.say("the environment variable \(name) names no setting; see `run --print-config`")
    }
  }

  func makeLogger(_ label: String) -> Logger {
    LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
    var logger = Logger(label: label)
    logger.logLevel = logLevel.level
    return logger
  }
}

/// `Logger.Level` as an argument.
enum LogLevel: String, ExpressibleByArgument, CaseIterable {
  case trace, debug, info, notice, warning, error, critical

  var level: Logger.Level { Logger.Level(rawValue: rawValue) ?? .info }
}
