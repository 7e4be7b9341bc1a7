// Trees as the fixture writes them, for comparison, and as text, for reading them again.

import Foundation
import Testing

@testable import YAML

/// JSON of strings and lists, compared byte for byte (Swift's strings hold é and é for equal).
enum Tagged: Decodable, Equatable {
  case text([UInt8])
  case list([Tagged])

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let text = try? container.decode(String.self) {
      self = .text(Array(text.utf8))
    } else {
      self = .list(try container.decode([Tagged].self))
    }
  }

  static func word(_ texts: String...) -> Tagged { .list(texts.map { .text(Array($0.utf8)) }) }

  init(_ node: YAMLNode) {
    switch node {
    case .scalar(let scalar):
      switch scalar.kind {
      case .null: self = .word("null")
      case .bool: self = .word("bool", scalar.bool == true ? "true" : "false")
      case .int: self = .word("int", scalar.int.map(String.init) ?? scalar.string)
      case .float:
        let value = scalar.float ?? 0
        let bits = String(value.bitPattern, radix: 16)
        self = .word(
          "float", value.isNaN ? "nan" : String(repeating: "0", count: 16 - bits.count) + bits)
      case .string: self = .word("str", scalar.string)
      }
    case .sequence(let items): self = .list([.text(Array("seq".utf8))] + items.map(Tagged.init))
    case .mapping(let entries):
      self = .list(
        [.text(Array("map".utf8))] + entries.map { .list([Tagged($0.key), Tagged($0.value)]) })
    }
  }
}

/// A tree in flow style, every string in double quotes and every other scalar under its tag.
func written(_ node: YAMLNode) -> String {
  switch node {
  case .scalar(let scalar):
    if scalar.kind == .null { return "null" }
    if scalar.kind != .string { return "!!\(scalar.kind.rawValue) \(scalar.string)" }
    let letters = scalar.string.unicodeScalars.map { letter in
      switch letter.value {
      case 0x22, 0x5C: "\\\(letter)"
      case 0x20..<0x7F: String(letter)
      default: "\\U" + String(UInt64(letter.value) + (1 << 32), radix: 16).dropFirst()
      }
    }
    return "\"" + letters.joined() + "\""
  case .sequence(let items): return "[" + items.map { written($0) }.joined(separator: ", ") + "]"
  case .mapping(let entries):
    return "{"
      + entries.map { "? \(written($0.key)) : \(written($0.value))" }
      .joined(separator: ", ") + "}"
  }
}

func read(_ text: String) throws -> YAMLNode? {
  try YAMLNode.compose(yaml: text, file: "tasks.yaml")
}

func value(_ text: String) throws -> YAMLNode { try #require(try read(text)) }

extension YAMLNode {
  /// All scalars that are no keys, in order.
  var scalars: [Scalar] {
    switch self {
    case .scalar(let scalar): [scalar]
    case .sequence(let items): items.flatMap(\.scalars)
    case .mapping(let entries): entries.flatMap(\.value.scalars)
    }
  }

  var kinds: [Scalar.Kind] { scalars.map(\.kind) }
}
