// The text patterns of a task: literal text with {field} and {output} placeholders.

import Foundation

/// A template such as `"{description} is tagged {output}"`. `{abstract:30}` takes only the first
/// thirty words, and `{{` and `}}` stand for the braces themselves.
///
/// Values are put in by one pass, so a user's text that holds braces stays text; white space in
/// values, line ends included, becomes single spaces, so a user's text cannot imitate the layout.
public struct PromptTemplate: Sendable, Hashable, Codable, CustomStringConvertible {
  enum Part: Sendable, Hashable {
    case literal(String)
    case placeholder(name: String, words: Int?)
  }

  let parts: [Part]
  /// The template as written.
  public let source: String

  public var description: String { source }

  /// Throws `TemplateError` where braces do not pair or a placeholder is malformed.
  public init(_ source: String) throws {
    self.source = source
    var parts: [Part] = []
    var literal = ""
    var rest = Substring(source)
    while let character = rest.popFirst() {
      switch character {
      case "{" where rest.first == "{", "}" where rest.first == "}":
        rest.removeFirst()
        literal.append(character)
      case "{":
        guard let end = rest.firstIndex(of: "}") else {
          throw TemplateError.unclosedBrace(template: source)
        }
        if !literal.isEmpty { parts.append(.literal(literal)) }
        literal = ""
        parts.append(try Self.placeholder(rest[..<end], in: source))
        rest = rest[rest.index(after: end)...]
      case "}":
        throw TemplateError.strayBrace(template: source)
      default:
        literal.append(character)
      }
    }
    if !literal.isEmpty { parts.append(.literal(literal)) }
    self.parts = parts
  }

  private static func placeholder(_ text: Substring, in source: String) throws -> Part {
    let pieces = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    let name = String(pieces[0])
    guard !name.isEmpty, name.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "_" || $0 == "-" })
    else { throw TemplateError.malformedPlaceholder(String(text), template: source) }
    guard pieces.count == 2 else { return .placeholder(name: name, words: nil) }
    guard let words = Int(pieces[1]), words > 0 else {
      throw TemplateError.malformedPlaceholder(String(text), template: source)
    }
    return .placeholder(name: name, words: words)
  }

  public init(from decoder: any Decoder) throws {
    try self.init(decoder.singleValueContainer().decode(String.self))
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(source)
  }

  /// What stands between its placeholders and reads like the name of a token that controls a model, such
  /// as `<|im_end|>`, `</s>` or `[INST]`.
  public var controlNames: Set<String> {
    var names: Set<String> = []
    for case .literal(let text) in parts {
      for name in text.matches(of: /<[^<>\s]+>|\[\/?[A-Z_]{2,}\]/) {
        names.insert(String(name.output))
      }
    }
    return names
  }

  /// What stands before the first placeholder.
  public var beginning: String {
    if case .literal(let text)? = parts.first { text } else { "" }
  }

  /// The names in braces, in order of first appearance.
  public var placeholders: [String] {
    var names: [String] = []
    for case .placeholder(let name, _) in parts where !names.contains(name) { names.append(name) }
    return names
  }

  /// The template with values in place. A name without a value, or with an empty one, becomes
  /// nothing, together with one of the two spaces it stands between. Of several lines, one whose
  /// names all have no value is left out.
  public func render(_ values: [String: String]) -> String {
    var lines: [(text: String, names: Int, filled: Int)] = [("", 0, 0)]
    /// Whether the value before was missing, so that a space after it may be one too many.
    var isOpen = false
    for part in parts {
      switch part {
      case .literal(let literal):
        for (index, piece) in literal.split(separator: "\n", omittingEmptySubsequences: false)
          .enumerated()
        {
          if index > 0 { lines.append(("", 0, 0)) }
          var piece = piece
          let text = lines[lines.count - 1].text
          if isOpen, piece.first == " ", text.isEmpty || text.last == " " { piece.removeFirst() }
          isOpen = false
          lines[lines.count - 1].text += piece
        }
      case .placeholder(let name, let limit):
        lines[lines.count - 1].names += 1
        if values[name] != nil { lines[lines.count - 1].filled += 1 }
        var words = values[name]?.split(whereSeparator: \.isWhitespace) ?? []
        if let limit, words.count > limit { words = Array(words[..<limit]) }
        isOpen = words.isEmpty
        if isOpen { continue }
        lines[lines.count - 1].text += words.joined(separator: " ")
      }
    }
    if lines.count == 1 { return lines[0].text }
    return lines.filter { $0.names == 0 || $0.filled > 0 }.map(\.text).joined(separator: "\n")
  }
}

/// Why a template cannot be read.
public enum TemplateError: Error, Equatable, CustomStringConvertible, LocalizedError {
  case unclosedBrace(template: String)
  case strayBrace(template: String)
  case malformedPlaceholder(String, template: String)
  /// What has no place in a pattern, with "has no" at its end, and the pattern.
  case malformedPattern(String, String)

  public var description: String {
    switch self {
    case .unclosedBrace(let template):
      "the template \"\(template)\" has a \"{\" without its \"}\" (write {{ for the brace itself)"
    case .strayBrace(let template):
      "the template \"\(template)\" has a \"}\" without its \"{\" (write }} for the brace itself)"
    case .malformedPlaceholder(let text, let template):
      "the placeholder {\(text)} in \"\(template)\" is not {name} or {name:words}"
    case .malformedPattern(let what, let pattern):
      "\(what) place in the pattern \"\(pattern)\""
    }
  }

  public var errorDescription: String? { description }
}
