// Cutting text into the pieces inside which bytes are merged.

/// How text is cut before merging, by hand instead of by the regular expressions that ``patterns``
/// holds.
public enum PreTokenizer: String, Sendable, Codable, CaseIterable {
  /// GPT-2's rule alone. transformers reads every GGUF file of the kind `gpt2` this way, `smollm`
  /// included, and PyTorch training on such a file sees these ids.
  case byteLevel
  /// Every digit a piece of its own first, then GPT-2's rule: what SmolLM2's own tokenizer.json and
  /// llama.cpp do. It differs where two or more blanks come before a digit.
  case digitsThenByteLevel
  /// Llama 3's rule: numbers in threes, contractions in either case, a letter run takes one
  /// character before it.
  case llama3
  /// Llama 3's rule with every number a piece of its own: Qwen 2, 2.5 and 3.
  case qwen2

  /// The values of `tokenizer.ggml.pre` that are known here.
  private static let rules: [String: PreTokenizer] = [
    "default": .byteLevel, "gpt-2": .byteLevel, "gpt2": .byteLevel, "smollm": .byteLevel,
    "llama-bpe": .llama3, "llama3": .llama3, "llama-v3": .llama3, "qwen2": .qwen2,
    "deepseek-r1-qwen": .qwen2,
  ]

  static var ggufNames: [String] { rules.keys.sorted() }

  /// The rule for a value of `tokenizer.ggml.pre`, nil for one not known here.
  init?(ggufName: String) {
    guard let rule = Self.rules[ggufName] else { return nil }
    self = rule
  }

  /// The regular expressions of tokenizer.json files and the rules that do the same.
  static let patterns: [String: PreTokenizer] = [
    #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#: .byteLevel,
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#:
      .llama3,
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#:
      .qwen2,
  ]

  /// Calls `body` with the byte range of each piece of UTF-8 text.
  func forEachPiece(
    of bytes: UnsafeBufferPointer<UInt8>, in range: Range<Int>, _ body: (Range<Int>) -> Void
  ) {
    switch self {
    case .byteLevel: Self.byteLevel(bytes, range, body)
    case .llama3: Self.llama3(bytes, range, longestNumber: 3, body)
    case .qwen2: Self.llama3(bytes, range, longestNumber: 1, body)
    case .digitsThenByteLevel:
      var start = range.lowerBound
      var position = start
      while position < range.upperBound {
        let (kind, length) = Self.classify(bytes, position, range.upperBound)
        if kind == .number {
          Self.byteLevel(bytes, start..<position, body)
          body(position..<position + length)
          start = position + length
        }
        position += length
      }
      Self.byteLevel(bytes, start..<range.upperBound, body)
    }
  }

  private enum Kind {
    case letter
    case number
    case space
    case other
  }

  private static func byteLevel(
    _ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ body: (Range<Int>) -> Void
  ) {
    let end = range.upperBound
    var start = range.lowerBound
    while start < end {
      if bytes[start] == UInt8(ascii: "'"), let length = contraction(bytes, start, end) {
        body(start..<start + length)
        start += length
        continue
      }
      var (kind, length) = classify(bytes, start, end)
      var position = start + length
      if bytes[start] == UInt8(ascii: " "), position < end {
        let following = classify(bytes, position, end)
        if following.kind != .space {
          kind = following.kind
          length = following.length
          position += length
        }
      }
      var lastStart = start
      while position < end {
        let following = classify(bytes, position, end)
        if following.kind != kind { break }
        lastStart = position
        position += following.length
      }
      // `\s+(?!\S)`: blanks before something else leave their last one to it, unless it is alone.
      if kind == .space, position < end, lastStart > start { position = lastStart }
      body(start..<position)
      start = position
    }
  }

