// How names are spelt: with dashes, nearly right, or with what no terminal should be sent.

/// Ways to write names and words.
public enum Spelling {
  /// A Swift name in lower case with dashes: `maxTokens` is `max-tokens`, `parseURLText`
  /// `parse-url-text`.
  static func dashed(_ name: String) -> String {
    let letters = Array(name)
    var dashed = ""
    for (index, letter) in letters.enumerated() {
      if letter == "_" {
        dashed += "-"
        continue
      }
      let isNewWord =
        letter.isUppercase && index > 0 && letters[index - 1] != "_"
        && (!letters[index - 1].isUppercase
          || (index + 1 < letters.count && letters[index + 1].isLowercase))
      dashed += (isNewWord ? "-" : "") + letter.lowercased()
    }
    return dashed
  }

  /// The name that was probably meant: at most a third of it, but always one letter, is wrong; or it
  /// is the only one that begins like the word. Nil where there is none.
  public static func nearest(to word: String, among names: [String]) -> String? {
    // What is much longer than any name is no misspelling, and takes long to compare.
    guard !word.isEmpty, word.utf8.count <= 80 else { return nil }
    let near = names.map { (name: $0, distance: distance(word, $0)) }
      .filter { $0.distance <= max(1, $0.name.count { $0 != "-" } / 3) }
      .min { $0.distance < $1.distance }
    if let near { return near.name }
    let continued = names.filter { $0.hasPrefix(word) && word.contains { $0 != "-" } }
    return continued.count == 1 ? continued.first : nil
  }

  /// How many letters must be changed, added, left out or swapped with the next one
  /// (Damerau-Levenshtein, each place edited once).
  static func distance(_ first: String, _ second: String) -> Int {
    let (a, b) = (Array(first), Array(second))
    var (older, old, row) = ([Int](), [Int](), Array(0...b.count))
    for i in a.indices {
      (older, old) = (old, row)
      row[0] = i + 1
      for j in b.indices {
        let same = a[i] == b[j]
        row[j + 1] = min(old[j + 1] + 1, row[j] + 1, old[j] + (same ? 0 : 1))
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
          row[j + 1] = min(row[j + 1], older[j - 1] + 1)
        }
      }
    }
    return row[b.count]
  }

  /// A word from outside in quotes, safe to show: at most 200 characters.
  static func quoted(_ word: String) -> String {
    let shown = word.prefix(200)
    return "'" + harmless(String(shown)) + (shown.endIndex < word.endIndex ? "…" : "") + "'"
  }

  /// A text with control characters, and others that change how the rest is shown, written out.
  public static func harmless(_ text: String, keepingLines: Bool = false) -> String {
    var safe = ""
    for scalar in text.unicodeScalars {
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator:
        // The zero-width joiner of emoji harms nothing.
        let isKept = scalar == "\u{200D}" || (keepingLines && scalar == "\n")
        safe += isKept ? String(scalar) : scalar.escaped(asASCII: true)
      default: safe.unicodeScalars.append(scalar)
      }
    }
    return safe
  }
}
