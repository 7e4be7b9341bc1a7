// Scalars and what they are: the core schema of YAML 1.2, chapter 10.3.

extension YAMLNode {
  /// A value of one piece.
  public struct Scalar: Sendable {
    /// The raw values end the names of the tags.
    public enum Kind: String, Sendable {
      case null, bool, int, float
      case string = "str"
    }

    /// The text, without quotes and escapes.
    public let string: String
    /// By the core schema, or by a tag.
    public let kind: Kind
    public let mark: Mark

    /// Nil for another kind.
    public var bool: Bool? { kind == .bool ? string.lowercased() == "true" : nil }

    /// Of decimal, octal (`0o`) and hexadecimal (`0x`) digits; nil for another kind and beyond
    /// `Int`.
    public var int: Int? {
      guard kind == .int else { return nil }
      return Self.radix(string).map { Int(string.dropFirst(2), radix: $0) } ?? Int(string)
    }

    /// Of a whole number, too; nil for another kind.
    public var float: Double? {
      guard kind == .float || kind == .int else { return nil }
      // Swift's names for .inf and .nan have no point.
      let isNamed = string.lowercased().contains("n")
      return int.map(Double.init) ?? Double(isNamed ? string.filter { $0 != "." } : string)
    }

    /// Equal for equal values: `0x10` and `16` are one key, `16` and `"16"` are two.
    var identity: String {
      let value: String? =
        switch kind {
        case .null: ""
        case .bool: string.lowercased()
        case .int: int.map(String.init)
        case .float: float.map { "\($0)" }
        case .string: string
        }
      return "\(kind.rawValue) \(value ?? string)"
    }

    /// What a text is without quotes and tag.
    static func kind(ofPlain text: String) -> Kind {
      switch text {
      case "", "~", "null", "Null", "NULL": return .null
      case "true", "True", "TRUE", "false", "False", "FALSE": return .bool
      case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", ".nan",
        ".NaN", ".NAN":
        return .float
      default: break
      }
      if let radix = radix(text) {
        let isNumber = text.utf8.dropFirst(2).allSatisfy {
          Character(UnicodeScalar($0)).hexDigitValue.map { $0 < radix } == true
        }
        return isNumber && text.utf8.count > 2 ? .int : .string
      }
      // Of these characters, Swift's numbers are just those of the schema.
      guard text.utf8.allSatisfy("0123456789+-.eE".utf8.contains), Double(text) != nil else {
        return .string
      }
      return text.utf8.contains(where: ".eE".utf8.contains) ? .float : .int
    }

    /// Of a number that begins with `0x` or `0o`.
    static func radix(_ text: String) -> Int? {
      text.hasPrefix("0x") ? 16 : text.hasPrefix("0o") ? 8 : nil
    }
  }
}
