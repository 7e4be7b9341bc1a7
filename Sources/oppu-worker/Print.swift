// Text on standard output. What users wrote ends up in it, so no terminal may act on it.

import ArgumentParsing

/// Prints text with control characters, and what turns the direction of text, written out. It stands before Swift's
/// own `print` everywhere in this program; JSON, which escapes by itself, goes by `Swift.print`.
func print(_ text: String, terminator: String = "\n") {
  Swift.print(Spelling.harmless(text, keepingLines: true), terminator: terminator)
}
