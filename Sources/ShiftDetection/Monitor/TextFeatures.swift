// Numbers that tell one way of writing, or one subject, from another.

/// Features of one text; every one is comparable between texts of different length.
enum TextFeatures {
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

  /// What a text is about: up to eight of its content words (of four letters or more, digits count as
  /// letters; in lower case), each as a byte from 1 to 255, none twice, the lowest byte first. Of more
  /// words those with the smallest hashes are taken, so that texts with the same words keep the same.
  static func contentWords(_ text: String) -> UInt64 {
    var smallest: [UInt32] = []
    for word in text.lowercased().split(whereSeparator: { !$0.isLetter && !$0.isNumber })
    where word.utf8.count >= 4 && word.count >= 4 {
      let hash = hash(word)
      guard smallest.count < ReferenceInputs.words || hash < smallest[smallest.count - 1] else {
        continue
      }
      let place = smallest.firstIndex { $0 >= hash } ?? smallest.count
      if place < smallest.count, smallest[place] == hash { continue }
      smallest.insert(hash, at: place)
      if smallest.count > ReferenceInputs.words { smallest.removeLast() }
    }
    var words: UInt64 = 0
    var count: UInt64 = 0
    for hash in smallest {
      let byte = UInt64(hash % 255) + 1
      var isKnown = false
      for place in 0..<count where words >> (8 * place) & 255 == byte { isKnown = true }
      if isKnown { continue }
      words |= byte << (8 * count)
      count += 1
    }
    return words
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
