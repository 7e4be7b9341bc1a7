// The tokenizer that a GGUF file carries.

extension Tokenizer {
  /// Reads the tokenizer of a GGUF file: `tokenizer.ggml.model` is `gpt2` (byte-level BPE) or `llama`
  /// (SentencePiece BPE). Throws ``GGUFError``.
  init(_ file: GGUFFile, vocabulary: Int) throws(GGUFError) {
    let model = try file.string("tokenizer.ggml.model")
    guard model == "gpt2" || model == "llama" else {
      throw file.error(
        .unsupported(
          what: "the tokenizer model", found: model,
          supported: "gpt2 (byte-level BPE), llama (SentencePiece BPE)"))
    }
    let texts = try file.strings("tokenizer.ggml.tokens")
    guard texts.count == vocabulary else {
      throw file.error(
        .badValue(
          key: "tokenizer.ggml.tokens", found: "\(texts.count) tokens",
          expected: "one for each row of the embedding (\(vocabulary))"))
    }
    var types = [Int64](repeating: 1, count: vocabulary)
    if file.metadata["tokenizer.ggml.token_type"] != nil {
      types = try file.integers("tokenizer.ggml.token_type")
      guard types.count == vocabulary else {
        throw file.error(
          .badValue(
            key: "tokenizer.ggml.token_type", found: "\(types.count) types",
            expected: "one for each token (\(vocabulary))"))
      }
    }
    var tokens = TokenTable(capacity: vocabulary)
    // The last of several tokens with one text counts.
    for id in texts.indices.reversed() { tokens.insert(texts[id].utf8, Int32(id)) }

    if model == "gpt2" {
      try self.init(byteLevel: file, texts, types, tokens)
    } else {
      try self.init(sentencePiece: file, texts, types, tokens)
    }
  }

  /// ggml's numbers for kinds of token.
  private enum Kind {
    static let normal: Int64 = 1
    static let unknown: Int64 = 2
    static let control: Int64 = 3
    static let userDefined: Int64 = 4
    static let byte: Int64 = 6
  }

  private init(
    byteLevel file: GGUFFile, _ texts: [String], _ types: [Int64], _ tokens: TokenTable
  ) throws(GGUFError) {
    var notes: [String] = []
    let pre: String
    if file.metadata["tokenizer.ggml.pre"] != nil {
      pre = try file.string("tokenizer.ggml.pre")
    } else {
      // Files from before there was the key. Llama 3's tokens have names that no other has.
      let isLlama3 = ["<|begin_of_text|>", "<|end_of_text|>"].allSatisfy {
        tokens.find($0) != nil
      }
      pre = isLlama3 ? "llama-bpe" : "default"
      notes.append(
        "the file does not say how its tokenizer cuts text into pieces (tokenizer.ggml.pre); "
          + (isLlama3
            ? "by its tokens' names it is Llama 3's and is read so"
            : "GPT-2's rule is taken, which gives other tokens where the model learnt another; "
              + "convert it anew with a current llama.cpp"))
    }
    guard let preTokenizer = PreTokenizer(ggufName: pre) else {
      throw file.error(
        .unsupported(
          what: "the pre-tokenizer", found: pre,
          supported: PreTokenizer.ggufNames.joined(separator: ", ")))
    }
    let isSpecial = types.map { $0 == Kind.control || $0 == Kind.userDefined }
    let alphabet = ByteAlphabet()
    let bytes = texts.enumerated().map { id, text in
      isSpecial[id] ? Array(text.utf8) : alphabet.bytes(of: text)
    }
    var byteLevel = ByteLevel(
      preTokenizer: preTokenizer,
      byteTokens: (0..<256).map { tokens.find(String(alphabet.scalars[$0])) ?? -1 })
    if preTokenizer == .llama3 {
      var whole = TokenTable(capacity: texts.count)
      for id in texts.indices where types[id] == Kind.normal {
        whole.insert(bytes[id], Int32(id))
      }
      byteLevel.wholePieces = whole
    }

    let lines = try file.strings("tokenizer.ggml.merges")
    var merges = PairTable(capacity: lines.count)
    for (rank, line) in lines.enumerated() {
      let parts = line.utf8.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
      guard parts.count == 2, let left = tokens.find(Array(parts[0])),
        let right = tokens.find(Array(parts[1])),
        let merged = tokens.find(Array(parts[0]) + Array(parts[1]))
      else {
        throw file.error(
          .badValue(
            key: "tokenizer.ggml.merges", found: "\"\(line.prefix(64))\" at \(rank)",
            expected: "two tokens, with a space between, that join to a third"))
      }
      merges.insert(left, right, rank: Int32(rank), merged: merged)
    }
    var settings = try Settings(file, vocabulary: texts.count, addsBOS: preTokenizer == .llama3)
    settings.normalizer.composes = preTokenizer == .qwen2
    settings.notes = notes
    self.init(
      settings, scheme: .byteLevel(byteLevel), tokenBytes: bytes, isSpecial: isSpecial,
      merges: merges,
      specials: SpecialTokens(
        texts.indices.filter { isSpecial[$0] }.map { (bytes[$0], Int32($0)) }))
  }

