// Text to token ids and back: byte-level and SentencePiece byte-pair encoding.

/// A byte-pair tokenizer, read from a GGUF file or a tokenizer.json.
///
/// Text is cut at special tokens and normalised. A byte-level tokenizer cuts it into pieces by its
/// ``PreTokenizer`` and begins with a token for each byte; a SentencePiece one writes ▁ for blanks
/// and begins with a token for each character, or for each byte of a character that it does not
/// know. Then merges join neighbours, lowest rank first. Bytes that a byte-level vocabulary lacks
/// are left out, as in Hugging Face's tokenizers.
public struct Tokenizer: Sendable {
  /// The beginning-of-sequence token, nil where the file names none.
  public let bos: Int32?
  /// The end-of-text token.
  public let eos: Int32
  /// Whether ``encode(_:)`` begins with ``bos``, as the file asks.
  public let addsBOS: Bool
  /// Tokens that end an answer: ``eos`` and others that the file names, such as an end of turn.
  public let stopTokens: Set<Int32>
  /// The file's chat template (Jinja), not interpreted here.
  public let chatTemplate: String?

  /// What the file leaves open and how it was taken, each a sentence without its beginning; mostly none.
  public let notes: [String]

  let scheme: Scheme
  let normalizer: TextNormalizer
  let tokenBytes: [[UInt8]]
  private let isSpecial: [Bool]
  private let merges: PairTable
  /// Tokens found in the text as it is, and those found in the normalised text.
  private let specials: SpecialTokens
  private let normalizedSpecials: SpecialTokens
  /// Those of them that only stand for their text, and control nothing.
  private let plainSpecials: SpecialTokens
  private let plainNormalizedSpecials: SpecialTokens
  /// Whether decoding leaves out the blank that encoding put before the text.
  private let dropsFirstBlank: Bool

  /// How a piece of text becomes the tokens that merging begins with.
  enum Scheme: Sendable {
    case byteLevel(ByteLevel)
    case sentencePiece(SentencePiece)
  }

  struct ByteLevel: Sendable {
    var preTokenizer: PreTokenizer
    /// The token of each byte, -1 where there is none.
    var byteTokens: [Int32]
    /// By their bytes, the tokens that a whole piece becomes without merging (`ignore_merges`).
    var wholePieces: TokenTable?
  }

  struct SentencePiece: Sendable {
    /// Nil where the normaliser does its work, as in Llama 2's tokenizer.json and in GGUF files.
    var metaspace: Metaspace?
    /// Tokens by their text.
    var tokens: TokenTable
    /// The token of each byte.
    var byteTokens: [Int32]
  }

  /// What a file says, apart from the vocabulary.
  struct Settings {
    var bos: Int32?
    var eos: Int32
    var addsBOS: Bool
    var stopTokens: Set<Int32> = []
    var chatTemplate: String?
    var normalizer = TextNormalizer()
    var dropsFirstBlank = false
    var notes: [String] = []
  }

  init(
    _ settings: Settings, scheme: Scheme, tokenBytes: [[UInt8]], isSpecial: [Bool],
    merges: PairTable, specials: SpecialTokens, normalizedSpecials: SpecialTokens = .init([])
  ) {
    bos = settings.bos
    eos = settings.eos
    addsBOS = settings.addsBOS && settings.bos != nil
    stopTokens = settings.stopTokens.union([settings.eos])
    chatTemplate = settings.chatTemplate
    notes = settings.notes
    normalizer = settings.normalizer
    dropsFirstBlank = settings.dropsFirstBlank
    self.scheme = scheme
    self.tokenBytes = tokenBytes
    self.isSpecial = isSpecial
    self.merges = merges
    self.specials = specials
    self.normalizedSpecials = normalizedSpecials
    func isPlain(_ text: [UInt8], _ id: Int32) -> Bool {
      !(Int(id) < isSpecial.count && isSpecial[Int(id)])
    }
    plainSpecials = specials.filter(isPlain)
    plainNormalizedSpecials = normalizedSpecials.filter(isPlain)
  }

  private init(_ other: Tokenizer, scheme: Scheme) {
    bos = other.bos
    eos = other.eos
    addsBOS = other.addsBOS
    stopTokens = other.stopTokens
    chatTemplate = other.chatTemplate
    notes = other.notes
    normalizer = other.normalizer
    dropsFirstBlank = other.dropsFirstBlank
    tokenBytes = other.tokenBytes
    isSpecial = other.isSpecial
    merges = other.merges
    specials = other.specials
    normalizedSpecials = other.normalizedSpecials
    plainSpecials = other.plainSpecials
    plainNormalizedSpecials = other.plainNormalizedSpecials
    self.scheme = scheme
  }

  /// The number of token ids.
  public var vocabulary: Int { tokenBytes.count }

