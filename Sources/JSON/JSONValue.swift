// Any JSON value: what an event's input holds, with the fields that this project does not know kept.

import Foundation

/// A JSON value. Numbers are doubles; whole numbers that a double cannot hold exactly (beyond 2^53,
/// such as other systems' identifiers) keep their digits, so that keeping a field never alters it.
public enum JSONValue: Codable, Sendable, Hashable {
  case null
  case bool(Bool)
  case number(Double)
  /// A whole number beyond ±2^53, in its digits.
  case integer(String)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Int64.self) {
      self = .whole(String(value))
    } else if let value = try? container.decode(UInt64.self) {
      self = .whole(String(value))
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode([JSONValue].self) {
      self = .array(value)
    } else {
      self = .object(try container.decode([String: JSONValue].self))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .null: try container.encodeNil()
    case .bool(let value): try container.encode(value)
    case .number(let value):
      // Written as an integer where it is one, so that 3 does not come back as 3.0.
      if let whole = Int64(exactly: value) {
        try container.encode(whole)
      } else {
        try container.encode(value)
      }
    case .integer(let digits):
      // The encoders know no longer ones.
      if let value = Int64(digits) {
        try container.encode(value)
      } else if let value = UInt64(digits) {
        try container.encode(value)
      } else {
        try container.encode(Double(digits))
      }
    case .string(let value): try container.encode(value)
    case .array(let value): try container.encode(value)
    case .object(let value): try container.encode(value)
    }
  }

  /// Reads a JSON text.
  /// - Throws: ``JSONReadingError``.
  public init(reading text: some ContiguousBytes, rules: JSONRules = .strict) throws {
    var reader = JSONReader(rules)
    self = try text.withUnsafeBytes { try reader.read($0) { $0.value } }
  }

  /// Reads a JSON text.
  /// - Throws: ``JSONReadingError``.
  public init(text: String, rules: JSONRules = .strict) throws {
    self = try JSONValue(reading: Data(text.utf8), rules: rules)
  }

  /// Any value that can be written as JSON, as a tree. Numbers that JSON cannot hold become texts.
  public init(encoding value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "infinity", negativeInfinity: "-infinity", nan: "nan")
    self = try JSONValue(reading: encoder.encode(value), rules: .modelFiles)
  }

  /// A whole number, of digits as JSON writes them, perhaps with a minus before.
  static func whole(_ digits: String) -> JSONValue {
    guard let value = Int64(digits), value.magnitude <= 1 << 53 else { return .integer(digits) }
    return .number(Double(value))
  }

  /// What the value is, as each kind; nil where it is of another.
  public var string: String? { if case .string(let value) = self { value } else { nil } }
  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  public var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  public var object: [String: JSONValue]? {
    if case .object(let value) = self { value } else { nil }
  }
  public var isNull: Bool { self == .null }

  /// The number, or nil where this is not one.
  public var number: Double? {
    switch self {
    case .number(let value): value
    case .integer(let digits): Double(digits)
    default: nil
    }
  }

  /// The member of that name; nil where there is none, or where this is no object.
  public subscript(key: String) -> JSONValue? { object?[key] }

  /// What a person calls the kind of value, for error messages.
  public var kindName: String {
    switch self {
    case .null: "null"
    case .bool: "a boolean"
    case .number, .integer: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }

  /// The value as words in a prompt: strings as they are, numbers in their shortest form, arrays
  /// joined by ", ". Nil for null, for objects and for arrays that hold either.
  public var plainText: String? {
    switch self {
    case .null, .object: return nil
    case .bool(let value): return value ? "true" : "false"
    case .number(let value): return Self.text(of: value)
    case .integer(let digits): return digits
    case .string(let value): return value
    case .array(let values):
      let texts = values.compactMap(\.plainText)
      return texts.count == values.count ? texts.joined(separator: ", ") : nil
    }
  }

  /// A number in its shortest form: 3 is "3" and 3.5 is "3.5".
  public static func text(of number: Double) -> String {
    if let whole = Int64(exactly: number) { return String(whole) }
    return String(number)
  }

  /// One text for one value: keys sorted by code points, no spaces, shortest numbers.
  public var canonical: String {
    var text = ""
    write(to: &text)
    return text
  }

  private func write(to text: inout String) {
    switch self {
    case .null: text += "null"
    case .bool(let value): text += value ? "true" : "false"
    case .number(let value):
      // JSON has no infinities; a decoder never makes one, a caller might.
      text += value.isFinite ? Self.text(of: value) : "null"
    case .integer(let digits): text += digits
    case .string(let value): Self.write(value, to: &text)
    case .array(let values):
      text += "["
      for (index, value) in values.enumerated() {
        if index > 0 { text += "," }
        value.write(to: &text)
      }
      text += "]"
    case .object(let members):
      text += "{"
      for (index, member) in members.sorted(by: { $0.key < $1.key }).enumerated() {
        if index > 0 { text += "," }
        Self.write(member.key, to: &text)
        text += ":"
        member.value.write(to: &text)
      }
      text += "}"
    }
  }

  private static func write(_ string: String, to text: inout String) {
    text += "\""
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      case _ where scalar.value < 0x20:
        let hex = String(scalar.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: text.unicodeScalars.append(scalar)
      }
    }
    text += "\""
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByFloatLiteral, ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral,
  ExpressibleByDictionaryLiteral
{
  public init(stringLiteral value: String) { self = .string(value) }
  /// Exact up to ±2⁵³.
  public init(integerLiteral value: Int) { self = .number(Double(value)) }
  public init(floatLiteral value: Double) { self = .number(value) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(Dictionary(elements, uniquingKeysWith: { _, last in last }))
  }
}
