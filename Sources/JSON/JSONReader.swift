// The one reader of JSON (RFC 8259), for texts that are read by the hundred thousand and for files of gigabytes: one
// pass checks everything and leaves an index, out of which single fields are taken without building the rest.

import Foundation

/// Why a text is not taken, and at which byte.
public struct JSONReadingError: Error, Equatable, CustomStringConvertible {
  /// What is wrong, without the place.
  public let problem: String
  /// From 0.
  public let offset: Int

  public var description: String { "\(problem) at byte \(offset)" }

  /// The line of a text in which the problem is, from 1.
  public func line(in text: some Collection<UInt8>) -> Int {
    1 + text.prefix(offset).count { $0 == 0x0A }
  }
}

/// One value or member name of a text: where it stands, and where what follows it begins.
struct JSONNode: Sendable {
  enum Kind: UInt8 { case null, bool, number, string, array, object }

  var kind: Kind
  /// Of a string: whether it has escapes. Of a boolean: whether it is true.
  var flag: Bool
  /// Bytes of the text; a string's without its quotes.
  var start: Int32
  var end: Int32
  /// The index of the node after this one and all that is in it.
  var next: Int32
}

/// Reads one text after another; keeps the memory of its index.
public struct JSONReader: Sendable {
  /// Offsets are 32 bits wide.
  static let maximumBytes = 1 << 30

  private let rules: JSONRules
  private var nodes: [JSONNode] = []

  public init(_ rules: JSONRules = .strict) { self.rules = rules }

  /// Checks a text and lends it to `body`, which must not keep it.
  /// - Throws: ``JSONReadingError`` where the text is not strict JSON; what `body` throws.
  public mutating func read<T>(
    _ text: UnsafeRawBufferPointer, _ body: (JSONView) throws -> T
  ) throws -> T {
    var scan = try open(text)
    defer { nodes = scan.nodes }
    try scan.document()
    return try scan.lend(body)
  }

  /// Lends the elements of a text's only value, an array, one after another: of a file of many large rows no more than
  /// one is held.
  /// - Returns: false, nothing having been lent, where the value is no array.
  /// - Throws: ``JSONReadingError``, when the elements before the mistake have been lent; what `body` throws.
  public mutating func readElements(
    _ text: UnsafeRawBufferPointer, _ body: (JSONView) throws -> Void
  ) throws -> Bool {
    var scan = try open(text, limit: .max)
    defer { nodes = scan.nodes }
    return try scan.elements(body)
  }

  /// The index of a text, for a ``JSONDocument``.
  mutating func index(_ text: UnsafeRawBufferPointer) throws -> [JSONNode] {
    var scan = try open(text)
    try scan.document()
    return scan.nodes
  }

  private mutating func open(
    _ text: UnsafeRawBufferPointer, limit: Int = maximumBytes
  ) throws -> JSONScan {
    guard text.count <= limit else {
      throw JSONReadingError(problem: "a text of \(text.count) bytes", offset: 0)
    }
    guard let base = text.bindMemory(to: UInt8.self).baseAddress, text.count > 0 else {
      throw JSONReadingError(problem: "an empty text", offset: 0)
    }
    nodes.removeAll(keepingCapacity: true)
    let scan = JSONScan(base: base, count: text.count, nodes: nodes, rules: rules)
    nodes = []  // so that the scan alone holds the array and grows it in place
    return scan
  }
}

/// The pass over one text.
private struct JSONScan {
  private var base: UnsafePointer<UInt8>
  private var count: Int
  private let rules: JSONRules
  var nodes: [JSONNode]
  private var position = 0
  /// Where in the text `base` is.
  private var origin = 0

  init(base: UnsafePointer<UInt8>, count: Int, nodes: [JSONNode], rules: JSONRules) {
    self.base = base
    self.count = count
    self.nodes = nodes
    self.rules = rules
  }

  func lend<T>(_ body: (JSONView) throws -> T) throws -> T {
    try nodes.withUnsafeBufferPointer { nodes in
      guard let first = nodes.baseAddress else { throw error("an empty text") }
      return try body(JSONView(text: base, nodes: first, index: 0))
    }
  }

  mutating func document() throws {
    skipMark()
    skipSpace()
    try value(depth: 0)
    try end()
  }

