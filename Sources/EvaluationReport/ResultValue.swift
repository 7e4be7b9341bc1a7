// A tree of settings, as JSON has them: an evaluation's configuration.

import Foundation

/// A JSON value. Members of objects are shown and written by ascending name.
public enum ResultValue: Codable, Sendable, Equatable {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case array([ResultValue])
  case object([String: ResultValue])

  /// Any value that can be written as JSON, as a tree.
  public init(encoding value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "infinity", negativeInfinity: "-infinity", nan: "nan")
    self = try JSONDecoder().decode(ResultValue.self, from: encoder.encode(value))
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode([ResultValue].self) {
      self = .array(value)
    } else {
      self = .object(try container.decode([String: ResultValue].self))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .null: try container.encodeNil()
    case .bool(let value): try container.encode(value)
    case .number(let value):
      if let whole = Int64(exactly: value) {
        try container.encode(whole)
      } else if value.isFinite {
        try container.encode(value)
      } else {
        try container.encodeNil()
      }
    case .string(let value): try container.encode(value)
    case .array(let values): try container.encode(values)
    case .object(let members): try container.encode(members)
    }
  }

  /// The leaves as lines of path and text: "lora.rank", "8". Arrays of plain values are one line.
  public var lines: [(path: String, text: String)] { lines(under: "") }

  private func lines(under path: String) -> [(path: String, text: String)] {
    switch self {
    case .object(let members) where !members.isEmpty:
      members.sorted { $0.key < $1.key }.flatMap { name, value in
        value.lines(under: path.isEmpty ? name : "\(path).\(name)")
      }
    case .array(let values) where values.contains(where: \.isTree):
      values.enumerated().flatMap { $1.lines(under: "\(path)[\($0)]") }
    default: [(path, text)]
    }
  }

  private var isTree: Bool {
    switch self {
    case .object, .array: true
    default: false
    }
  }

  private var text: String {
    switch self {
    case .null: "–"
    case .bool(let value): value ? "true" : "false"
    case .number(let value): Int64(exactly: value).map(String.init) ?? String(value)
    case .string(let value): value
    case .array(let values): values.map(\.text).joined(separator: ", ")
    case .object: ""
    }
  }
}

extension ResultValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByFloatLiteral, ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral,
  ExpressibleByDictionaryLiteral
{
  public init(stringLiteral value: String) { self = .string(value) }
  public init(integerLiteral value: Int) { self = .number(Double(value)) }
  public init(floatLiteral value: Double) { self = .number(value) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(arrayLiteral elements: ResultValue...) { self = .array(elements) }
  public init(dictionaryLiteral elements: (String, ResultValue)...) {
    self = .object(Dictionary(elements, uniquingKeysWith: { _, last in last }))
  }
}
