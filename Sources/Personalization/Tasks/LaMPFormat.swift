// How a task's fields stand in LaMP's files.

import Foundation

/// One way to take a task's fields out of a query's text.
public struct LaMPQueryPattern: Codable, Sendable, Hashable {
  /// What a query's text is held against.
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

/// How a task whose answer is a choice between texts makes questions of items that have only the
/// text that the user chose: at one place stands the item's own text, at the others those of
/// earlier items of the same user.
public struct LaMPChoices: Codable, Sendable, Hashable {
  /// The keys of an item under which the chosen text may stand.
  public var own: [String]
  /// The fields of the choices, in the order of the task's labels.
  public var options: [String]

  public init(own: [String], options: [String]) {
    self.own = own
    self.options = options
  }
}

/// Where LaMP's files (arXiv 2304.11406) keep a task's fields: in a query after its instruction, in
/// a history item under keys.
public struct LaMPFormat: Codable, Sendable, Hashable {
  /// Tried in order; the first that a query's text has is taken.
  public var query: [LaMPQueryPattern]
  /// For a field the keys of a history item under which it may stand; the first that is there is
  /// taken. Fields that are not listed are not read.
  public var history: [String: [String]]
  /// The same for the output; empty for a task of choices.
  public var output: [String]
  /// For a task of choices instead of `output`.
  public var choices: LaMPChoices?
  /// The task whose format a file's histories have where their items have no answer to this one:
  /// what they train is that task.
  public var historyTask: String?

  public init(
    query: [LaMPQueryPattern], history: [String: [String]], output: [String],
    choices: LaMPChoices? = nil, historyTask: String? = nil
  ) {
    self.query = query
    self.history = history
    self.output = output
    self.choices = choices
    self.historyTask = historyTask
  }

  /// How items are read, for people: `text from text, output from title`.
  public var historyText: String {
    var parts = history.sorted { $0.key < $1.key }
      .map { "\($0.key) from \($0.value.joined(separator: " or "))" }
    if !output.isEmpty { parts.append("output from \(output.joined(separator: " or "))") }
    if let choices {
      let options = choices.options.joined(separator: ", ")
      parts.append("\(options) made of \(choices.own.joined(separator: " or "))")
    }
    if let historyTask { parts.append("else as \(historyTask)") }
    return parts.joined(separator: ", ")
  }

  /// The keys of an item that hold the user's answer.
  public var answerKeys: [String] { choices?.own ?? output }

  /// For a task that says nothing: the whole query is its first required field, and items have the
  /// task's own names and `output`.
  public static func plain(_ fields: [InputField]) throws -> LaMPFormat {
    let main = fields.first(where: \.required) ?? fields[0]
    return LaMPFormat(
      query: [LaMPQueryPattern(try TextPattern("{\(main.name)}"))],
      history: Dictionary(
        fields.map { ($0.name, [$0.name]) }, uniquingKeysWith: { first, _ in first }),
      output: ["output"])
  }

  /// Throws what `fail` makes of a key and a problem.
  func check(
    fields: [InputField], labels: [String],
    _ fail: (_ key: String, _ problem: String) -> TaskDefinitionError
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
    var told = Set(history.keys)
    if let choices {
      guard output.isEmpty else {
        throw fail("lamp.choices", "the choice is the output; history cannot have output too")
      }
      for field in choices.options where !names.contains(field) {
        throw fail("lamp.choices", "unknown field \(field); the fields are \(known)")
      }
      guard choices.options.count == labels.count, !choices.own.isEmpty else {
        throw fail(
          "lamp.choices",
          "expected own and as many options as the task has labels, \(labels.count)")
      }
      told.formUnion(choices.options)
    } else if output.isEmpty {
      throw fail("lamp.history", "expected output: the key of the user's answer")
    }
    if let missing = fields.first(where: { $0.required && !told.contains($0.name) }) {
      throw fail("lamp.history", "the required field \(missing.name) is not listed")
    }
  }
}
