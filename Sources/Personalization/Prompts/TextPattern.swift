// Templates read backwards: taking the fields out of a text.

import Foundation

/// A pattern such as `the movie "{film}" (genres: {genres}) on a scale`: literal text in this
/// order, and what stands between taken as the named values.
///
/// It may begin anywhere in the text. A literal is its first occurrence after the one before it,
/// but a pattern's closing literal is its last occurrence, so that a value may hold, for instance,
/// the quotation marks it stands in. A name at the end takes the rest. Values lose white space at
/// both ends. `{{` and `}}` stand for the braces themselves.
public struct TextPattern: Sendable, Hashable, Codable, CustomStringConvertible {
  private let template: PromptTemplate

  /// The pattern as it was written, with its braces.
  public var source: String { template.source }
  public var description: String { source }
  /// The names in braces.
  public var names: [String] { template.placeholders }

  /// Throws `TemplateError` where braces do not pair, a name is malformed or stands twice, there is
  /// none, or two stand side by side.
  public init(_ source: String) throws {
    template = try PromptTemplate(source)
    var seen: Set<String> = []
    var last: PromptTemplate.Part?
    for part in template.parts {
      if case .placeholder(let name, let words) = part {
        if words != nil { throw TemplateError.malformedPattern("{name:words} has no", source) }
        if !seen.insert(name).inserted {
          throw TemplateError.malformedPattern("a second {\(name)} has no", source)
        }
        if case .placeholder = last {
          throw TemplateError.malformedPattern(
            "{\(name)} directly after another name has no", source)
        }
      }
      last = part
    }
    if seen.isEmpty { throw TemplateError.malformedPattern("text without a {name} has no", source) }
  }

  public init(from decoder: any Decoder) throws {
    try self.init(decoder.singleValueContainer().decode(String.self))
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(source)
  }

  /// The named values, or nil where the text does not have the pattern.
  public func values(in text: String) -> [String: String]? {
    let bytes = Array(text.utf8)
    var values: [String: String] = [:]
    var position = 0
    var open: String?
    func close(at end: Int) {
      guard let name = open else { return }
      values[name] = String(decoding: bytes[position..<end], as: UTF8.self)
        .trimmingCharacters(in: .whitespacesAndNewlines)
      open = nil
    }
    for (index, part) in template.parts.enumerated() {
      switch part {
      case .placeholder(let name, _): open = name
      case .literal(let literal):
        let wanted = Array(literal.utf8)
        let isLast = index == template.parts.count - 1
        guard let start = Self.find(wanted, in: bytes, from: position, last: isLast) else {
          return nil
        }
        close(at: start)
        position = start + wanted.count
      }
    }
    close(at: bytes.count)
    return values
  }

  private static func find(
    _ wanted: [UInt8], in bytes: [UInt8], from start: Int, last: Bool
  ) -> Int? {
    guard bytes.count - start >= wanted.count else { return nil }
    let starts = start...(bytes.count - wanted.count)
    func isHere(_ position: Int) -> Bool {
      bytes[position] == wanted[0] && bytes[position...].starts(with: wanted)
    }
    return last ? starts.last(where: isHere) : starts.first(where: isHere)
  }
}
