// A document as a tree of values, each with its place.

import Foundation

/// A value of a YAML document. Mappings keep the order of the text; their keys are scalars, no two
/// of them equal as Swift's strings and numbers are.
public enum YAMLNode: Sendable {
  case scalar(Scalar)
  case sequence(Sequence)
  case mapping(Mapping)

  /// Values in the order of the text.
  public typealias Sequence = Items<YAMLNode>
  /// Pairs in the order of the text.
  public typealias Mapping = Items<(key: YAMLNode, value: YAMLNode)>

  /// A place in a text; lines and columns (characters) count from 1.
  public struct Mark: Sendable, Hashable {
    public let line: Int
    public let column: Int
  }

  /// What stands in a sequence or a mapping.
  public struct Items<Element: Sendable>: Sendable, RandomAccessCollection {
    let elements: [Element]
    /// Where the first of them begins, or the bracket before it.
    public let mark: Mark

    public var startIndex: Int { 0 }
    public var endIndex: Int { elements.count }
    /// The value or pair at an index, from 0.
    public subscript(index: Int) -> Element { elements[index] }
  }

  /// Where the value begins; for an alias, where the value that it names does.
  public var mark: Mark {
    switch self {
    case .scalar(let scalar): scalar.mark
    case .sequence(let sequence): sequence.mark
    case .mapping(let mapping): mapping.mark
    }
  }

  /// Nil for a sequence or mapping.
  public var scalar: Scalar? { if case .scalar(let scalar) = self { scalar } else { nil } }
  /// The text of a scalar of any kind, such as `5` or `true`.
  public var string: String? { scalar?.string }
  /// A whole number; nil beyond `Int`, too.
  public var int: Int? { scalar?.int }
  /// A number, also a whole one.
  public var float: Double? { scalar?.float }
  /// Nil for what is no `true` or `false`.
  public var bool: Bool? { scalar?.bool }

  /// Reads the one document of a text: YAML 1.2 with the types of its core schema.
  ///
  /// So `no`, `on`, `1_000` and `1:30` are strings. Refused are second documents, declarations of
  /// other versions than 1.2, tags beyond the core schema, merge keys (`<<`), keys that stand twice
  /// or are no scalars, raw U+0085, U+2028, U+2029 and U+FEFF (which libyaml reads otherwise), more
  /// than 100 levels, more than 100 lines that begin with `%`, and more than 100,000 values, counted
  /// with what aliases repeat.
  ///
  /// - Parameter yaml: UTF-8; one byte order mark may stand before it.
  /// - Parameter file: what errors call the text.
  /// - Returns: nil for a text without a value.
  /// - Throws: `YAMLError`.
  public static func compose(
    yaml: some ContiguousBytes, file: String, maximumBytes: Int = 4 << 20
  ) throws -> YAMLNode? {
    try yaml.withUnsafeBytes { try YAMLReader.read($0, file, maximumBytes) }
  }

  /// The same of a string.
  public static func compose(
    yaml: String, file: String, maximumBytes: Int = 4 << 20
  ) throws -> YAMLNode? {
    try compose(yaml: Array(yaml.utf8), file: file, maximumBytes: maximumBytes)
  }
}

extension YAMLNode.Mapping {
  /// The value of a key that is this string; a key that is a number or `true` is no string.
  public subscript(key: String) -> YAMLNode? {
    first { $0.key.scalar?.kind == .string && $0.key.string == key }?.value
  }
}

/// What is wrong with a text, and where.
public struct YAMLError: Error, Hashable, CustomStringConvertible, LocalizedError {
  /// The name that the caller gave to the text.
  public let file: String
  /// Where the value stands that is wrong.
  public let mark: YAMLNode.Mark
  /// The path of the value, such as `tasks.film_tag.labels[2]`; empty at the top.
  public let key: String
  /// Goes on after the place, the value's path and a colon.
  public let problem: String

  public var description: String {
    "\(file):\(mark.line):\(mark.column): " + (key.isEmpty ? "" : "\(key): ") + problem
  }
  public var errorDescription: String? { description }
}
