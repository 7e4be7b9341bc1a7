// Reading task files: YAML nodes to task definitions, every mistake with its place in the file.

import Foundation
import YAML

/// What is wrong with a task file, and where.
public struct TaskFileError: Error, Equatable, CustomStringConvertible, LocalizedError {
  /// The name that the caller gave to the text.
  public let file: String
  /// The line, from 1, where YAML tells it.
  public let line: Int?
  /// The path of the key, such as `tasks.film_tag.labels`.
  public let key: String?
  /// Goes on after the place, the key and a colon.
  public let problem: String

  public var description: String {
    let place = line.map { "\(file):\($0)" } ?? file
    return key.map { "\(place): \($0): \(problem)" } ?? "\(place): \(problem)"
  }
  public var errorDescription: String? { description }
}

/// A reader of one task file.
struct TaskFile {
  let file: String

  /// Far above any real catalogue; bounds what a hostile file can cost.
  static let maximumBytes = 4 << 20

  func tasks(in text: String) throws -> [TaskDefinition] {
    let root: YAMLNode?
    do {
      root = try YAMLNode.compose(yaml: text, file: file, maximumBytes: Self.maximumBytes)
    } catch let error as YAMLError {
      throw TaskFileError(
        file: file, line: error.mark.line, key: error.key.isEmpty ? nil : error.key,
        problem: error.problem)
    }
    guard let root else { throw problem("the file is empty; expected the key tasks") }
    let top = try mapping(root, "")
    for (key, _) in top where key.string != "tasks" {
      throw problem("unknown key; only tasks stands at the top", key, key.string ?? "?")
    }
    guard let list = top["tasks"] else { throw problem("expected the key tasks", root) }
    var seen: Set<String> = []
    return try mapping(list, "tasks").map { key, value in
      guard let name = key.string, !name.isEmpty else {
        throw problem("a task's name must be a string", key, "tasks")
      }
      guard seen.insert(name).inserted else {
        throw problem("this task stands twice in the file", key, "tasks.\(name)")
      }
      return try task(name, value, at: key)
    }
  }

  private static let keys: Set = [
    "description", "kind", "labels", "rating", "fields", "prompt", "history_item", "query",
    "multiline", "maximum_tokens", "metrics", "maximum_input_bytes", "maximum_output_bytes",
    "history_query", "profile", "lamp", "retention_days", "shift_signals",
  ]

  private func task(_ name: String, _ node: YAMLNode, at nameNode: YAMLNode) throws
    -> TaskDefinition
  {
    let path = "tasks.\(name)"
    let body = try mapping(node, path)
    try refuseUnknown(Self.keys, in: body, path)
    func template(_ key: String) throws -> PromptTemplate? {
      try body[key].map { try self.template($0, "\(path).\(key)") }
    }
    func required<Value>(_ key: String, _ value: Value?) throws -> Value {
      guard let value else { throw problem("the key \(key) is missing", nameNode, path) }
      return value
    }
    let kind: OutputKind = try choice(required("kind", body["kind"]), "\(path).kind")
    let metrics: [Metric]? = try body["metrics"].map { node in
      try sequence(node, "\(path).metrics").map { try choice($0, "\(path).metrics") }
    }
    let signals: [ShiftSignal]? = try body["shift_signals"].map { node in
      try sequence(node, "\(path).shift_signals").map { try choice($0, "\(path).shift_signals") }
    }
    do {
      return try TaskDefinition(
        name: name, kind: kind,
        description: body["description"].map { try string($0, "\(path).description") } ?? "",
        fields: fields(required("fields", body["fields"]), "\(path).fields"),
        prompt: required("prompt", try template("prompt")),
        historyItem: required("history_item", try template("history_item")),
        query: template("query"), historyQuery: template("history_query"),
        profile: template("profile"),
        labels: body["labels"].map { node in
          try sequence(node, "\(path).labels").map { try string($0, "\(path).labels") }
        } ?? [],
        rating: body["rating"].map { try scale($0, "\(path).rating") },
        multiline: body["multiline"].map { try boolean($0, "\(path).multiline") } ?? false,
        maximumTokens: body["maximum_tokens"].map { try integer($0, "\(path).maximum_tokens") },
        metrics: metrics,
        maximumInputBytes: body["maximum_input_bytes"].map {
          try integer($0, "\(path).maximum_input_bytes")
        } ?? 65_536,
        maximumOutputBytes: body["maximum_output_bytes"].map {
          try integer($0, "\(path).maximum_output_bytes")
        } ?? 16_384,
        lamp: body["lamp"].map { try lampFormat($0, "\(path).lamp") },
        retentionDays: body["retention_days"].map { try integer($0, "\(path).retention_days") },
        shiftSignals: signals ?? ShiftSignal.allCases)
    } catch let error as TaskDefinitionError {
      throw problem(error.problem, place(of: error.key, in: node), "\(path).\(error.key)")
    }
  }

