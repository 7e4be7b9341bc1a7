// JSON files of a model folder: a strict reader that keeps repeated keys visible and compares keys by
// their bytes, because Swift's strings hold "é" and "e" with an accent for equal and vocabularies do not.

import Foundation

/// A JSON value. Objects keep the file's order and every key.
enum JSON: Sendable, Equatable {
  struct Member: Sendable, Equatable {
    let key: String
    let value: JSON
  }

  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case array([JSON])
  case object([Member])

  var summary: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .number(let value): Int(exactly: value).map { "\($0)" } ?? "\(value)"
    case .string(let text): "\"\(text.prefix(64))\""
    case .array(let values): "an array of \(values.count)"
    case .object(let members): "an object of \(members.count)"
    }
  }
}

/// A JSON object and the file and path it came from, for errors that say where.
struct JSONObject {
  let file: String
  /// As in `model.vocab`; empty for the file itself.
  let path: String
  let members: [JSON.Member]

  /// The largest JSON file that is read: tokenizers of a quarter million tokens take 20 MB.
  static let longestFile = 1 << 28

  /// Reads a file that holds one object.
  init(path: String) throws(ModelFileError) {
    let mapped: MappedFile
    do throws(GGUFError) {
      mapped = try MappedFile(path: path)
    } catch {
      throw ModelFileError(file: path, problem: error.reason)
    }
    try self.init(mapped.bytes, file: path)
  }

  /// Reads text in memory that holds one object.
  init(_ bytes: UnsafeRawBufferPointer, file: String) throws(ModelFileError) {
    guard bytes.count <= Self.longestFile else {
      throw ModelFileError(
        file: file, problem: "has \(bytes.count) bytes; at most \(Self.longestFile) are read")
    }
    var parser = JSONParser(bytes: bytes, file: file)
    guard case .object(let members) = try parser.document() else {
      throw ModelFileError(file: file, problem: "does not hold a JSON object")
    }
    self.init(file: file, path: "", members: members)
  }

  init(file: String, path: String, members: [JSON.Member]) {
    self.file = file
    self.path = path
    self.members = members
  }