  mutating func elements(_ body: (JSONView) throws -> Void) throws -> Bool {
    skipMark()
    skipSpace()
    guard position < count, base[position] == UInt8(ascii: "[") else { return false }
    position += 1
    skipSpace()
    if position < count, base[position] == UInt8(ascii: "]") {
      position += 1
      try end()
      return true
    }
    while true {
      // Each element has an index of its own, with offsets from its own beginning.
      origin += position
      base += position
      count -= position
      position = 0
      nodes.removeAll(keepingCapacity: true)
      try value(depth: 1)
      guard position <= JSONReader.maximumBytes else {
        throw JSONReadingError(problem: "an element of \(position) bytes", offset: origin)
      }
      try lend(body)
      skipSpace()
      guard position < count else { throw error("") }
      switch base[position] {
      case UInt8(ascii: ","):
        position += 1
        skipSpace()
      case UInt8(ascii: "]"):
        position += 1
        try end()
        return true
      default: throw error("neither a comma nor the end of an array")
      }
    }
  }

  private mutating func end() throws {
    skipSpace()
    if position < count { throw error("something after the end of the value") }
  }

  private func error(_ problem: String) -> JSONReadingError {
    JSONReadingError(
      problem: position < count ? problem : "an unexpected end", offset: origin + position)
  }

  private mutating func skipMark() {
    guard rules.allowsByteOrderMark, count >= 3 else { return }
    if base[0] == 0xEF, base[1] == 0xBB, base[2] == 0xBF { position = 3 }
  }

  /// What programs on Windows write first; nil where the text begins otherwise.
  private var foreignBeginning: String? {
    func begins(with bytes: [UInt8]) -> Bool {
      count >= bytes.count && bytes.indices.allSatisfy { base[$0] == bytes[$0] }
    }
    if begins(with: [0xEF, 0xBB, 0xBF]) { return "a byte order mark; JSON is written without one" }
    let isUTF16 = begins(with: [0xFF, 0xFE]) || begins(with: [0xFE, 0xFF])
    return isUTF16 ? "text in UTF-16; JSON is written in UTF-8" : nil
  }

  private mutating func skipSpace() {
    while position < count {
      switch base[position] {
      case 0x20, 0x0A, 0x0D, 0x09: position += 1
      default: return
      }
    }
  }