  /// The value of a key such as `lamp.history`, or what holds it where it is not there.
  private func place(of key: String, in task: YAMLNode) -> YAMLNode {
    var node = task
    for name in key.split(separator: ".") {
      guard case .mapping(let mapping) = node, let inner = mapping[String(name)] else { break }
      node = inner
    }
    return node
  }

  private func lampFormat(_ node: YAMLNode, _ path: String) throws -> LaMPFormat {
    let body = try mapping(node, path)
    try refuseUnknown(["query", "history", "choices", "history_task"], in: body, path)
    guard let query = body["query"], let history = body["history"] else {
      throw problem("expected query and history", node, path)
    }
    var keys: [String: [String]] = [:]
    for (key, value) in try mapping(history, "\(path).history") {
      let field = try string(key, "\(path).history")
      keys[field] = try strings(value, "\(path).history.\(field)")
    }
    let output = keys.removeValue(forKey: "output") ?? []
    let patterns: [YAMLNode] = if case .sequence(let list) = query { Array(list) } else { [query] }
    return try LaMPFormat(
      query: patterns.map { try queryPattern($0, "\(path).query") }, history: keys,
      output: output, choices: body["choices"].map { try choices($0, "\(path).choices") },
      historyTask: body["history_task"].map { try string($0, "\(path).history_task") })
  }

  private func choices(_ node: YAMLNode, _ path: String) throws -> LaMPChoices {
    let body = try mapping(node, path)
    try refuseUnknown(["own", "options"], in: body, path)
    guard let own = body["own"], let options = body["options"] else {
      throw problem("expected own and options", node, path)
    }
    return LaMPChoices(
      own: try strings(own, "\(path).own"), options: try strings(options, "\(path).options"))
  }

  /// Either a pattern alone or a mapping with the fields that are put together from it.
  private func queryPattern(_ node: YAMLNode, _ path: String) throws -> LaMPQueryPattern {
    guard case .mapping(let body) = node else {
      return LaMPQueryPattern(try pattern(node, path))
    }
    try refuseUnknown(["pattern", "fields"], in: body, path)
    guard let source = body["pattern"] else { throw problem("expected pattern", node, path) }
    var fields: [String: PromptTemplate] = [:]
    if let node = body["fields"] {
      for (key, value) in try mapping(node, "\(path).fields") {
        let field = try string(key, "\(path).fields")
        fields[field] = try template(value, "\(path).fields.\(field)")
      }
    }
    return LaMPQueryPattern(try pattern(source, "\(path).pattern"), fields: fields)
  }

  private func pattern(_ node: YAMLNode, _ path: String) throws -> TextPattern {
    do {
      return try TextPattern(string(node, path))
    } catch let error as TemplateError {
      throw problem(error.description, node, path)
    }
  }

