// Single settings by their path, for searches and for trying things out.

import Foundation

extension MethodSettings {
  /// These settings with one of them set to another value.
  /// - Parameters:
  ///   - path: the setting's place, such as `user.training.learningRate`.
  ///   - text: a JSON value, or a text that is taken as it stands.
  /// - Throws: ``SettingPathError`` where there is no such setting, or it cannot have this value.
  public func setting(_ path: String, to text: String) throws -> MethodSettings {
    let tree = try JSONSerialization.jsonObject(with: JSONEncoder().encode(self))
    let value =
      (try? JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)) ?? text
    let changed = try Self.replace(
      tree, path.split(separator: ".").map(String.init)[...], value, path: path)
    do {
      return try JSONDecoder().decode(
        MethodSettings.self, from: JSONSerialization.data(withJSONObject: changed))
    } catch {
      throw SettingPathError(path: path, problem: "cannot be \(text)")
    }
  }

  private static func replace(
    _ tree: Any, _ path: ArraySlice<String>, _ value: Any, path whole: String
  ) throws -> Any {
    guard let key = path.first else { return value }
    guard var object = tree as? [String: Any], let inner = object[key] else {
      let known = (tree as? [String: Any])?.keys.sorted().joined(separator: ", ") ?? "nothing"
      throw SettingPathError(path: whole, problem: "there is no \"\(key)\"; there is \(known)")
    }
    object[key] = try replace(inner, path.dropFirst(), value, path: whole)
    return object
  }
}

/// A setting that does not exist or cannot have a value.
public struct SettingPathError: Error, Equatable, CustomStringConvertible, LocalizedError {
  /// The setting's place, such as `user.training.learningRate`.
  public let path: String
  /// Goes on after the setting's path and a colon.
  public let problem: String

  public var description: String { "setting \(path): \(problem)" }
  public var errorDescription: String? { description }
}
