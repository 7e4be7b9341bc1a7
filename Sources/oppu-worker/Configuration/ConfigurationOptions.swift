// The options that every command that talks to Kafka, PostgreSQL or the model has in common, and how they
// become a configuration: flags over environment over file over defaults.

import ArgumentParser
import Configuration
import Foundation
import Logging
import SystemPackage
import Worker
import Yams

struct ConfigurationOptions: ParsableArguments {
  @Option(
    name: .long, help: "YAML file with settings. `oppu-worker run --print-config` shows them all.")
  var config: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "One setting, e.g. --set schedule.newEvents=50. May be repeated.", valueName: "key=value"))
  var set: [String] = []

  @Option(name: .long, help: "Kafka brokers, host:port with commas [kafka.bootstrapServers].")
  var kafka: String?

  @Option(name: .long, help: "PostgreSQL as a libpq URI or keyword string [database.url].")
  var database: String?

  @Option(name: .long, help: "Base model, a GGUF file [model].")
  var model: String?

  @Option(name: .long, help: "YAML file with tasks beyond the built-in ones [tasksFile].")
  var tasks: String?

  @Option(
    name: .long, help: "How much is logged on stderr: trace, debug, info, notice, warning, error.")
  var logLevel: LogLevel = .info

  /// The settings in force.
  /// - Throws: ``SettingError`` naming the setting; `ValidationError` for `--config` and `--set` themselves.
  func load() async throws -> WorkerConfiguration {
    reportUnknownVariables()
    var configuration = WorkerConfiguration()
    let reader = ConfigReader(providers: try await providers())
    for setting in Setting.all {
      let key = ConfigKey(setting.key)
      if let text = reader.string(forKey: key, isSecret: setting.isSecret) {
        try setting.apply(&configuration, text)
      } else if setting.isList,
        let list = reader.stringArray(forKey: key, isSecret: setting.isSecret)
      {
        try setting.apply(&configuration, list.joined(separator: ","))
      }
    }
    do {
      try configuration.train.method.user.training.validate()
    } catch { throw ValidationError("the settings train.*: \(error)") }
    return configuration
  }

  private func providers() async throws -> [any ConfigProvider] {
    var flags: [String: String] = [:]
    for pair in set {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2, Setting.all.contains(where: { $0.key == parts[0] }) else {
        throw ValidationError(
          "--set \(pair): expected key=value with a key of `oppu-worker run --print-config`.")
      }
      flags[String(parts[0])] = String(parts[1])
    }
    flags["kafka.bootstrapServers"] = kafka ?? flags["kafka.bootstrapServers"]
    flags["database.url"] = database ?? flags["database.url"]
    flags["model"] = model ?? flags["model"]
    flags["tasksFile"] = tasks ?? flags["tasksFile"]
    // Flags and environment are texts alike, so one kind of provider reads both.
    let named = Dictionary(
      uniqueKeysWithValues: flags.map { (Setting.environmentName($0.key), $0.value) })
    var providers: [any ConfigProvider] = [
      EnvironmentVariablesProvider(environmentVariables: named).prefixKeys(with: "oppu"),
      EnvironmentVariablesProvider().prefixKeys(with: "oppu"),
    ]
    if let config {
      try checkKeys(of: config)
      providers.append(try await FileProvider<YAMLSnapshot>(filePath: FilePath(config)))
    }
    return providers
  }

  /// A misspelt variable changes nothing, which somebody should be told.
  private func reportUnknownVariables() {
    let known = Set(Setting.all.map { Setting.environmentName($0.key) } + ["OPPU_THREADS"])
    for name in ProcessInfo.processInfo.environment.keys.sorted()
    where name.hasPrefix("OPPU_") && !known.contains(name) {
      Failure.say("the environment variable \(name) names no setting; see `run --print-config`")
    }
  }

  /// A misspelt key must not be passed over in silence.
  private func checkKeys(of path: String) throws {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw ValidationError("--config \(path): the file cannot be read as UTF-8 text.")
    }
    let root: Yams.Node?
    do {
      root = try Yams.compose(yaml: text)
    } catch {
      throw ValidationError("--config \(path): \(error)")
    }
    guard let root else { return }
    guard case .mapping(let top) = root else {
      throw ValidationError("--config \(path): the file must be a mapping of settings.")
    }
    try checkKeys(of: top, under: "", path: path)
  }

  private func checkKeys(of mapping: Yams.Node.Mapping, under prefix: String, path: String) throws {
    for (key, value) in mapping {
      let name = prefix + (key.string ?? "?")
      if case .mapping(let inner) = value,
        Setting.all.contains(where: { $0.key.hasPrefix(name + ".") })
      {
        try checkKeys(of: inner, under: name + ".", path: path)
        continue
      }
      let line = key.mark.map { " in line \($0.line)" } ?? ""
      guard let setting = Setting.all.first(where: { $0.key == name }) else {
        throw ValidationError(
          "--config \(path): there is no setting \"\(name)\"\(line); `oppu-worker run --print-config` lists them."
        )
      }
      switch value {
      case .scalar: break
      case .sequence where setting.isList: break
      default:
        throw ValidationError(
          "--config \(path): \(name)\(line) must be \(setting.isList ? "a list of texts" : "one value")."
        )
      }
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
