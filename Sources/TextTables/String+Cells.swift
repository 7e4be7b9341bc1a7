// The width of text in a terminal's cells, as wcwidth(3) has it.

import CWideCharacters
import Foundation

/// Runs work in which this thread's characters are Unicode's, as wcwidth needs it; other threads
/// keep their locale. Where the system has no C.UTF-8, every character counts as one cell.
func withUnicodeLocale<Result>(_ work: () -> Result) -> Result {
  guard let unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", nil) else { return work() }
  let before = uselocale(unicode)
  defer {
    uselocale(before)
    freelocale(unicode)
  }
  return work()
}

extension String {
  /// To be asked inside ``withUnicodeLocale(_:)``. What the system does not know has one cell.
  var cellWidth: Int {
    unicodeScalars.reduce(0) {
      let cells = wcwidth(wchar_t(bitPattern: $1.value))
      return $0 + (cells < 0 ? 1 : Int(cells))
    }
  }

  /// At most so many cells of the text, with `…` for what is missing; no character is split.
  func cut(toCells limit: Int) -> String {
    guard cellWidth > limit else { return self }
    var kept = String(prefix(limit))
    while kept.cellWidth >= limit { kept.removeLast() }
    return kept + "…"
  }

  /// Escapes in place of control characters, line separators, and marks that turn text around.
  var visible: String {
    unicodeScalars.map { scalar in
      switch scalar.properties.generalCategory {
      case .control, .lineSeparator, .paragraphSeparator,
        _ where scalar.properties.isBidiControl:
        scalar == "\n" ? "\\n" : "\\u{\(String(scalar.value, radix: 16))}"
      default: String(scalar)
      }
    }.joined()
  }
}