  /// The longest SentencePiece token that merging can make; real ones have at most some dozen bytes.
  private static let longestPiece = 256

  private init(
    sentencePiece file: GGUFFile, _ texts: [String], _ types: [Int64], _ tokens: TokenTable
  ) throws(GGUFError) {
    guard file.metadata["tokenizer.ggml.precompiled_charsmap"] == nil else {
      throw file.error(
        .unsupported(
          what: "the text normalisation", found: "tokenizer.ggml.precompiled_charsmap",
          supported: "none"))
    }
    let scores = try file.floats("tokenizer.ggml.scores")
    guard scores.count == texts.count, scores.allSatisfy(\.isFinite) else {
      throw file.error(
        .badValue(
          key: "tokenizer.ggml.scores", found: "\(scores.count) scores",
          expected: "a number for each token (\(texts.count))"))
    }
    var byteTokens = [Int32](repeating: -1, count: 256)
    var pieces = TokenTable(capacity: texts.count)
    for (id, text) in texts.enumerated() {
      if types[id] == Kind.byte {
        guard let byte = SentencePiece.byte(text) else {
          throw file.error(
            .badValue(
              key: "tokenizer.ggml.tokens", found: "the byte token \"\(text.prefix(64))\"",
              expected: "one such as <0x0A>"))
        }
        byteTokens[Int(byte)] = Int32(id)
      } else if types[id] == Kind.normal {
        pieces.insert(text.utf8, Int32(id))
      }
    }
    guard !byteTokens.contains(-1) else {
      throw file.error(
        .badValue(
          key: "tokenizer.ggml.tokens", found: "no token for some bytes",
          expected: "<0x00> to <0xFF> of type \(Kind.byte)"))
    }

    // SentencePiece joins the neighbours whose union has the highest score: every way to cut a
    // token in two is a merge, and its rank is the token's place in the order of scores.
    let distinct = Set(scores).sorted(by: >)
    let ranks = Dictionary(
      uniqueKeysWithValues: distinct.enumerated().map { ($0.element, Int32($0.offset)) })
    var found: [(left: Int32, right: Int32, rank: Int32, merged: Int32)] = []
    for (id, text) in texts.enumerated() where types[id] == Kind.normal {
      let bytes = Array(text.utf8)
      guard bytes.count <= Self.longestPiece else {
        throw file.error(
          .absurd(
            what: "the length of a token", value: UInt64(bytes.count),
            limit: UInt64(Self.longestPiece)))
      }
      guard pieces.find(bytes) == Int32(id) else { continue }
      bytes.withUnsafeBufferPointer { bytes in
        for cut in bytes.indices.dropFirst() where bytes[cut] & 0xC0 != 0x80 {
          if let left = pieces.find(bytes[..<cut]), let right = pieces.find(bytes[cut...]) {
            found.append((left, right, ranks[scores[id]] ?? 0, Int32(id)))
          }
        }
      }
    }
    var merges = PairTable(capacity: found.count)
    for merge in found {
      merges.insert(merge.left, merge.right, rank: merge.rank, merged: merge.merged)
    }

    var settings = try Settings(file, vocabulary: texts.count, addsBOS: true)
    let prepends = file.metadata["tokenizer.ggml.add_space_prefix"] != .bool(false)
    settings.normalizer = TextNormalizer(prepends: prepends, replacesBlanks: true)
    settings.dropsFirstBlank = prepends
    let isSpecial = types.map {
      $0 == Kind.unknown || $0 == Kind.control || $0 == Kind.userDefined
    }
    self.init(
      settings,
      scheme: .sentencePiece(SentencePiece(tokens: pieces, byteTokens: byteTokens)),
      tokenBytes: texts.enumerated().map { id, text in
        types[id] == Kind.byte || !isSpecial[id] ? SentencePiece.bytes(of: text) : Array(text.utf8)
      },
      isSpecial: isSpecial, merges: merges,
      specials: SpecialTokens(
        texts.indices.filter { isSpecial[$0] }.map { (Array(texts[$0].utf8), Int32($0)) }))
  }
}

extension Tokenizer.Settings {
  /// The keys that both kinds of tokenizer have. `addsBOS` where the file does not say.
  fileprivate init(_ file: GGUFFile, vocabulary: Int, addsBOS: Bool) throws(GGUFError) {
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
    if let turn = try token("tokenizer.ggml.eot_token_id") { stopTokens.insert(turn) }
    if let message = try token("tokenizer.ggml.eom_token_id") { stopTokens.insert(message) }
    self.addsBOS = (file.metadata["tokenizer.ggml.add_bos_token"] ?? .bool(addsBOS)) == .bool(true)
    chatTemplate =
      file.metadata["tokenizer.chat_template"] == nil
      ? nil : try file.string("tokenizer.chat_template")
  }
}

extension GGUFFile {
  /// An array of texts that must be there.
  fileprivate func strings(_ key: String) throws(GGUFError) -> [String] {
    try array(key, of: "texts") { if case .string(let text) = $0 { text } else { nil } }
  }

  /// An array of numbers that must be there.
  fileprivate func floats(_ key: String) throws(GGUFError) -> [Double] {
    try array(key, of: "numbers") { if case .float(let number) = $0 { number } else { nil } }
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
