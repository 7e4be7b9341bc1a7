// Names that only the program knows, for the shell's completion: settings, tasks, roles.

import ArgumentParsing
import Personalization
import Worker

extension CompletionKind {
  /// Keys of settings, to be followed by a value.
  static let settingKeys = custom { _, _, _ in Setting.all.map { $0.key + "=" } }

  /// The built-in tasks and those of the task file that `--tasks` or the environment names.
  static let taskNames = custom { words, _, _ in
    var layers = SettingLayers()
    layers.add(SettingLayers.environment())
    if let option = words.lastIndex(of: "--tasks"), option + 1 < words.count {
      layers.add(["tasksFile": SettingText(text: words[option + 1], source: .flag("--tasks"))])
    }
    let named = try? layers.configuration().catalogue()
    return (named ?? .builtIn).names.sorted()
  }

  /// Roles with commas: those that are not named yet.
  static let roleNames = custom { _, _, prefix in
    let before = prefix.split(separator: ",", omittingEmptySubsequences: false).dropLast()
    return Role.allCases.map(\.rawValue).filter { !before.contains(Substring($0)) }
      .map { (before.map(String.init) + [$0]).joined(separator: ",") }
  }
}
