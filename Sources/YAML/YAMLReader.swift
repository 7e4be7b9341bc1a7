// From libyaml's events to a tree, with the bounds and rules that libyaml leaves to its caller.

import CLibYAML

struct YAMLReader {
  /// A value, how many values that is with those in it, and on how many levels.
  private struct Tree {
    var node: YAMLNode
    var count = 1
    var height = 1
  }

  private static let maximumDepth = 100
  private static let maximumCount = 100_000

  private let file: String
  private let text: UnsafeRawBufferPointer
  private let parser: UnsafeMutablePointer<yaml_parser_t>
  /// Nil while the value is still being read.
  private var anchors: [String: Tree?] = [:]
  private var path: [String] = []
  private var count = 0

  static func read(
    _ bytes: UnsafeRawBufferPointer, _ file: String, _ maximumBytes: Int
  ) throws -> YAMLNode? {
    let orderMark: [UInt8] = [0xEF, 0xBB, 0xBF]
    let text = bytes.starts(with: orderMark) ? UnsafeRawBufferPointer(rebasing: bytes[3...]) : bytes
    let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
    defer { parser.deallocate() }
    precondition(yaml_parser_initialize(parser) == 1, "no memory")
    defer { yaml_parser_delete(parser) }
    var reader = YAMLReader(file: file, text: text, parser: parser)
    try reader.checkBytes(maximumBytes)
    if text.isEmpty { return nil }
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
    let start = text.assumingMemoryBound(to: UInt8.self).baseAddress
    yaml_parser_set_input_string(parser, start, text.count)
    return try reader.document()
  }

  private func checkBytes(_ maximum: Int) throws {
    let first = Array(text.prefix(2))
    if text.count > maximum {
      throw problem("\(text.count) bytes; at most \(maximum) are read", atByte: 0)
    }
    if first == [0xFF, 0xFE] || first == [0xFE, 0xFF] || first.count == 2 && first.contains(0) {
      throw problem("this is UTF-16 or UTF-32; expected UTF-8", atByte: 0)
    }
    // To libyaml the first three are ends of lines, as before YAML 1.2, and the last is nothing.
    let letters = String(decoding: text, as: UTF8.self).unicodeScalars
    let unclear = "\u{85}\u{2028}\u{2029}\u{FEFF}".unicodeScalars
    if let place = letters.firstIndex(where: unclear.contains) {
      throw problem(
        "write U+\(String(letters[place].value, radix: 16, uppercase: true)) as an escape in double"
          + " quotes", atByte: String(letters[..<place]).utf8.count)
    }
  }

  private mutating func document() throws -> YAMLNode? {
    _ = try next { _, _ in }  // The stream begins.
    let isThere = try next { event, mark in
      let version = event.data.document_start.version_directive?.pointee
      if event.type == YAML_DOCUMENT_START_EVENT, let version,
        (version.major, version.minor) != (1, 2)
      {
        throw problem("expected YAML 1.2, not \(version.major).\(version.minor)", mark)
      }
      return event.type == YAML_DOCUMENT_START_EVENT
    }
    guard isThere, let root = try tree(depth: 1)?.node else { return nil }
    _ = try next { _, _ in }  // The document ends.
    try next { event, mark in
      if event.type != YAML_STREAM_END_EVENT { throw problem("a second document", mark) }
    }
    return root.scalar?.kind == .null && root.string == "" ? nil : root
  }

  /// The next value with all that is in it; nil where the collection ends.
  private mutating func tree(depth: Int, isKey: Bool = false) throws -> Tree? {
    var event = try next()
    defer { yaml_event_delete(&event) }
    if event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT { return nil }
    let (mark, before) = (YAMLNode.Mark(event.start_mark), count)
    // The events of all values begin with the anchor and, but for an alias, the tag.
    let anchor = event.data.scalar.anchor.map { String(cString: $0) }
    count += 1
    try checkBounds(depth, mark)
    if event.type == YAML_ALIAS_EVENT {
      guard let known = anchor.flatMap({ anchors[$0] }) else {
        throw problem("no such anchor stands before", mark)
      }
      guard let tree = known else { throw problem("a value that would contain itself", mark) }
      if isKey, tree.node.scalar == nil { throw problem("a key must be a scalar", mark) }
      count = before + tree.count
      try checkBounds(depth + tree.height - 1, mark)
      return tree
    }
    let tag = try tag(event, mark)
    if let anchor { anchors[anchor] = .some(nil) }
    var tree: Tree
    switch event.type {
    case YAML_SCALAR_EVENT: tree = Tree(node: .scalar(try scalar(event, tag, mark, isKey)))
    case _ where isKey: throw problem("a key must be a scalar", mark)
    case YAML_SEQUENCE_START_EVENT: tree = try sequence(tag, mark, depth)
    default: tree = try mapping(tag, mark, depth)
    }
    tree.count = count - before
    if let anchor { anchors[anchor] = tree }
    return tree
  }