  private func template(_ node: YAMLNode, _ path: String) throws -> PromptTemplate {
    do {
      return try PromptTemplate(string(node, path))
    } catch let error as TemplateError {
      throw problem(error.description, node, path)
    }
  }

  /// One string or a list of strings.
  private func strings(_ node: YAMLNode, _ path: String) throws -> [String] {
    guard case .sequence(let list) = node else { return [try string(node, path)] }
    return try list.map { try string($0, path) }
  }

  /// Either a list of names or a mapping from names to their limits.
  private func fields(_ node: YAMLNode, _ path: String) throws -> [InputField] {
    if case .sequence(let names) = node {
      return try names.map { InputField(name: try string($0, path)) }
    }
    return try mapping(node, path).map { key, value in
      let name = try string(key, path)
      let body = try mapping(value, "\(path).\(name)")
      try refuseUnknown(["required", "maximum_bytes"], in: body, "\(path).\(name)")
      return InputField(
        name: name,
        required: try body["required"].map { try boolean($0, "\(path).\(name).required") } ?? true,
        maximumBytes: try body["maximum_bytes"].map {
          try integer($0, "\(path).\(name).maximum_bytes")
        } ?? 16_384)
    }
  }

  private func scale(_ node: YAMLNode, _ path: String) throws -> RatingScale {
    let body = try mapping(node, path)
    try refuseUnknown(["minimum", "maximum", "step"], in: body, path)
    func number(_ key: String) throws -> Double? {
      guard let node = body[key] else { return nil }
      guard let value = node.float ?? node.int.map(Double.init) else {
        throw problem("expected a number", node, "\(path).\(key)")
      }
      return value
    }
    guard let minimum = try number("minimum"), let maximum = try number("maximum") else {
      throw problem("expected minimum and maximum", node, path)
    }
    return RatingScale(minimum: minimum, maximum: maximum, step: try number("step") ?? 1)
  }

  private func choice<Value: RawRepresentable & CaseIterable>(
    _ node: YAMLNode, _ path: String
  ) throws -> Value where Value.RawValue == String {
    let text = try string(node, path)
    guard let value = Value(rawValue: text) else {
      let known = Value.allCases.map(\.rawValue).joined(separator: ", ")
      throw problem("expected one of \(known), found \(text)", node, path)
    }
    return value
  }

  private func refuseUnknown(
    _ known: Set<String>, in mapping: YAMLNode.Mapping, _ path: String
  ) throws {
    for (key, _) in mapping {
      let name = key.string ?? "?"
      guard known.contains(name) else {
        let list = known.sorted().joined(separator: ", ")
        throw problem("unknown key; the keys are \(list)", key, "\(path).\(name)")
      }
    }
  }

  private func mapping(_ node: YAMLNode, _ path: String) throws -> YAMLNode.Mapping {
    guard case .mapping(let mapping) = node else {
      throw problem("expected a mapping of keys to values", node, path)
    }
    return mapping
  }

  private func sequence(_ node: YAMLNode, _ path: String) throws -> YAMLNode.Sequence {
    guard case .sequence(let sequence) = node else {
      throw problem("expected a list", node, path)
    }
    return sequence
  }

  private func string(_ node: YAMLNode, _ path: String) throws -> String {
    guard case .scalar(let scalar) = node else { throw problem("expected a string", node, path) }
    return scalar.string
  }

  private func integer(_ node: YAMLNode, _ path: String) throws -> Int {
    guard let value = node.int else { throw problem("expected a whole number", node, path) }
    return value
  }

  private func boolean(_ node: YAMLNode, _ path: String) throws -> Bool {
    guard let value = node.bool else { throw problem("expected true or false", node, path) }
    return value
  }

  private func problem(_ text: String, _ node: YAMLNode? = nil, _ key: String = "") -> TaskFileError
  {
    TaskFileError(
      file: file, line: node?.mark.line, key: key.isEmpty ? nil : key, problem: text)
  }
}
