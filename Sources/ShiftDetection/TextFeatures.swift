// Numbers that tell one way of writing, or one subject, from another.

/// Features of one text; every one is comparable between texts of different length.
enum TextFeatures {
  static let styleNames = [
    "words", "word length", "capitals", "capitalised words", "punctuation", "digits",
  ]

  /// Style: words (count), mean letters per word, and shares: capitals among letters, words that begin
  /// with a capital, punctuation and symbols per word, digits among letters and digits.
  static func style(_ text: String) -> [Double] {
    let words = text.split(whereSeparator: \.isWhitespace)
    var (letters, capitals, digits, signs) = (0.0, 0.0, 0.0, 0.0)
    for character in text {
      if character.isLetter {
        letters += 1
        if character.isUppercase { capitals += 1 }
      } else if character.isNumber {
        digits += 1
      } else if !character.isWhitespace {
        signs += 1
      }
    }
    let count = Double(max(1, words.count))
    let initials = Double(words.filter { $0.first?.isUppercase ?? false }.count)
    return [
      Double(words.count), letters / count, capitals / max(1, letters), initials / count,
      signs / count, digits / max(1, letters + digits),
    ]
  }

  /// Most words kept of one text.
  static let maximumWords = 32

  /// The first distinct content words (of four letters or more, digits count as letters) as 32-bit
  /// FNV-1a hashes of their lower case: enough to compare texts without keeping them.
  static func contentWords(_ text: String) -> [UInt32] {
    var hashes: [UInt32] = []
    for word in text.lowercased().split(whereSeparator: { !$0.isLetter && !$0.isNumber })
    where word.count >= 4 {
      var hash: UInt32 = 2_166_136_261
      for byte in word.utf8 { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
      if !hashes.contains(hash) { hashes.append(hash) }
      if hashes.count == maximumWords { break }
    }
    return hashes
  }
}
