// A JSON reader for large files: one pass over the bytes, and every mistake with its line.

import Foundation

/// What is wrong with a JSON text, and on which line.
public struct JSONTextError: Error, Equatable, CustomStringConvertible, LocalizedError {
  /// From 1.
  public let line: Int
  public let problem: String

  public var description: String { "line \(line): \(problem)" }
  public var errorDescription: String? { description }
}

/// Reads a JSON text (RFC 8259) from bytes. A top-level array can be read element by element, so
/// that a file of many large rows is never held as values as a whole.
///
/// Of members with the same key the last counts, as with `JSONDecoder`.
struct JSONReader {
  private let bytes: [UInt8]
  private var position = 0

  /// Deeper texts are refused: reading recurses.
  static let maximumDepth = 128

  init(_ data: Data) {
    bytes = [UInt8](data)
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }
  }

  /// The only value of the text.
  mutating func document() throws -> JSONValue {
    let value = try value(depth: 0)
    try end()
    return value
  }

  /// Hands over the elements of the text's only value, an array, one after another. Returns false,
  /// having read nothing, where that value is no array.
  mutating func elements(_ take: (JSONValue) throws -> Void) throws -> Bool {
    skipSpace()
    guard peek == UInt8(ascii: "[") else { return false }
    try array(depth: 0, take)
    try end()
    return true
  }

  private mutating func end() throws {
    skipSpace()
    guard position == bytes.count else { throw problem("there is more after the end of the value") }
  }

  private var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func skipSpace() {
    while let byte = peek, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
      position += 1
    }
  }

  private func problem(_ text: String) -> JSONTextError {
    JSONTextError(line: 1 + bytes[..<position].count { $0 == 0x0A }, problem: text)
  }

  private func unexpected(_ expected: String) -> JSONTextError {
    guard let byte = peek else { return problem("expected \(expected), found the end of the text") }
    let found =
      (0x21..<0x7F).contains(byte)
      ? "\"\(Character(UnicodeScalar(byte)))\"" : "the byte 0x\(String(byte, radix: 16))"
    return problem("expected \(expected), found \(found)")
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard peek == byte else { return false }
    position += 1
    return true
  }

  private mutating func value(depth: Int) throws -> JSONValue {
    guard depth < Self.maximumDepth else { throw problem("nested deeper than \(depth) levels") }
    skipSpace()
    switch peek {
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "{"): return .object(try object(depth: depth))
    case UInt8(ascii: "["):
      var values: [JSONValue] = []
      try array(depth: depth) { values.append($0) }
      return .array(values)
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case .some(let byte) where byte == UInt8(ascii: "-") || (0x30..<0x3A).contains(byte):
      return try number()
    default: throw unexpected("a value")
    }
  }

  private mutating func word(_ word: String, _ value: JSONValue) throws -> JSONValue {
    guard bytes[position...].starts(with: word.utf8) else { throw unexpected("a value") }
    position += word.utf8.count
    return value
  }

  private mutating func array(depth: Int, _ take: (JSONValue) throws -> Void) throws {
    position += 1
    skipSpace()
    if self.take(UInt8(ascii: "]")) { return }
    while true {
      try take(value(depth: depth + 1))
      skipSpace()
      if self.take(UInt8(ascii: "]")) { return }
      guard self.take(UInt8(ascii: ",")) else { throw unexpected("\",\" or \"]\"") }
    }
  }

  private mutating func object(depth: Int) throws -> [String: JSONValue] {
    position += 1
    var members: [String: JSONValue] = [:]
    skipSpace()
    if take(UInt8(ascii: "}")) { return members }
    while true {
      skipSpace()
      guard peek == UInt8(ascii: "\"") else { throw unexpected("a key in quotation marks") }
      let key = try string()
      skipSpace()
      guard take(UInt8(ascii: ":")) else { throw unexpected("\":\"") }
      members[key] = try value(depth: depth + 1)
      skipSpace()
      if take(UInt8(ascii: "}")) { return members }
      guard take(UInt8(ascii: ",")) else { throw unexpected("\",\" or \"}\"") }
    }
  }

  private mutating func string() throws -> String {
    position += 1
    let start = position
    while let byte = peek, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") {
      guard byte >= 0x20 else { throw problem("a line end or control character in a string") }
      position += 1
    }
    guard peek == UInt8(ascii: "\\") else {
      let text = try text(bytes[start..<position])
      guard take(UInt8(ascii: "\"")) else { throw unexpected("the end of a string") }
      return text
    }
    var content = Array(bytes[start..<position])
    while let byte = peek {
      position += 1
      switch byte {
      case UInt8(ascii: "\""): return try text(content[...])
      case UInt8(ascii: "\\"): content.append(contentsOf: try escape())
      case ..<0x20: throw problem("a line end or control character in a string")
      default: content.append(byte)
      }
    }
    throw unexpected("the end of a string")
  }

  private func text(_ content: ArraySlice<UInt8>) throws -> String {
    guard let text = String(validating: content, as: UTF8.self) else {
      throw problem("a string that is not UTF-8")
    }
    return text
  }

  private mutating func escape() throws -> [UInt8] {
    guard let byte = peek else { throw unexpected("the end of a string") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
    case UInt8(ascii: "b"): return [0x08]
    case UInt8(ascii: "f"): return [0x0C]
    case UInt8(ascii: "n"): return [0x0A]
    case UInt8(ascii: "r"): return [0x0D]
    case UInt8(ascii: "t"): return [0x09]
    case UInt8(ascii: "u"):
      let first = try hexadecimal()
      // A surrogate without its other half becomes U+FFFD, as many writers leave them behind.
      var scalar = UnicodeScalar(first) ?? "\u{FFFD}"
      let after = position
      if (0xD800..<0xDC00).contains(first), take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) {
        let second = try hexadecimal()
        if (0xDC00..<0xE000).contains(second),
          let pair = UnicodeScalar(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
        {
          scalar = pair
        } else {
          position = after
        }
      } else {
        position = after
      }
      return Array(String(Character(scalar)).utf8)
    default:
      position -= 1
      throw unexpected("an escape such as \\n")
    }
  }

  private mutating func hexadecimal() throws -> UInt32 {
    let digits = bytes[position..<min(position + 4, bytes.count)]
    guard digits.count == 4, digits.allSatisfy({ UnicodeScalar($0).properties.isASCIIHexDigit }),
      let value = UInt32(String(decoding: digits, as: UTF8.self), radix: 16)
    else { throw unexpected("four hexadecimal digits") }
    position += 4
    return value
  }

  private mutating func number() throws -> JSONValue {
    let start = position
    func digits() throws {
      guard let first = peek, (0x30..<0x3A).contains(first) else { throw unexpected("a digit") }
      while let byte = peek, (0x30..<0x3A).contains(byte) { position += 1 }
    }
    var isWhole = true
    _ = take(UInt8(ascii: "-"))
    if peek == UInt8(ascii: "0") { position += 1 } else { try digits() }
    if take(UInt8(ascii: ".")) {
      isWhole = false
      try digits()
    }
    if peek == UInt8(ascii: "e") || peek == UInt8(ascii: "E") {
      isWhole = false
      position += 1
      if peek == UInt8(ascii: "+") || peek == UInt8(ascii: "-") { position += 1 }
      try digits()
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    guard let value = Double(text), value.isFinite else {
      throw problem("the number \(text.prefix(40)) is too large")
    }
    return isWhole ? .whole(text) : .number(value)
  }
}
