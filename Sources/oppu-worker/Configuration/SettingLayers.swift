// Where settings come from: flags over environment over a file over defaults. Every value knows its place.

import ArgumentParsing
import Foundation
import Worker
import YAML

/// The place that a setting's value was read from.
enum SettingSource: CustomStringConvertible {
  case file(String, line: Int)
  case environment(String)
  case flag(String)

  var description: String {
    switch self {
    case .file(let path, let line): "\(path):\(line)"
    case .environment(let name): name
    case .flag(let text): text
    }
  }
}

/// A setting's value as somebody wrote it.
struct SettingText {
  let text: String
  let source: SettingSource
}

/// The values that were given, by key; of several for one key the one of the highest layer.
struct SettingLayers {
  private(set) var given: [String: SettingText] = [:]

  /// Puts a layer over those that are there.
  mutating func add(_ layer: [String: SettingText]) { given.merge(layer) { $1 } }

  /// The configuration that follows: defaults, and over them what was given, in the order of `Setting.all`.
  /// - Throws: `SettingError` naming setting and place; `ValidationError` for settings that do not go together.
  func configuration() throws -> WorkerConfiguration {
    var configuration = WorkerConfiguration()
    for setting in Setting.all {
      guard let value = given[setting.key] else { continue }
      do {
        try setting.apply(&configuration, value.text)
      } catch let error as SettingError {
        throw SettingError(key: error.key, problem: error.problem, source: value.source)
      }
    }
    do {
      try configuration.train.method.user.training.validate()
    } catch { throw ValidationError("the settings train.*: \(error)") }
    return configuration
  }

  // MARK: Layers

  /// What the environment gives; variables that name no setting are passed over.
  static func environment(
    _ variables: [String: String] = ProcessInfo.processInfo.environment
  ) -> [String: SettingText] {
    var layer: [String: SettingText] = [:]
    for setting in Setting.all {
      let name = Setting.environmentName(setting.key)
      if let text = variables[name] {
        layer[setting.key] = SettingText(text: text, source: .environment(name))
      }
    }
    return layer
  }

  /// What a YAML file gives: a mapping whose keys are settings, nested or with dots.
  /// - Throws: `SettingFileError`.
  static func file(_ path: String) throws -> [String: SettingText] {
    try SettingFile(path: path).settings()
  }
}

/// What keeps a settings file from being read.
struct SettingFileError: Error, CustomStringConvertible {
  let description: String
}

/// A reader of one settings file.
private struct SettingFile {
  let path: String

  /// Far above any real file of settings; bounds what a wrong file can cost.
  private static let maximumBytes = 1 << 20

  func settings() throws -> [String: SettingText] {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw SettingFileError(description: "\(path): the file cannot be read.")
    }
    var found: [String: SettingText] = [:]
    do {
      guard
        let root = try YAMLNode.compose(yaml: data, file: path, maximumBytes: Self.maximumBytes)
      else { return [:] }
      try collect(root, under: "", into: &found)
    } catch let error as YAMLError {
      throw SettingFileError(description: "\(error)")
    }
    return found
  }

  private func collect(
    _ node: YAMLNode, under prefix: String, into found: inout [String: SettingText]
  ) throws {
    guard case .mapping(let mapping) = node else {
      throw problem(node, "the file must be a mapping of settings to values.")
    }
    for (key, value) in mapping {
      let name = prefix + (key.string ?? "?")
      if case .mapping = value, Setting.all.contains(where: { $0.key.hasPrefix(name + ".") }) {
        try collect(value, under: name + ".", into: &found)
        continue
      }
      guard let setting = Setting.all.first(where: { $0.key == name }) else {
        if let moved = Setting.whereMoved(name) { throw problem(key, moved) }
        throw problem(
          key, "there is no setting \"\(name)\"; `oppu-worker run --print-config` lists them.")
      }
      guard found[name] == nil else { throw problem(key, "\(name) stands twice in the file.") }
      found[name] = SettingText(
        text: try text(value, of: setting), source: .file(path, line: key.mark.line))
    }
  }

  private func text(_ node: YAMLNode, of setting: Setting) throws -> String {
    switch node {
    case .scalar(let scalar) where scalar.kind != .null: return scalar.string
    case .sequence(let items) where setting.isList:
      return try items.map { item in
        guard let text = item.string, item.scalar?.kind != .null else {
          throw problem(item, "\(setting.key) must be a list of texts.")
        }
        guard !text.contains(",") else {
          throw problem(item, "\(setting.key): \"\(text)\" has a comma, which parts the list.")
        }
        return text
      }.joined(separator: ",")
    case .scalar:
      throw problem(node, "\(setting.key) has no value; leave the line out for the default.")
    default:
      throw problem(
        node, "\(setting.key) must be \(setting.isList ? "a list of texts" : "one value").")
    }
  }

  private func problem(_ node: YAMLNode, _ text: String) -> SettingFileError {
    SettingFileError(description: "\(path):\(node.mark.line):\(node.mark.column): \(text)")
  }
}