  func name(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  func bad(_ key: String, _ value: JSON, _ expected: String) -> ModelFileError {
    ModelFileError(
      file: file, problem: "has \(value.summary) for \"\(name(key))\"; expected \(expected)")
  }

  /// The value of a key, nil where it is missing or null.
  func value(_ key: String) throws(ModelFileError) -> JSON? {
    var found: JSON?
    for member in members where member.key.utf8.elementsEqual(key.utf8) {
      guard found == nil else {
        throw ModelFileError(file: file, problem: "has the key \"\(name(key))\" twice")
      }
      found = member.value
    }
    return found == .null ? nil : found
  }

  func required(_ key: String) throws(ModelFileError) -> JSON {
    guard let value = try value(key) else {
      throw ModelFileError(file: file, problem: "lacks the key \"\(name(key))\"")
    }
    return value
  }

  func object(_ key: String) throws(ModelFileError) -> JSONObject? {
    guard let value = try value(key) else { return nil }
    guard case .object(let members) = value else { throw bad(key, value, "an object") }
    return JSONObject(file: file, path: name(key), members: members)
  }

  func array(_ key: String) throws(ModelFileError) -> [JSON]? {
    guard let value = try value(key) else { return nil }
    guard case .array(let values) = value else { throw bad(key, value, "an array") }
    return values
  }

  /// An array of objects.
  func objects(_ key: String) throws(ModelFileError) -> [JSONObject]? {
    guard let values = try array(key) else { return nil }
    var objects: [JSONObject] = []
    for (index, value) in values.enumerated() {
      guard case .object(let members) = value else { throw bad(key, value, "objects in it") }
      objects.append(JSONObject(file: file, path: name(key) + "[\(index)]", members: members))
    }
    return objects
  }

  func string(_ key: String) throws(ModelFileError) -> String? {
    guard let value = try value(key) else { return nil }
    guard case .string(let text) = value else { throw bad(key, value, "text") }
    return text
  }

  func bool(_ key: String) throws(ModelFileError) -> Bool? {
    guard let value = try value(key) else { return nil }
    guard case .bool(let flag) = value else { throw bad(key, value, "true or false") }
    return flag
  }

  /// A whole number from `range`.
  func integer(_ key: String, in range: ClosedRange<Int>) throws(ModelFileError) -> Int? {
    guard let value = try value(key) else { return nil }
    guard case .number(let number) = value, let whole = Int(exactly: number), range.contains(whole)
    else {
      throw bad(
        key, value, "a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return whole
  }

  /// A positive finite number.
  func positive(_ key: String) throws(ModelFileError) -> Double? {
    guard let value = try value(key) else { return nil }
    guard case .number(let number) = value, number.isFinite, number > 0 else {
      throw bad(key, value, "a positive number")
    }
    return number
  }
}

/// Recursive descent over UTF-8 (RFC 8259). Memory: at most about 40 bytes for each byte of text.
private struct JSONParser {
  let bytes: UnsafeRawBufferPointer
  let file: String
  private var position = 0

  private static let deepest = 64

  init(bytes: UnsafeRawBufferPointer, file: String) {
    self.bytes = bytes
    self.file = file
  }

  mutating func document() throws(ModelFileError) -> JSON {
    let value = try value(depth: 0)
    skipSpace()
    guard position == bytes.count else { throw unexpected("the end of the text") }
    return value
  }

  private mutating func value(depth: Int) throws(ModelFileError) -> JSON {
    guard depth < Self.deepest else { throw unexpected("at most \(Self.deepest) levels") }
    skipSpace()
    guard position < bytes.count else { throw unexpected("a value") }
    switch bytes[position] {
    case UInt8(ascii: "{"):
      position += 1
      var members: [JSON.Member] = []
      if accept("}") { return .object(members) }
      repeat {
        skipSpace()
        let key = try string()
        guard accept(":") else { throw unexpected("':'") }
        members.append(JSON.Member(key: key, value: try value(depth: depth + 1)))
      } while accept(",")
      guard accept("}") else { throw unexpected("'}'") }
      return .object(members)
    case UInt8(ascii: "["):
      position += 1
      var values: [JSON] = []
      if accept("]") { return .array(values) }
      repeat { values.append(try value(depth: depth + 1)) } while accept(",")
      guard accept("]") else { throw unexpected("']'") }
      return .array(values)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    default: return .number(try number())
    }
  }

  private mutating func word(_ text: StaticString, _ value: JSON) throws(ModelFileError) -> JSON {
    let length = text.utf8CodeUnitCount
    guard bytes.count - position >= length,
      bytes[position..<position + length].elementsEqual(
        UnsafeBufferPointer(start: text.utf8Start, count: length))
    else { throw unexpected("\(text)") }
    position += length
    return value
  }

  private mutating func number() throws(ModelFileError) -> Double {
    let start = position
    while position < bytes.count {
      switch bytes[position] {
      case 0x30...0x39, UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "."),
        UInt8(ascii: "e"), UInt8(ascii: "E"):
        position += 1
      default:
        return try number(from: start)
      }
    }
    return try number(from: start)
  }

  private func number(from start: Int) throws(ModelFileError) -> Double {
    let digits = bytes[start..<position]
    // Vocabularies hold hundreds of thousands of short whole numbers.
    if (1...15).contains(digits.count), digits.allSatisfy({ (0x30...0x39).contains($0) }) {
      return Double(digits.reduce(0) { $0 * 10 + Int($1 & 15) })
    }
    guard digits.count <= 64, let value = Double(String(decoding: digits, as: UTF8.self)),
      value.isFinite
    else { throw ModelFileError(file: file, problem: "has no value at byte \(start)") }
    return value
  }

  private mutating func string() throws(ModelFileError) -> String {
    guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
      throw unexpected("a string")
    }
    position += 1
    let start = position
    while position < bytes.count {
      let byte = bytes[position]
      if byte == UInt8(ascii: "\"") {
        guard let text = String(validating: bytes[start..<position], as: UTF8.self) else {
          throw notText(start)
        }
        position += 1
        return text
      }
      if byte == UInt8(ascii: "\\") { return try escapedString(from: start) }
      guard byte >= 0x20 else { throw unexpected("no control character in a string") }
      position += 1
    }
    throw unexpected("the end of a string")
  }

  /// A string with an escape at the current position.
  private mutating func escapedString(from start: Int) throws(ModelFileError) -> String {
    var text = Array(bytes[start..<position])
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let result = String(validating: text, as: UTF8.self) else { throw notText(start) }
        return result
      case UInt8(ascii: "\\"):
        text.append(contentsOf: String(try escape()).utf8)
      default:
        guard byte >= 0x20 else { throw unexpected("no control character in a string") }
        text.append(byte)
      }
    }
    throw unexpected("the end of a string")
  }

  private mutating func escape() throws(ModelFileError) -> Unicode.Scalar {
    guard position < bytes.count else { throw unexpected("an escape") }
    let kind = bytes[position]
    position += 1
    switch kind {
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(kind)
    case UInt8(ascii: "u"):
      let first = try hexadecimal()
      if let scalar = Unicode.Scalar(first) { return scalar }
      guard (0xD800..<0xDC00).contains(first), bytes.count - position >= 2,
        bytes[position] == UInt8(ascii: "\\"), bytes[position + 1] == UInt8(ascii: "u")
      else { throw unexpected("both halves of a surrogate pair") }
      position += 2
      let second = try hexadecimal()
      guard (0xDC00..<0xE000).contains(second),
        let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
      else { throw unexpected("the second half of a surrogate pair") }
      return scalar
    default: throw unexpected("a known escape")
    }
  }

  private mutating func hexadecimal() throws(ModelFileError) -> UInt32 {
    guard bytes.count - position >= 4 else { throw unexpected("four hexadecimal digits") }
    var value: UInt32 = 0
    for byte in bytes[position..<position + 4] {
      guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw unexpected("four hexadecimal digits")
      }
      value = value << 4 | UInt32(digit)
    }
    position += 4
    return value
  }

  private mutating func skipSpace() {
    while position < bytes.count {
      switch bytes[position] {
      case 0x20, 0x09, 0x0A, 0x0D: position += 1
      default: return
      }
    }
  }

  private mutating func accept(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard position < bytes.count, bytes[position] == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private func unexpected(_ what: String) -> ModelFileError {
    ModelFileError(file: file, problem: "is no valid JSON: expected \(what) at byte \(position)")
  }

  private func notText(_ start: Int) -> ModelFileError {
    ModelFileError(file: file, problem: "has a string at byte \(start) that is not UTF-8")
  }
}
