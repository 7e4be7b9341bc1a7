// How a task's fields stand in LaMP's files.

import Foundation

/// One way to take a task's fields out of a query's text.
public struct LaMPQueryPattern: Codable, Sendable, Hashable {
  public var pattern: TextPattern
  /// Fields that are put together from the pattern's names; other names are fields themselves.
  public var fields: [String: PromptTemplate]

  public init(_ pattern: TextPattern, fields: [String: PromptTemplate] = [:]) {
    self.pattern = pattern
    self.fields = fields
  }

  /// The names of the fields that this pattern fills.
  func filled(of task: [InputField]) -> Set<String> {
    Set(fields.keys).union(pattern.names.filter { name in task.contains { $0.name == name } })
  }
}

/// Where LaMP's files (arXiv 2304.11406) keep a task's fields: in a query after its instruction, in a
/// history item under keys.
public struct LaMPFormat: Codable, Sendable, Hashable {
  /// Tried in order; the first that a query's text has is taken.
  public var query: [LaMPQueryPattern]
  /// For a field the keys of a history item under which it may stand; the first that is there is
  /// taken. Fields that are not listed are not read.
  public var history: [String: [String]]
  /// The same for the output.
  public var output: [String]

  public init(
    query: [LaMPQueryPattern], history: [String: [String]], output: [String]
  ) {
    self.query = query
    self.history = history
    self.output = output
  }

  /// For a task that says nothing: the whole query is its first required field, and items have the
  /// task's own names and `output`.
  static func plain(_ fields: [InputField]) throws -> LaMPFormat {
    let main = fields.first(where: \.required) ?? fields[0]
    return LaMPFormat(
      query: [LaMPQueryPattern(try TextPattern("{\(main.name)}"))],
      history: Dictionary(
        fields.map { ($0.name, [$0.name]) }, uniquingKeysWith: { first, _ in first }),
      output: ["output"])
  }

  /// Throws what `fail` makes of a key and a problem.
  func check(
    fields: [InputField], _ fail: (_ key: String, _ problem: String) -> TaskDefinitionError
  ) throws {
    let names = fields.map(\.name)
    let known = names.joined(separator: ", ")
    guard !query.isEmpty else { throw fail("lamp.query", "no pattern stands in it") }
    for entry in query {
      for (field, template) in entry.fields {
        guard names.contains(field) else {
          throw fail("lamp.query", "unknown field \(field); the fields are \(known)")
        }
        for name in template.placeholders where !entry.pattern.names.contains(name) {
          throw fail(
            "lamp.query",
            "{\(name)} of \(field) does not stand in the pattern \"\(entry.pattern)\"")
        }
      }
      let filled = entry.filled(of: fields)
      if let missing = fields.first(where: { $0.required && !filled.contains($0.name) }) {
        throw fail(
          "lamp.query",
          "the pattern \"\(entry.pattern)\" does not fill the required field \(missing.name)")
      }
    }
    for (field, keys) in history {
      guard names.contains(field) else {
        throw fail("lamp.history", "unknown field \(field); the fields are \(known), and output")
      }
      guard !keys.isEmpty else { throw fail("lamp.history", "\(field) has no key") }
    }
    guard !output.isEmpty else { throw fail("lamp.history", "output has no key") }
    if let missing = fields.first(where: { $0.required && history[$0.name] == nil }) {
      throw fail("lamp.history", "the required field \(missing.name) is not listed")
    }
  }
}
