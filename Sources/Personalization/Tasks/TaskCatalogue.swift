// The task catalogue: the tasks that a worker knows, built-in ones and those of a user's own file.

import Foundation

/// Tasks by name. A value: loading a file gives a new catalogue.
public struct TaskCatalogue: Sendable, Hashable {
  private var definitions: [String: TaskDefinition]

  /// A catalogue of the given tasks; of two with one name the later one counts.
  public init(_ tasks: [TaskDefinition]) {
    definitions = Dictionary(tasks.map { ($0.name, $0) }, uniquingKeysWith: { _, last in last })
  }

  /// The tasks that ship with the worker. The file is compiled into the binary, so a binary that is
  /// moved still has them; the tests load it, so it cannot be broken in a release.
  public static let builtIn: TaskCatalogue = {
    let text = String(decoding: PackageResources.tasks_yaml, as: UTF8.self)
    do {
      return TaskCatalogue(try TaskFile(file: "built-in tasks").tasks(in: text))
    } catch {
      preconditionFailure("the built-in tasks are broken: \(error)")
    }
  }()

  /// Reads the tasks of one YAML text. Throws `TaskFileError` naming file, line, key and problem.
  public static func loading(yaml text: String, fileName: String) throws -> TaskCatalogue {
    TaskCatalogue(try TaskFile(file: fileName).tasks(in: text))
  }

  /// Reads a YAML file. Throws `TaskFileError`, also where the file cannot be read.
  public static func loading(path: String) throws -> TaskCatalogue {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw TaskFileError(file: path, line: nil, key: nil, problem: "the file cannot be read")
    }
    guard let text = String(data: data, encoding: .utf8) else {
      throw TaskFileError(file: path, line: nil, key: nil, problem: "the file is not UTF-8")
    }
    return try loading(yaml: text, fileName: path)
  }

  /// This catalogue with another's tasks added; the other's count where names are equal.
  public func merging(_ other: TaskCatalogue) -> TaskCatalogue {
    var result = self
    result.definitions.merge(other.definitions) { _, new in new }
    return result
  }

  /// The task of that name; nil where there is none.
  public subscript(name: String) -> TaskDefinition? { definitions[name] }

  /// The task, or a `UnknownTaskError` that lists the known ones.
  public func task(named name: String) throws -> TaskDefinition {
    guard let task = definitions[name] else {
      throw UnknownTaskError(task: name, known: names)
    }
    return task
  }

  /// All names, sorted.
  public var names: [String] { definitions.keys.sorted() }
  /// All tasks, sorted by name.
  public var tasks: [TaskDefinition] { definitions.values.sorted { $0.name < $1.name } }
}

/// An event or request names a task that is not in the catalogue.
public struct UnknownTaskError: Error, Equatable, CustomStringConvertible, LocalizedError {
  public let task: String
  /// The names of all tasks, sorted.
  public let known: [String]

  public var description: String {
    "unknown task \"\(task)\"; the catalogue has \(known.joined(separator: ", ")), "
      + "and a task file can declare more"
  }
  public var errorDescription: String? { description }
}
