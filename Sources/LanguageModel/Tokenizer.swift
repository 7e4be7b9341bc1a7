// Text to token ids and back: the byte-level BPE tokenizer that a GGUF file carries.

/// A GPT-2 style byte-level BPE tokenizer (`tokenizer.ggml.model` = `gpt2`).
///
/// Text is cut at special tokens, then into pieces by ``PreTokenizer``; a piece's bytes are joined
/// by the file's merges, lowest rank first. Bytes that the vocabulary lacks are left out, as in
/// Hugging Face's tokenizers.
public struct Tokenizer: Sendable {
  /// The beginning-of-sequence token, nil where the file names none.
  public let bos: Int32?
  /// The end-of-text token.
  public let eos: Int32
  /// Whether ``encode(_:)`` begins with ``bos``, as the file asks.
  public let addsBOS: Bool
  /// How text is cut into pieces.
  public let preTokenizer: PreTokenizer
  /// The file's chat template (Jinja), not interpreted here.
  public let chatTemplate: String?

  private let tokenBytes: [[UInt8]]
  private let isSpecial: [Bool]
  private let byteTokens: [Int32]
  private let merges: PairTable
  /// Special tokens by first byte, longest first.
  private let specials: [UInt8: [Int32]]

  /// The number of token ids.
  public var vocabulary: Int { tokenBytes.count }

  /// Reads the tokenizer of a GGUF file. Throws ``GGUFError``.
  init(_ file: GGUFFile, vocabulary: Int) throws(GGUFError) {
    let model = try file.string("tokenizer.ggml.model")
    guard model == "gpt2" else {
      throw file.error(
        .unsupported(what: "the tokenizer model", found: model, supported: "gpt2"))
    }
    let pre =
      file.metadata["tokenizer.ggml.pre"] == nil
      ? "default" : try file.string("tokenizer.ggml.pre")
    guard let preTokenizer = PreTokenizer(ggufName: pre) else {
      throw file.error(
        .unsupported(
          what: "the pre-tokenizer", found: pre,
          supported: PreTokenizer.ggufNames.joined(separator: ", ")))
    }
    let texts = try file.strings("tokenizer.ggml.tokens")
    guard texts.count == vocabulary else {
      throw file.error(
        .badValue(
          key: "tokenizer.ggml.tokens", found: "\(texts.count) tokens",
          expected: "one for each row of the embedding (\(vocabulary))"))
    }
    var isSpecial = [Bool](repeating: false, count: vocabulary)
    if file.metadata["tokenizer.ggml.token_type"] != nil {
      let types = try file.integers("tokenizer.ggml.token_type")
      guard types.count == vocabulary else {
        throw file.error(
          .badValue(
            key: "tokenizer.ggml.token_type", found: "\(types.count) types",
            expected: "one for each token (\(vocabulary))"))
      }
      // 3 is ggml's number for control tokens, 4 for user-defined ones.
      isSpecial = types.map { $0 == 3 || $0 == 4 }
    }

    var ids: [String: Int32] = [:]
    ids.reserveCapacity(texts.count)
    for (id, text) in texts.enumerated() { ids[text] = Int32(id) }
    let alphabet = ByteAlphabet()
    tokenBytes = texts.enumerated().map { id, text in
      isSpecial[id] ? Array(text.utf8) : alphabet.bytes(of: text)
    }
    byteTokens = (0..<256).map { ids[String(alphabet.scalars[$0])] ?? -1 }

    let lines = try file.strings("tokenizer.ggml.merges")
    var merges = PairTable(capacity: lines.count)
    for (rank, line) in lines.enumerated() {
      let parts = line.split(separator: " ", omittingEmptySubsequences: false)
      guard parts.count == 2, let left = ids[String(parts[0])], let right = ids[String(parts[1])],
        let merged = ids[String(parts[0] + parts[1])]
      else {
        throw file.error(
          .badValue(
            key: "tokenizer.ggml.merges", found: "\"\(line.prefix(64))\" at \(rank)",
            expected: "two tokens, with a space between, that join to a third"))
      }
      merges.insert(left, right, rank: Int32(rank), merged: merged)
    }
    self.merges = merges

    var specials: [UInt8: [Int32]] = [:]
    for id in 0..<vocabulary where isSpecial[id] {
      if let first = tokenBytes[id].first { specials[first, default: []].append(Int32(id)) }
    }
    let tokenBytes = self.tokenBytes
    self.specials = specials.mapValues { list in
      list.sorted { tokenBytes[Int($0)].count > tokenBytes[Int($1)].count }
    }
    self.isSpecial = isSpecial
    self.preTokenizer = preTokenizer

    func token(_ key: String) throws(GGUFError) -> Int32? {
      guard let value = file.metadata[key] else { return nil }
      guard case .unsigned(let number) = value, number < UInt64(vocabulary) else {
        throw file.error(
          .badValue(key: key, found: value.summary, expected: "a token id below \(vocabulary)"))
      }
      return Int32(number)
    }
    bos = try token("tokenizer.ggml.bos_token_id")
    guard let eos = try token("tokenizer.ggml.eos_token_id") else {
      throw file.error(.missingKey("tokenizer.ggml.eos_token_id"))
    }
    self.eos = eos
    addsBOS = file.metadata["tokenizer.ggml.add_bos_token"] == .bool(true) && bos != nil
    chatTemplate =
      file.metadata["tokenizer.chat_template"] == nil
      ? nil : try file.string("tokenizer.chat_template")
  }