  private mutating func value(depth: Int) throws {
    guard position < count else { throw error("") }
    switch base[position] {
    case UInt8(ascii: "{"): try object(depth: depth + 1)
    case UInt8(ascii: "["): try array(depth: depth + 1)
    case UInt8(ascii: "\""): try string()
    case UInt8(ascii: "t"): try literal("true", .bool, true)
    case UInt8(ascii: "f"): try literal("false", .bool, false)
    case UInt8(ascii: "n"): try literal("null", .null, false)
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): try number()
    default: throw error((origin + position == 0 ? foreignBeginning : nil) ?? "no value")
    }
  }

  private mutating func literal(
    _ text: StaticString, _ kind: JSONNode.Kind, _ flag: Bool
  ) throws {
    let length = text.utf8CodeUnitCount
    guard count - position >= length, memcmp(base + position, text.utf8Start, length) == 0 else {
      throw error("no value")
    }
    append(kind, flag, from: position, to: position + length)
    position += length
  }

  private mutating func append(_ kind: JSONNode.Kind, _ flag: Bool, from: Int, to: Int) {
    nodes.append(
      JSONNode(
        kind: kind, flag: flag, start: Int32(truncatingIfNeeded: from),
        end: Int32(truncatingIfNeeded: to), next: Int32(truncatingIfNeeded: nodes.count + 1)))
  }

  private mutating func open(_ kind: JSONNode.Kind, depth: Int) throws -> Int {
    guard depth <= rules.maximumDepth else {
      throw error("arrays and objects more than \(rules.maximumDepth) deep")
    }
    append(kind, false, from: position, to: position)
    position += 1
    skipSpace()
    return nodes.count - 1
  }

  private mutating func close(_ node: Int) {
    position += 1
    nodes[node].end = Int32(truncatingIfNeeded: position)
    nodes[node].next = Int32(truncatingIfNeeded: nodes.count)
  }

  private mutating func array(depth: Int) throws {
    let node = try open(.array, depth: depth)
    if position < count, base[position] == UInt8(ascii: "]") { return close(node) }
    while true {
      try value(depth: depth)
      skipSpace()
      guard position < count else { throw error("") }
      switch base[position] {
      case UInt8(ascii: ","):
        position += 1
        skipSpace()
      case UInt8(ascii: "]"): return close(node)
      default: throw error("neither a comma nor the end of an array")
      }
    }
  }

  private mutating func object(depth: Int) throws {
    let node = try open(.object, depth: depth)
    if position < count, base[position] == UInt8(ascii: "}") { return close(node) }
    var members = 0
    while true {
      guard position < count, base[position] == UInt8(ascii: "\"") else {
        throw error("no member name")
      }
      try string()
      members += 1
      skipSpace()
      guard position < count, base[position] == UInt8(ascii: ":") else {
        throw error("no colon after a member name")
      }
      position += 1
      skipSpace()
      try value(depth: depth)
      skipSpace()
      guard position < count else { throw error("") }
      switch base[position] {
      case UInt8(ascii: ","):
        position += 1
        skipSpace()
      case UInt8(ascii: "}"):
        close(node)
        if members > 1, !rules.lastMemberCounts { try checkNames(of: node, members: members) }
        return
      default: throw error("neither a comma nor the end of an object")
      }
    }
  }

  /// No name twice, however it is written.
  private func checkNames(of object: Int, members: Int) throws {
    func twice(_ node: JSONNode) -> JSONReadingError {
      let name = JSONView.string(base, node).prefix(60)
      return JSONReadingError(
        problem: "the member \"\(name)\" a second time", offset: origin + Int(node.start))
    }
    if members > 24 {
      var seen: Set<[UInt8]> = []
      try forEachName(of: object) { node in
        if !seen.insert(Array(JSONView.string(base, node).utf8)).inserted { throw twice(node) }
      }
      return
    }
    try nodes.withUnsafeBufferPointer { nodes in
      let end = Int(nodes[object].next)
      var later = Int(nodes[object + 1 + 1].next)
      while later < end {
        let name = nodes[later]
        var earlier = object + 1
        while earlier < later {
          if isSame(nodes[earlier], name) { throw twice(name) }
          earlier = Int(nodes[earlier + 1].next)
        }
        later = Int(nodes[later + 1].next)
      }
    }
  }

  private func forEachName(of object: Int, _ body: (JSONNode) throws -> Void) rethrows {
    var index = object + 1
    while index < Int(nodes[object].next) {
      try body(nodes[index])
      index = Int(nodes[index + 1].next)
    }
  }

  private func isSame(_ a: JSONNode, _ b: JSONNode) -> Bool {
    if a.flag || b.flag {
      return JSONView.string(base, a).utf8.elementsEqual(JSONView.string(base, b).utf8)
    }
    let length = Int(a.end - a.start)
    return length == Int(b.end - b.start)
      && memcmp(base + Int(a.start), base + Int(b.start), length) == 0
  }

  // MARK: Numbers

  private mutating func digits() -> Int {
    let start = position
    while position < count, base[position] &- UInt8(ascii: "0") < 10 { position += 1 }
    return position - start
  }

  private mutating func number() throws {
    let start = position
    if base[position] == UInt8(ascii: "-") { position += 1 }
    let startsWithZero = position < count && base[position] == UInt8(ascii: "0")
    let whole = digits()
    guard whole > 0 else { throw error("a number without digits") }
    if startsWithZero, whole > 1 { throw error("a number that begins with 0") }
    var isLong = whole > 18
    var isInteger = true
    var scale = 0
    if position < count, base[position] == UInt8(ascii: ".") {
      position += 1
      isInteger = false
      scale = digits()
      guard scale > 0 else { throw error("a number without digits after the point") }
      isLong = isLong || scale > 300
    }
    let mantissaEnd = position
    if position < count, base[position] | 0x20 == UInt8(ascii: "e") {
      position += 1
      isInteger = false
      isLong = true
      scale -= try exponent()
    }
    append(.number, isInteger, from: start, to: position)
    guard isLong else { return }
    func refused(_ problem: String) -> JSONReadingError {
      JSONReadingError(problem: problem, offset: origin + start)
    }
    let value = JSONView.number(base, nodes[nodes.count - 1])
    guard value.isFinite else { throw refused("a number beyond what a double holds") }
    let isZero = !(start..<mantissaEnd).contains {
      (UInt8(ascii: "1")...UInt8(ascii: "9")).contains(base[$0])
    }
    guard value != 0 || isZero else { throw refused("a number that a double cannot tell from 0") }
    if let limit = rules.maximumScale, scale > limit {
      throw refused(
        "a number with more than \(limit) digits behind its point, which PostgreSQL cannot store,")
    }
  }

  /// After an `e`; one that no number can have is as good as any other such.
  private mutating func exponent() throws -> Int {
    var isNegative = false
    if position < count,
      base[position] == UInt8(ascii: "+") || base[position] == UInt8(ascii: "-")
    {
      isNegative = base[position] == UInt8(ascii: "-")
      position += 1
    }
    let first = position
    guard digits() > 0 else { throw error("a number without digits in its exponent") }
    let size = (first..<position).reduce(0) {
      min($0 * 10 + Int(base[$1] - UInt8(ascii: "0")), 1 << 30)
    }
    return isNegative ? -size : size
  }

  // MARK: Strings

  private static let ones: UInt64 = 0x0101_0101_0101_0101

  /// A string up to and with its closing quote; eight bytes at a time where they are plain ASCII.
  private mutating func string() throws {
    position += 1
    let start = position
    var hasEscapes = false
    while true {
      while count - position >= 8 {
        let word = UInt64(
          littleEndian: UnsafeRawPointer(base + position).loadUnaligned(as: UInt64.self))
        let quote = (word ^ (Self.ones &* 0x22)) &- Self.ones
        let backslash = (word ^ (Self.ones &* 0x5C)) &- Self.ones
        let control = word &- (Self.ones &* 0x20)
        // The lowest marked byte is a true find; those above it may owe their mark to a borrow.
        let marks = (quote | backslash | control | word) & (Self.ones &* 0x80)
        if marks == 0 {
          position += 8
        } else {
          position += marks.trailingZeroBitCount / 8
          break
        }
      }
      guard position < count else { throw error("") }
      let byte = base[position]
      switch byte {
      case UInt8(ascii: "\""):
        append(.string, hasEscapes, from: start, to: position)
        position += 1
        return
      case UInt8(ascii: "\\"):
        hasEscapes = true
        try escape()
      case 0..<0x20: throw error("a control character inside a text")
      case 0x80...: try multiByte()
      default: position += 1
      }
    }
  }

  private mutating func escape() throws {
    position += 1
    guard position < count else { throw error("") }
    switch base[position] {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"),
      UInt8(ascii: "f"), UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
      position += 1
    case UInt8(ascii: "u"):
      let unit = try codeUnit()
      if unit == 0, !rules.allowsNUL {
        throw error("the character U+0000, which PostgreSQL cannot store,")
      }
      if unit & 0xF800 == 0xD800, !rules.repairsSurrogates {
        guard unit < 0xDC00, count - position >= 2, base[position] == UInt8(ascii: "\\"),
          base[position + 1] == UInt8(ascii: "u")
        else { throw error("half of a surrogate pair") }
        position += 1
        guard try codeUnit() & 0xFC00 == 0xDC00 else { throw error("half of a surrogate pair") }
      }
    default: throw error("an unknown escape")
    }
  }

  /// Four hexadecimal digits after a `u`.
  private mutating func codeUnit() throws -> UInt32 {
    position += 1
    guard count - position >= 4 else {
      position = count
      throw error("")
    }
    var unit: UInt32 = 0
    for _ in 0..<4 {
      guard let digit = JSONView.hexadecimal(base[position]) else {
        throw error("an escape without four hexadecimal digits")
      }
      unit = unit << 4 | digit
      position += 1
    }
    return unit
  }

  /// One character of two to four bytes (RFC 3629: no overlong forms, no surrogates, none beyond U+10FFFF).
  private mutating func multiByte() throws {
    let lead = base[position]
    let length: Int
    var low: UInt8 = 0x80
    var high: UInt8 = 0xBF
    switch lead {
    case 0xC2...0xDF: length = 2
    case 0xE0...0xEF:
      length = 3
      if lead == 0xE0 { low = 0xA0 }
      if lead == 0xED { high = 0x9F }
    case 0xF0...0xF4:
      length = 4
      if lead == 0xF0 { low = 0x90 }
      if lead == 0xF4 { high = 0x8F }
    default: throw error("a byte that is not UTF-8")
    }
    guard count - position >= length else { throw error("a byte that is not UTF-8") }
    guard base[position + 1] >= low, base[position + 1] <= high else {
      throw error("a byte that is not UTF-8")
    }
    for index in 2..<max(2, length) where base[position + index] & 0xC0 != 0x80 {
      throw error("a byte that is not UTF-8")
    }
    position += length
  }
}
