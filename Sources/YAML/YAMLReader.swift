// From libyaml's events to a tree, with the bounds and rules that libyaml leaves to its caller.

import CLibYAML

struct YAMLReader {
  private static let maximumDepth = 100
  private static let maximumCount = 100_000

  private let file: String
  private let text: UnsafeRawBufferPointer
  private let parser: UnsafeMutablePointer<yaml_parser_t>
  /// What anchors name: the number of the value, and no node while it is still being read.
  private var anchors: [String: (number: Int, node: YAMLNode?)] = [:]
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
    // libyaml's time for directives grows with the square of their number.
    let directives = zip(text, text.dropFirst()).count { before, first in
      first == UInt8(ascii: "%") && (before == UInt8(ascii: "\n") || before == UInt8(ascii: "\r"))
    }
    if directives > 100 {
      throw problem("more than 100 lines that begin with %", atByte: 0)
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
    var event = yaml_event_t()
    defer { yaml_event_delete(&event) }
    try advance(&event)  // The stream begins.
    try advance(&event)
    guard event.type == YAML_DOCUMENT_START_EVENT else { return nil }
    let version = event.data.document_start.version_directive?.pointee
    if let version, (version.major, version.minor) != (1, 2) {
      throw problem("expected YAML 1.2, not \(version.major).\(version.minor)", event.start_mark)
    }
    let root = try value(depth: 1)
    try advance(&event)  // The document ends.
    try advance(&event)
    if event.type != YAML_STREAM_END_EVENT { throw problem("a second document", event.start_mark) }
    return root?.scalar?.kind == .null && root?.string == "" ? nil : root
  }

  /// The next value with all that is in it; nil where the collection around it ends.
  private mutating func value(depth: Int, isKey: Bool = false) throws -> YAMLNode? {
    var event = yaml_event_t()
    defer { yaml_event_delete(&event) }
    try advance(&event)
    if event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT { return nil }
    let mark = YAMLNode.Mark(event.start_mark)
    // The events of all values begin with the anchor and, but for an alias, the tag.
    let anchor = event.data.scalar.anchor.map { String(cString: $0) }
    var node: YAMLNode
    if event.type == YAML_ALIAS_EVENT {
      guard let known = anchor.flatMap({ anchors[$0] }) else {
        throw problem("no such anchor stands before", mark)
      }
      guard let value = known.node else {
        throw problem("a value that would contain itself", mark)
      }
      try enter(value, depth, mark)
      node = value
    } else {
      try enter(depth, mark)
      let number = count
      if let anchor { anchors[anchor] = (number, nil) }
      let tag = try tag(event, mark)
      switch event.type {
      case YAML_SCALAR_EVENT: node = .scalar(try scalar(event, tag, mark, isKey))
      case _ where isKey: throw problem("a key must be a scalar", mark)
      case YAML_SEQUENCE_START_EVENT: node = try sequence(tag, mark, depth)
      default: node = try mapping(tag, mark, depth)
      }
      // The anchor may stand again within the value, and is then that one's.
      if let anchor, anchors[anchor]?.number == number { anchors[anchor]?.node = node }
    }
    if isKey, node.scalar == nil { throw problem("a key must be a scalar", mark) }
    return node
  }

  private mutating func sequence(
    _ tag: String, _ mark: YAMLNode.Mark, _ depth: Int
  ) throws -> YAMLNode {
    guard ["", "seq"].contains(tag) else { throw problem("a list is no !!\(tag)", mark) }
    var items: [YAMLNode] = []
    path.append("[0]")
    while let item = try value(depth: depth + 1) {
      items.append(item)
      path[path.count - 1] = "[\(items.count)]"
    }
    path.removeLast()
    return .sequence(.init(elements: items, mark: mark))
  }

  private mutating func mapping(
    _ tag: String, _ mark: YAMLNode.Mark, _ depth: Int
  ) throws -> YAMLNode {
    guard ["", "map"].contains(tag) else { throw problem("a mapping is no !!\(tag)", mark) }
    var entries: [(key: YAMLNode, value: YAMLNode)] = []
    var known: Set<String> = []
    while let key = try value(depth: depth + 1, isKey: true), let scalar = key.scalar {
      path.append((path.isEmpty ? "" : ".") + scalar.string.prefix(60))
      guard known.insert(scalar.identity).inserted else {
        throw problem("this key stands twice", key.mark)
      }
      guard let value = try value(depth: depth + 1) else { break }
      entries.append((key, value))
      path.removeLast()
    }
    return .mapping(.init(elements: entries, mark: mark))
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
    // libyaml ends a name before other characters and begins the text with them.
    if scalar.anchor != nil, isUntagged, text.first.map("?:".contains) ?? isKey {
      throw problem("the name of an anchor has only ASCII letters, digits, _ and -", mark)
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
    let names = ["null", "bool", "int", "float", "str", "seq", "map"]
    guard let name = names.first(where: { "tag:yaml.org,2002:" + $0 == tag }) else {
      throw problem("unknown tag \(tag.prefix(60))", mark)
    }
    return name
  }

  private mutating func enter(_ depth: Int, _ mark: YAMLNode.Mark) throws {
    count += 1
    if depth > Self.maximumDepth { throw problem("more than \(Self.maximumDepth) levels", mark) }
    if count > Self.maximumCount {
      throw problem("more than \(Self.maximumCount) values, counted with those of aliases", mark)
    }
  }

  /// Counts what an alias repeats.
  private mutating func enter(_ node: YAMLNode, _ depth: Int, _ mark: YAMLNode.Mark) throws {
    try enter(depth, mark)
    switch node {
    case .scalar: break
    case .sequence(let items): for item in items { try enter(item, depth + 1, mark) }
    case .mapping(let entries):
      for entry in entries {
        try enter(entry.key, depth + 1, mark)
        try enter(entry.value, depth + 1, mark)
      }
    }
  }

  /// Deletes an event and reads the next in its place.
  private func advance(_ event: inout yaml_event_t) throws {
    yaml_event_delete(&event)
    if yaml_parser_parse(parser, &event) == 1 { return }
    let state = parser.pointee
    let reason = state.problem.map { String(cString: $0) } ?? "no memory"
    if state.error == YAML_READER_ERROR { throw problem(reason, atByte: state.problem_offset) }
    let context = state.context.map {
      " \(String(cString: $0)) of line \(state.context_mark.line + 1)"
    }
    throw problem(reason + (context ?? ""), state.problem_mark)
  }

  private func problem(_ text: String, _ mark: yaml_mark_t) -> YAMLError {
    problem(text, .init(mark))
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