  private init(_ other: Tokenizer, preTokenizer: PreTokenizer) {
    bos = other.bos
    eos = other.eos
    addsBOS = other.addsBOS
    chatTemplate = other.chatTemplate
    tokenBytes = other.tokenBytes
    isSpecial = other.isSpecial
    byteTokens = other.byteTokens
    merges = other.merges
    specials = other.specials
    self.preTokenizer = preTokenizer
  }

  /// The same vocabulary and merges with another way to cut text into pieces.
  public func with(_ preTokenizer: PreTokenizer) -> Tokenizer {
    Tokenizer(self, preTokenizer: preTokenizer)
  }

  /// The token ids of a text. Special tokens written out in the text become themselves.
  public func encode(_ text: String) -> [Int32] {
    var text = text
    return text.withUTF8 { bytes in
      var ids: [Int32] = []
      ids.reserveCapacity(bytes.count / 3 + 1)
      if addsBOS, let bos { ids.append(bos) }
      var merger = Merger()
      var start = 0
      var position = 0
      while position < bytes.count {
        if let special = special(in: bytes, at: position) {
          encode(bytes, start..<position, &merger, &ids)
          ids.append(special)
          position += tokenBytes[Int(special)].count
          start = position
        } else {
          position += 1
        }
      }
      encode(bytes, start..<bytes.count, &merger, &ids)
      return ids
    }
  }

  private func special(in bytes: UnsafeBufferPointer<UInt8>, at position: Int) -> Int32? {
    guard let candidates = specials[bytes[position]] else { return nil }
    return candidates.first { id in
      let token = tokenBytes[Int(id)]
      return token.count <= bytes.count - position
        && token.indices.allSatisfy { bytes[position + $0] == token[$0] }
    }
  }

  private func encode(
    _ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ merger: inout Merger,
    _ ids: inout [Int32]
  ) {
    preTokenizer.forEachPiece(of: bytes, in: range) { piece in
      merger.start(piece.lazy.map { byteTokens[Int(bytes[$0])] })
      merger.merge(merges, into: &ids)
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
  /// Special tokens are written out unless they are to be skipped.
  public func decode(_ tokens: some Sequence<Int32>, skippingSpecial: Bool = false) -> String {
    var bytes: [UInt8] = []
    for token in tokens where !(skippingSpecial && isSpecial(token)) {
      bytes += self.bytes(of: token)
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Decodes tokens as they come: text is handed out once its characters are complete.
  public struct StreamDecoder: Sendable {
    private let tokenizer: Tokenizer
    private var pending: [UInt8] = []

    public init(_ tokenizer: Tokenizer) { self.tokenizer = tokenizer }

    /// The text that the token completes, maybe none.
    public mutating func append(_ token: Int32) -> String {
      pending += tokenizer.bytes(of: token)
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

extension GGUFFile {
  /// An array of texts that must be there.
  fileprivate func strings(_ key: String) throws(GGUFError) -> [String] {
    try array(key, of: "texts") { if case .string(let text) = $0 { text } else { nil } }
  }

  /// An array of whole numbers that must be there.
  fileprivate func integers(_ key: String) throws(GGUFError) -> [Int64] {
    try array(key, of: "whole numbers") {
      switch $0 {
      case .signed(let number): number
      case .unsigned(let number): Int64(exactly: number)
      default: nil
      }
    }
  }

  private func array<Element>(
    _ key: String, of kind: String, _ convert: (GGUFValue) -> Element?
  ) throws(GGUFError) -> [Element] {
    guard let value = metadata[key] else { throw error(.missingKey(key)) }
    guard case .array(let values) = value else {
      throw error(.badValue(key: key, found: value.summary, expected: "an array of \(kind)"))
    }
    let converted = values.compactMap(convert)
    guard converted.count == values.count else {
      throw error(.badValue(key: key, found: "another value", expected: "only \(kind)"))
    }
    return converted
  }
}
