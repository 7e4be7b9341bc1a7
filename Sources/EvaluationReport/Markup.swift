// HTML and SVG that is escaped by its type: whatever is interpolated into markup is text.

/// A piece of HTML or SVG. A literal is markup; interpolated strings are escaped, interpolated
/// markup is not. There is no other way to make one, so no text from outside can become markup.
struct Markup: ExpressibleByStringInterpolation, Sendable {
  private(set) var string = ""

  init() {}
  init(stringLiteral value: String) { string = value }
  init(stringInterpolation: StringInterpolation) { string = stringInterpolation.string }

  struct StringInterpolation: StringInterpolationProtocol {
    fileprivate var string = ""

    init(literalCapacity: Int, interpolationCount: Int) {
      string.reserveCapacity(literalCapacity + 16 * interpolationCount)
    }

    mutating func appendLiteral(_ literal: String) { string += literal }
    mutating func appendInterpolation(_ text: String) { string += Markup.escape(text) }
    mutating func appendInterpolation(_ markup: Markup) { string += markup.string }
    mutating func appendInterpolation(_ number: Int) { string += "\(number)" }
    /// A coordinate: to a tenth of a unit.
    mutating func appendInterpolation(_ coordinate: Double) {
      string += NumberText.plain(coordinate.isFinite ? coordinate : 0, decimals: 1)
    }
    mutating func appendInterpolation(_ parts: [Markup]) {
      for part in parts { string += part.string }
    }
  }

  /// Markup that is there only sometimes. (A literal between quotes within an interpolation would
  /// be a string, and escaped.)
  static func when(_ condition: Bool, _ markup: @autoclosure () -> Markup) -> Markup {
    condition ? markup() : Markup()
  }

  static func += (left: inout Markup, right: Markup) { left.string += right.string }

  /// Text for elements and quoted attributes. What XML cannot hold, and what would turn the
  /// direction of the text after it, is replaced.
  private static func escape(_ text: String) -> String {
    var result = ""
    result.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      case "\n", "\t", "\r": result += " "
      case "\u{0}"..."\u{1F}", "\u{7F}"..."\u{9F}", "\u{FFFE}"..."\u{FFFF}",
        "\u{202A}"..."\u{202E}", "\u{2066}"..."\u{2069}":
        result += "\u{FFFD}"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