  private mutating func sequence(
    _ tag: String, _ mark: YAMLNode.Mark, _ depth: Int
  ) throws -> Tree {
    guard ["", "seq"].contains(tag) else { throw problem("a list is no !!\(tag)", mark) }
    var (nodes, height) = ([YAMLNode](), 0)
    path.append("[0]")
    while let item = try tree(depth: depth + 1) {
      nodes.append(item.node)
      height = max(height, item.height)
      path[path.count - 1] = "[\(nodes.count)]"
    }
    path.removeLast()
    return Tree(node: .sequence(.init(elements: nodes, mark: mark)), height: height + 1)
  }

  private mutating func mapping(
    _ tag: String, _ mark: YAMLNode.Mark, _ depth: Int
  ) throws -> Tree {
    guard ["", "map"].contains(tag) else { throw problem("a mapping is no !!\(tag)", mark) }
    var (entries, height) = ([(key: YAMLNode, value: YAMLNode)](), 1)
    var known: Set<String> = []
    while let key = try tree(depth: depth + 1, isKey: true)?.node, let scalar = key.scalar {
      path.append((path.isEmpty ? "" : ".") + scalar.string.prefix(60))
      guard known.insert(scalar.identity).inserted else {
        throw problem("this key stands twice", key.mark)
      }
      guard let value = try tree(depth: depth + 1) else { break }
      entries.append((key, value.node))
      height = max(height, value.height)
      path.removeLast()
    }
    return Tree(node: .mapping(.init(elements: entries, mark: mark)), height: height + 1)
  }

  private func scalar(
    _ event: yaml_event_t, _ tag: String, _ mark: YAMLNode.Mark, _ isKey: Bool
  ) throws -> YAMLNode.Scalar {
    let scalar = event.data.scalar
    let bytes = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
    let text = String(decoding: bytes, as: UTF8.self)
    let isUntagged = scalar.tag == nil && scalar.style == YAML_PLAIN_SCALAR_STYLE
    if isKey, isUntagged, text == "<<" {
      throw problem("merge keys (<<) are not of YAML 1.2; write the keys out", mark)
    }
    let plain = YAMLNode.Scalar.kind(ofPlain: text)
    guard !tag.isEmpty else {
      return .init(string: text, kind: isUntagged ? plain : .string, mark: mark)
    }
    let kind = YAMLNode.Scalar.Kind(rawValue: tag)
    // A whole number in decimal digits is a float, too.
    let isFloat = plain == .int && YAMLNode.Scalar.radix(text) == nil && kind == .float
    guard let kind, kind == plain || kind == .string || isFloat else {
      throw problem("\(text.prefix(60)) is no !!\(tag)", mark)
    }
    return .init(string: text, kind: kind, mark: mark)
  }

  /// What follows `!!`; empty without a tag and for `!`, the tag of a string like a quoted one.
  private func tag(_ event: yaml_event_t, _ mark: YAMLNode.Mark) throws -> String {
    guard let tag = event.data.scalar.tag.map({ String(cString: $0) }), tag != "!" else {
      return ""
    }
    let name = tag.replacing("tag:yaml.org,2002:", with: "", maxReplacements: 1)
    guard name != tag, ["null", "bool", "int", "float", "str", "seq", "map"].contains(name) else {
      throw problem("unknown tag \(tag.prefix(60))", mark)
    }
    return name
  }

  private func checkBounds(_ depth: Int, _ mark: YAMLNode.Mark) throws {
    if depth > Self.maximumDepth { throw problem("more than \(Self.maximumDepth) levels", mark) }
    if count > Self.maximumCount {
      throw problem("more than \(Self.maximumCount) values, counted with those of aliases", mark)
    }
  }

  /// The caller deletes it.
  private func next() throws -> yaml_event_t {
    var event = yaml_event_t()
    if yaml_parser_parse(parser, &event) == 1 { return event }
    let state = parser.pointee
    let reason = state.problem.map { String(cString: $0) } ?? "no memory"
    if state.error == YAML_READER_ERROR {
      throw problem(reason, atByte: state.problem_offset)
    }
    let context = state.context.map {
      " \(String(cString: $0)) of line \(state.context_mark.line + 1)"
    }
    throw problem(reason + (context ?? ""), .init(state.problem_mark))
  }

  private func next<Result>(
    _ read: (yaml_event_t, YAMLNode.Mark) throws -> Result
  ) throws -> Result {
    var event = try next()
    defer { yaml_event_delete(&event) }
    return try read(event, .init(event.start_mark))
  }

  private func problem(_ text: String, _ mark: YAMLNode.Mark) -> YAMLError {
    YAMLError(file: file, mark: mark, key: path.joined(), problem: text)
  }

  private func problem(_ problem: String, atByte offset: Int) -> YAMLError {
    let before = String(decoding: text.prefix(offset), as: UTF8.self)
    let lines = before.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    let column = (lines.last?.unicodeScalars.count ?? 0) + 1
    return self.problem(problem, .init(line: lines.count, column: column))
  }
}

extension YAMLNode.Mark {
  fileprivate init(_ mark: yaml_mark_t) {
    self.init(line: Int(mark.line) + 1, column: Int(mark.column) + 1)
  }
}
