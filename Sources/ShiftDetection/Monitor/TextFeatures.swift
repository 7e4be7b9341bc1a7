// Numbers that tell one way of writing, or one subject, from another.

/// Features of one text; every one is comparable between texts of different length.
enum TextFeatures {
  static let styleNames = ["words", "word length", "capitals", "signs"]

  /// Style: words (count), mean letters per word, the share of capitals among letters, punctuation,
  /// symbols and digits per word.
  static func style(_ text: String) -> [Double] {
    var (words, letters, capitals, signs) = (0.0, 0.0, 0.0, 0.0)
    var isInWord = false
    for scalar in text.unicodeScalars {
      let properties = scalar.properties
      if properties.isWhitespace {
        isInWord = false
        continue
      }
      if !isInWord { words += 1 }
      isInWord = true
      if properties.isAlphabetic {
        letters += 1
        if properties.isUppercase { capitals += 1 }
      } else {
        signs += 1
      }
    }
    let count = max(1, words)
    return [words, letters / count, capitals / max(1, letters), signs / count]
  }

  static func wordCount(_ text: String) -> Int {
    var words = 0
    var isInWord = false
    for scalar in text.unicodeScalars {
      let isSpace = scalar.properties.isWhitespace
      if !isSpace, !isInWord { words += 1 }
      isInWord = !isSpace
    }
    return words
  }

  /// Most words that are looked at in one text.
  static let maximumWords = 32

  /// What a text is about, as a set: one of 64 bits for each of the first content words (of four letters
  /// or more, digits count as letters; in lower case).
  static func signature(_ text: String) -> UInt64 {
    var signature: UInt64 = 0
    var words = 0
    for word in text.lowercased().split(whereSeparator: { !$0.isLetter && !$0.isNumber })
    where word.count >= 4 {
      signature |= 1 << UInt64(hash(word) >> 26)
      words += 1
      if words == maximumWords { break }
    }
    return signature
  }

  /// 32-bit FNV-1a, its bits mixed (Murmur3's finaliser) so that every one of them can be used.
  static func hash(_ text: some StringProtocol) -> UInt32 {
    var hash: UInt32 = 2_166_136_261
    for byte in text.utf8 { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
    hash = (hash ^ (hash >> 16)) &* 0x85EB_CA6B
    hash = (hash ^ (hash >> 13)) &* 0xC2B2_AE35
    return hash ^ (hash >> 16)
  }

  /// The longest beginning of whole characters in so many bytes.
  static func beginning(of text: String, bytes: Int) -> String {
    guard text.utf8.count > bytes else { return text }
    var result = ""
    var left = bytes - 1
    for character in text {
      left -= character.utf8.count
      if left < 0 { break }
      result.append(character)
    }
    return result + "."
  }
}
