// Text from anywhere, so written that it stays on its line and no terminal acts on it.

extension String {
  /// A key or a value, quoted where its end could not be seen otherwise.
  var word: String {
    let isClear = !isEmpty && !contains { $0.isWhitespace || $0 == "=" || $0 == "\"" }
    return isClear ? escaped() : "\"\(escaped(inQuotes: true))\""
  }

  /// A JSON string (RFC 8259, section 7), with its quotes.
  var json: String { "\"\(escaped(inQuotes: true) { "\\u" + ("000" + $0).suffix(4) })\"" }

  /// Control characters, line separators, and marks that turn the direction of text, as escapes.
  /// - Parameter form: an escape of one to four hexadecimal digits; no such character has more.
  func escaped(inQuotes: Bool = false, form: (String) -> String = { "\\u{\($0)}" }) -> String {
    var result = ""
    for scalar in unicodeScalars {
      switch (scalar, scalar.properties.generalCategory) {
      case ("\n", _): result += "\\n"
      case ("\r", _): result += "\\r"
      case ("\t", _): result += "\\t"
      case ("\"", _) where inQuotes, ("\\", _) where inQuotes: result += "\\\(scalar)"
      case (_, .control), (_, .lineSeparator), (_, .paragraphSeparator),
        _ where scalar.properties.isBidiControl:
        result += form(String(scalar.value, radix: 16))
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