  /// The expression's alternatives in their order, each as far as it reaches.
  private static func llama3(
    _ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, longestNumber: Int,
    _ body: (Range<Int>) -> Void
  ) {
    let end = range.upperBound
    /// The end of the run of a kind from a position on, of at most so many characters.
    func run(of kind: Kind, from start: Int, most: Int = .max) -> Int {
      var (position, count) = (start, 0)
      while position < end, count < most {
        let next = classify(bytes, position, end)
        if next.kind != kind { break }
        position += next.length
        count += 1
      }
      return position
    }
    func isNewline(_ position: Int) -> Bool {
      bytes[position] == UInt8(ascii: "\n") || bytes[position] == UInt8(ascii: "\r")
    }
    var start = range.lowerBound
    while start < end {
      let first = classify(bytes, start, end)
      let second = start + first.length
      let following = second < end ? classify(bytes, second, end).kind : nil
      var stop: Int
      if let length = anyCaseContraction(bytes, start, end) {
        stop = start + length
      } else if first.kind == .letter {
        stop = run(of: .letter, from: start)
      } else if following == .letter, first.kind != .number, !isNewline(start) {
        stop = run(of: .letter, from: second)
      } else if first.kind == .number {
        stop = run(of: .number, from: start, most: longestNumber)
      } else if first.kind == .other || (bytes[start] == UInt8(ascii: " ") && following == .other) {
        stop = run(of: .other, from: first.kind == .other ? start : second)
        while stop < end, isNewline(stop) { stop += 1 }
      } else {
        // Blanks: up to the last line break among them; else all but the last, which goes with what
        // follows, unless nothing does or it is alone.
        var (position, lastStart, lastBreak) = (start, start, start)
        while position < end {
          let next = classify(bytes, position, end)
          if next.kind != .space { break }
          lastStart = position
          position += next.length
          if isNewline(lastStart) { lastBreak = position }
        }
        stop =
          lastBreak > start ? lastBreak : position < end && lastStart > start ? lastStart : position
      }
      body(start..<stop)
      start = stop
    }
  }

  /// A contraction with letters of either case; the long s (ſ, U+017F) is an s in another case.
  private static func anyCaseContraction(
    _ bytes: UnsafeBufferPointer<UInt8>, _ start: Int, _ end: Int
  ) -> Int? {
    guard bytes[start] == UInt8(ascii: "'"), start + 1 < end else { return nil }
    let next = bytes[start + 1] | 0x20
    switch next {
    case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return 2
    default: break
    }
    guard start + 2 < end else { return nil }
    if bytes[start + 1] == 0xC5, bytes[start + 2] == 0xBF { return 3 }
    switch (next, bytes[start + 2] | 0x20) {
    case (UInt8(ascii: "r"), UInt8(ascii: "e")), (UInt8(ascii: "v"), UInt8(ascii: "e")),
      (UInt8(ascii: "l"), UInt8(ascii: "l")):
      return 3
    default: return nil
    }
  }

  private static func contraction(
    _ bytes: UnsafeBufferPointer<UInt8>, _ start: Int, _ end: Int
  ) -> Int? {
    guard start + 1 < end else { return nil }
    switch bytes[start + 1] {
    case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return 2
    default: break
    }
    guard start + 2 < end else { return nil }
    switch (bytes[start + 1], bytes[start + 2]) {
    case (UInt8(ascii: "r"), UInt8(ascii: "e")), (UInt8(ascii: "v"), UInt8(ascii: "e")),
      (UInt8(ascii: "l"), UInt8(ascii: "l")):
      return 3
    default: return nil
    }
  }

  /// The kind and length of the scalar at a position in valid UTF-8.
  private static func classify(
    _ bytes: UnsafeBufferPointer<UInt8>, _ position: Int, _ end: Int
  ) -> (kind: Kind, length: Int) {
    let first = bytes[position]
    if first < 0x80 {
      switch first {
      case 0x41...0x5A, 0x61...0x7A: return (.letter, 1)
      case 0x30...0x39: return (.number, 1)
      case 0x09...0x0D, 0x20: return (.space, 1)
      default: return (.other, 1)
      }
    }
    let length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2
    // Strings are valid UTF-8; a cut at a special token cannot fall inside a character.
    guard position + length <= end else { return (.other, end - position) }
    var value = UInt32(first) & (length == 4 ? 0x07 : length == 3 ? 0x0F : 0x1F)
    for offset in 1..<length { value = value << 6 | UInt32(bytes[position + offset] & 0x3F) }
    guard let scalar = Unicode.Scalar(value) else { return (.other, length) }
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
      return (.letter, length)
    case .decimalNumber, .letterNumber, .otherNumber: return (.number, length)
    default: return (scalar.properties.isWhitespace ? .space : .other, length)
    }
  }
}