  /// How text is cut into pieces; nil in a SentencePiece tokenizer.
  public var preTokenizer: PreTokenizer? {
    if case .byteLevel(let scheme) = scheme { scheme.preTokenizer } else { nil }
  }

  /// The same vocabulary and merges with another way to cut text into pieces. A SentencePiece
  /// tokenizer has none and stays as it is.
  public func with(_ preTokenizer: PreTokenizer) -> Tokenizer {
    guard case .byteLevel(var scheme) = scheme else { return self }
    scheme.preTokenizer = preTokenizer
    return Tokenizer(self, scheme: .byteLevel(scheme))
  }

  /// The token that every text begins with; nil where the tokenizer puts none there.
  public var beginning: Int32? { addsBOS ? bos : nil }

  /// The token ids of a text whose author may control the model: special tokens written out in it
  /// become themselves.
  /// - Parameter isContinuation: see ``encodeContinuation(_:)``.
  public func encode(_ text: String, isContinuation: Bool = false) -> [Int32] {
    encode(text, isContinuation: isContinuation, specials, normalizedSpecials)
  }

  /// The token ids of a text that holds what users wrote: a special token's name in it is text like any
  /// other, but for those of `controls`.
  public func encodeText(_ text: String, controls: Set<String> = []) -> [Int32] {
    guard !controls.isEmpty else {
      return encode(text, isContinuation: false, plainSpecials, plainNormalizedSpecials)
    }
    func isTaken(_ name: [UInt8], _ id: Int32) -> Bool {
      !isSpecial(id) || controls.contains(String(decoding: name, as: UTF8.self))
    }
    return encode(
      text, isContinuation: false, specials.filter(isTaken), normalizedSpecials.filter(isTaken))
  }

  /// The token ids of a user's text that goes on after other tokens: without ``bos``, and without the
  /// blank that SentencePiece puts before a text. A special token's name in it is text.
  public func encodeContinuation(_ text: String) -> [Int32] {
    encode(text, isContinuation: true, plainSpecials, plainNormalizedSpecials)
  }

  private func encode(
    _ text: String, isContinuation: Bool, _ specials: SpecialTokens,
    _ normalizedSpecials: SpecialTokens
  ) -> [Int32] {
    var text = text
    return text.withUTF8 { bytes in
      var ids: [Int32] = []
      ids.reserveCapacity(bytes.count / 3 + 1)
      if addsBOS, !isContinuation, let bos { ids.append(bos) }
      var merger = Merger()
      specials.split(bytes) { range in
        let isFirst = range.lowerBound == 0
        let normalized = normalizer.apply(
          bytes[range], isContinuation: isContinuation && isFirst)
        guard let normalized else {
          return encode(
            UnsafeBufferPointer(rebasing: bytes[range]), isBeginning: isFirst && !isContinuation,
            normalizedSpecials, &merger, &ids)
        }
        normalized.withUnsafeBufferPointer {
          encode(
            $0, isBeginning: isFirst && !isContinuation, normalizedSpecials, &merger, &ids)
        }
      } token: {
        ids.append($0)
      }
      return ids
    }
  }

  /// Normalised text without tokens of `specials`.
  private func encode(
    _ bytes: UnsafeBufferPointer<UInt8>, isBeginning: Bool, _ normalizedSpecials: SpecialTokens,
    _ merger: inout Merger, _ ids: inout [Int32]
  ) {
    normalizedSpecials.split(bytes) { range in
      switch scheme {
      case .byteLevel(let scheme):
        scheme.preTokenizer.forEachPiece(of: bytes, in: range) { piece in
          if let whole = scheme.wholePieces?.find(bytes[piece]) {
            ids.append(whole)
          } else {
            merger.start(piece.lazy.map { scheme.byteTokens[Int(bytes[$0])] })
            merger.merge(merges, into: &ids)
          }
        }
      case .sentencePiece(let scheme):
        guard let metaspace = scheme.metaspace else {
          merger.start(scheme.characters(of: bytes[range]))
          return merger.merge(merges, into: &ids)
        }
        let text = metaspace.apply(
          bytes[range], isBeginning: isBeginning && range.lowerBound == 0)
        metaspace.forEachPiece(text) { piece in
          text.withUnsafeBufferPointer { merger.start(scheme.characters(of: $0[piece])) }
          merger.merge(merges, into: &ids)
        }
      }
    } token: {
      ids.append($0)
    }
  }

  /// The bytes that a token stands for; empty for ids outside the vocabulary.
  public func bytes(of token: Int32) -> [UInt8] {
    token >= 0 && Int(token) < tokenBytes.count ? tokenBytes[Int(token)] : []
  }

  /// Whether the id is that of a special token such as `<|im_end|>`.
  public func isSpecial(_ token: Int32) -> Bool {
    token >= 0 && Int(token) < isSpecial.count && isSpecial[Int(token)]
  }

  /// The text of tokens. Bytes that are not UTF-8, as when a character is cut in two, become U+FFFD.
  /// Special tokens are written out unless they are to be skipped. Of a SentencePiece tokenizer's
  /// text the first blank is left out, because encoding put it there.
  public func decode(_ tokens: some Sequence<Int32>, skippingSpecial: Bool = false) -> String {
    var bytes: [UInt8] = []
    for token in tokens where !(skippingSpecial && isSpecial(token)) {
      bytes += self.bytes(of: token)
    }
    if dropsFirstBlank, bytes.first == UInt8(ascii: " ") { bytes.removeFirst() }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Decodes tokens as they come: text is handed out once its characters are complete.
  public struct StreamDecoder: Sendable {
    private let tokenizer: Tokenizer
    private var pending: [UInt8] = []
    private var isFirst = true

    public init(_ tokenizer: Tokenizer) { self.tokenizer = tokenizer }

    /// The text that the token completes, maybe none.
    public mutating func append(_ token: Int32) -> String {
      var bytes = tokenizer.bytes(of: token)
      if isFirst, tokenizer.dropsFirstBlank, bytes.first == UInt8(ascii: " ") {
        bytes.removeFirst()
      }
      isFirst = false
      pending += bytes
      let complete = pending.count - Self.incompleteTail(pending)
      defer { pending.removeFirst(complete) }
      return String(decoding: pending[..<complete], as: UTF8.self)
    }

    /// What is left at the end, with U+FFFD for an incomplete character.
    public mutating func finish() -> String {
      defer { pending = [] }
      return String(decoding: pending, as: UTF8.self)
    }

    /// The length of a beginning of a UTF-8 sequence at the end of the bytes.
    private static func incompleteTail(_ bytes: [UInt8]) -> Int {
      for length in 1..<4 where length <= bytes.count {
        let byte = bytes[bytes.count - length]
        if byte & 0xC0 == 0x80 { continue }
        let needed = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1
        return needed > length ? length : 0
      }
      return 0
    }
  }
}

extension Tokenizer.SentencePiece {
  /// The tokens of the characters of valid UTF-8, or of their bytes where there is none.
  func characters(of bytes: Slice<UnsafeBufferPointer<UInt8>>) -> [Int32] {
    var ids: [Int32] = []
    ids.reserveCapacity(bytes.count)
    var position = bytes.startIndex
    while position < bytes.endIndex {
      let first = bytes[position]
      let length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1
      let end = min(position + length, bytes.endIndex)
      if let id = tokens.find(bytes[position..<end]) {
        ids.append(id)
      } else {
        for byte in bytes[position..<end] { ids.append(byteTokens[Int(byte)]) }
      }
      position = end
    }
    return ids
  }

  /// The byte of a token such as `<0x0A>`.
  static func byte(_ text: String) -> UInt8? {
    let bytes = Array(text.utf8)
    guard bytes.count == 6, text.hasPrefix("<0x"), text.hasSuffix(">") else { return nil }
    return UInt8(String(decoding: bytes[3..<5], as: UTF8.self), radix: 16)
  }

  /// What a token's text stands for: blanks for blocks, the byte of a byte token.
  static func bytes(of text: String) -> [UInt8] {
    if let byte = byte(text) { return [byte] }
    let bytes = Array(text.utf8)
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count)
    var position = 0
    while position < bytes.count {
      if bytes[position...].starts(with: TextNormalizer.block) {
        result.append(UInt8(ascii: " "))
        position += 3
      } else {
        result.append(bytes[position])
        position += 1
      }
    }
    return result
  }
}

/// GPT-2's stand-ins for bytes: printable Latin-1 characters for themselves, characters from U+0100
/// on for the rest.
struct ByteAlphabet {
  let scalars: [Character]
  private var byteOfScalar: [UInt32: UInt8] = [:]

  init() {
    var scalars: [Character] = []
    var next: UInt32 = 256
    for byte in UInt32(0)..<256 {
      let isPrintable =
        (33...126).contains(byte) || (161...172).contains(byte) || (174...255).contains(byte)
      let value = isPrintable ? byte : next
      if !isPrintable { next += 1 }
      // Values up to 323 are all scalars; the fallback is never taken.
      scalars.append(Character(Unicode.Scalar(value) ?? " "))
      byteOfScalar[value] = UInt8(byte)
    }
    self.scalars = scalars
  }

  /// The bytes that a token's text stands for; its own UTF-8 where a character is no stand-in.
  func bytes(of text: String) -> [UInt8] {
    var bytes: [UInt8] = []
    for scalar in text.unicodeScalars {
      guard let byte = byteOfScalar[scalar.value] else { return Array(text.utf8) }
      bytes.append(byte)
    }
    return bytes
  }
}
