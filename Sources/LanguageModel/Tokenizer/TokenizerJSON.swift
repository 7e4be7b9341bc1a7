// The tokenizer of a Hugging Face folder: tokenizer.json and what stands beside it.

import JSON

/// tokenizer.json as far as byte-pair tokenizers go. Whatever would change a token id and is not
/// known here is refused with what is supported.
struct TokenizerJSON {
  let root: JSONObject
  /// Texts of the model's tokens and of the added ones, by id; nil where an id is not used.
  private var texts: [String?]
  private var ids: TokenTable
  private var added: [(id: Int32, text: String, isSpecial: Bool, isNormalized: Bool)] = []

  private static let supported =
    "byte-level BPE with the pre-tokenizers of GPT-2, SmolLM, Llama 3 and Qwen 2, and SentencePiece "
    + "BPE with byte fallback (Llama 2, Mistral)"

  /// - Parameter vocabulary: rows of the embedding, which may be more than there are tokens.
  init(_ root: JSONObject, vocabulary: Int) throws(ModelFileError) {
    self.root = root
    guard let model = try root.object("model"), let entries = try model.object("vocab"),
      try model.string("type") ?? "BPE" == "BPE"
    else { throw Self.unsupported(root, "another model than BPE", "model") }
    texts = [String?](repeating: nil, count: vocabulary)
    let extra = try root.objects("added_tokens") ?? []
    ids = TokenTable(capacity: entries.count + extra.count)
    try entries.forEachMember { key, value throws(ModelFileError) in
      guard case .number(let number) = value, let id = Int32(exactly: number),
        (0..<vocabulary).contains(Int(id))
      else { throw entries.bad(key, value, "a token id below \(vocabulary)") }
      guard texts[Int(id)] == nil, ids.insert(key.utf8, id) else {
        throw entries.bad(key, value, "each token and each id once")
      }
      texts[Int(id)] = key
    }
    for token in extra {
      guard let text = try token.string("content"),
        let id = try token.integer("id", in: 0...vocabulary - 1)
      else {
        throw ModelFileError(
          file: root.file, problem: "has \(token.path) without \"content\" or \"id\"")
      }
      for key in ["lstrip", "rstrip", "single_word"] where try token.bool(key) ?? false {
        throw Self.unsupported(root, "\"\(key)\": true", token.path)
      }
      guard texts[id] == nil || texts[id]?.utf8.elementsEqual(text.utf8) == true else {
        throw token.bad("id", .number(Double(id)), "an id that no other token has")
      }
      texts[id] = text
      ids.insert(text.utf8, Int32(id))
      added.append(
        (
          Int32(id), text, isSpecial: try token.bool("special") ?? false,
          isNormalized: try token.bool("normalized") ?? false
        ))
    }
  }

  private static func unsupported(_ root: JSONObject, _ found: String, _ where: String)
    -> ModelFileError
  {
    ModelFileError(
      file: root.file, problem: "has \(found) in \"\(`where`)\"; supported: \(supported)")
  }

  /// The id of a token by its text.
  func id(_ text: String) -> Int32? { ids.find(text) }

  /// The tokenizer. `settings` come from the files beside this one; its bos is used where the
  /// post-processor names none.
  func tokenizer(_ settings: Tokenizer.Settings) throws(ModelFileError) -> Tokenizer {
    var settings = settings
    let model = try root.object("model") ?? root
    for key in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"] {
      switch model.value(key) {
      case nil, .number(0), .string(""): break
      default: throw Self.unsupported(root, "a value", model.name(key))
      }
    }
    settings.normalizer = try normalizer()
    let cutting = try cutting()
    settings.addsBOS = false
    if let first = try templatePrefix() {
      settings.bos = first
      settings.addsBOS = true
    }
    let isByteLevel: Bool
    switch (cutting.preTokenizer, try model.bool("byte_fallback") ?? false) {
    case (.some, false): isByteLevel = true
    case (nil, true): isByteLevel = false
    default: throw Self.unsupported(root, "this \"pre_tokenizer\" with this model", "model")
    }

    let addedIDs = Set(added.map(\.id))
    /// An added token's bytes in the text where it is looked for.
    func bytes(of token: (id: Int32, text: String, isSpecial: Bool, isNormalized: Bool)) -> [UInt8]
    {
      let bytes = Array(token.text.utf8)
      let changed =
        token.isNormalized
        ? bytes.withUnsafeBufferPointer {
          settings.normalizer.apply($0[...], isContinuation: false)
        } : nil
      return changed ?? bytes
    }
    let alphabet = ByteAlphabet()
    var tokenBytes: [[UInt8]] = texts.enumerated().map { id, text in
      guard let text else { return [] }
      if addedIDs.contains(Int32(id)) { return [] }
      return isByteLevel ? alphabet.bytes(of: text) : Tokenizer.SentencePiece.bytes(of: text)
    }
    for token in added {
      // Decoding gives back what normalisation put before the token's text.
      let text = String(decoding: bytes(of: token), as: UTF8.self)
      tokenBytes[Int(token.id)] =
        token.isNormalized && !isByteLevel
        ? Tokenizer.SentencePiece.bytes(of: text) : Array(token.text.utf8)
    }
    let scheme: Tokenizer.Scheme
    if isByteLevel, let preTokenizer = cutting.preTokenizer {
      var byteLevel = Tokenizer.ByteLevel(
        preTokenizer: preTokenizer,
        byteTokens: alphabet.scalars.map { ids.find(String($0)) ?? -1 })
      if byteLevel.byteTokens.contains(-1), model.value("unk_token") != nil {
        throw Self.unsupported(root, "an unknown token and bytes without a token", "model")
      }
      if try model.bool("ignore_merges") ?? false {
        var whole = TokenTable(capacity: texts.count)
        for id in texts.indices where texts[id] != nil && !addedIDs.contains(Int32(id)) {
          whole.insert(tokenBytes[id], Int32(id))
        }
        byteLevel.wholePieces = whole
      }
      scheme = .byteLevel(byteLevel)
    } else {
      let byteTokens = (0..<256).map { byte -> Int32 in
        let digits = String(byte, radix: 16, uppercase: true)
        return ids.find("<0x\(digits.count == 1 ? "0" : "")\(digits)>") ?? -1
      }
      guard !byteTokens.contains(-1) else {
        throw Self.unsupported(root, "no token for some bytes", "model.vocab")
      }
      if try model.bool("ignore_merges") ?? false {
        throw Self.unsupported(root, "\"ignore_merges\": true with byte fallback", "model")
      }
      scheme = .sentencePiece(
        Tokenizer.SentencePiece(metaspace: cutting.metaspace, tokens: ids, byteTokens: byteTokens))
      settings.dropsFirstBlank =
        settings.normalizer.prepends || cutting.metaspace.map { $0.prefix != .never } ?? false
    }
    func specials(normalized: Bool) -> SpecialTokens {
      SpecialTokens(
        added.filter { $0.isNormalized == normalized }.map { (bytes(of: $0), $0.id) })
    }
    var isSpecial = [Bool](repeating: false, count: texts.count)
    for token in added where token.isSpecial { isSpecial[Int(token.id)] = true }
    return Tokenizer(
      settings, scheme: scheme, tokenBytes: tokenBytes, isSpecial: isSpecial,
      merges: try merges(model), specials: specials(normalized: false),
      normalizedSpecials: specials(normalized: true))
  }

  /// Merges as "left right" or as ["left", "right"].
  private func merges(_ model: JSONObject) throws(ModelFileError) -> PairTable {
    let lines = try model.array("merges") ?? []
    var merges = PairTable(capacity: lines.count)
    for (rank, line) in lines.enumerated() {
      var parts: [[UInt8]] = []
      switch line {
      case .string(let text):
        parts = text.utf8.split(
          separator: UInt8(ascii: " "), omittingEmptySubsequences: false
        ).map(Array.init)
      case .array(let values):
        for case .string(let text) in values { parts.append(Array(text.utf8)) }
      default: break
      }
      guard parts.count == 2, let left = ids.find(parts[0]), let right = ids.find(parts[1]),
        let merged = ids.find(parts[0] + parts[1])
      else {
        throw model.bad("merges", line, "two tokens at \(rank) that join to a third")
      }
      merges.insert(left, right, rank: Int32(rank), merged: merged)
    }
    return merges
  }

  /// A part and, where it is a sequence, its parts in order.
  private func parts(
    _ key: String, _ listKey: String
  ) throws(ModelFileError) -> [(type: String, object: JSONObject)] {
    guard let object = try root.object(key) else { return [] }
    var parts: [(String, JSONObject)] = []
    let type = try object.string("type") ?? ""
    guard type == "Sequence" else { return [(type, object)] }
    for part in try object.objects(listKey) ?? [] {
      parts.append((try part.string("type") ?? "", part))
    }
    return parts
  }

  private func refusal(_ type: String, _ object: JSONObject) -> ModelFileError {
    Self.unsupported(root, "the step \"\(type)\" as it is there", object.path)
  }

  private func normalizer() throws(ModelFileError) -> TextNormalizer {
    var result = TextNormalizer()
    let block = String(decoding: TextNormalizer.block, as: UTF8.self)
    for (type, object) in try parts("normalizer", "normalizers") {
      switch type {
      case "NFC" where result == TextNormalizer(): result.composes = true
      case "Prepend" where result == TextNormalizer():
        guard try object.string("prepend") == block else { throw refusal(type, object) }
        result.prepends = true
      case "Replace" where !result.replacesBlanks && !result.composes:
        guard try object.object("pattern")?.string("String") == " ",
          try object.string("content") == block
        else { throw refusal(type, object) }
        result.replacesBlanks = true
      default: throw refusal(type, object)
      }
    }
    return result
  }

  private func cutting() throws(ModelFileError) -> (
    preTokenizer: PreTokenizer?, metaspace: Metaspace?
  ) {
    let parts = try parts("pre_tokenizer", "pretokenizers")
    func refusal(at index: Int) -> ModelFileError {
      self.refusal(parts[index].type, parts[index].object)
    }
    /// Whether a part is ByteLevel, alone or after another that did the cutting.
    func isByteLevel(_ index: Int, cuts: Bool) throws(ModelFileError) -> Bool {
      let object = parts[index].object
      let prefix = try object.bool("add_prefix_space") ?? true
      let usesPattern = try object.bool("use_regex") ?? true
      return parts[index].type == "ByteLevel" && !prefix && usesPattern == cuts
    }
    switch parts.map(\.type) {
    case []: return (nil, nil)
    case ["Metaspace"]:
      let object = parts[0].object
      let block = String(decoding: TextNormalizer.block, as: UTF8.self)
      var name = try object.string("prepend_scheme") ?? "always"
      if try object.bool("add_prefix_space") == false { name = "never" }
      guard try object.string("replacement") ?? block == block,
        let prefix = Metaspace.Prefix(rawValue: name)
      else { throw refusal(at: 0) }
      return (nil, Metaspace(prefix: prefix, splits: try object.bool("split") ?? true))
    case ["ByteLevel"]:
      guard try isByteLevel(0, cuts: true) else { throw refusal(at: 0) }
      return (.byteLevel, nil)
    case ["Digits", "ByteLevel"]:
      guard try parts[0].object.bool("individual_digits") ?? false else { throw refusal(at: 0) }
      guard try isByteLevel(1, cuts: true) else { throw refusal(at: 1) }
      return (.digitsThenByteLevel, nil)
    case ["Split", "ByteLevel"]:
      let object = parts[0].object
      guard let pattern = try object.object("pattern")?.string("Regex"),
        let rule = PreTokenizer.patterns[pattern],
        try object.string("behavior") == "Isolated", try object.bool("invert") != true
      else { throw refusal(at: 0) }
      guard try isByteLevel(1, cuts: false) else { throw refusal(at: 1) }
      return (rule, nil)
    default:
      throw Self.unsupported(
        root, "the steps \(parts.map(\.type).joined(separator: ", "))", "pre_tokenizer")
    }
  }

  /// The token that the post-processor puts before a text.
  private func templatePrefix() throws(ModelFileError) -> Int32? {
    var found: Int32?
    for (type, object) in try parts("post_processor", "processors") {
      switch type {
      case "ByteLevel": continue
      case "TemplateProcessing":
        let pieces = try object.objects("single") ?? []
        let name = try pieces.first?.object("SpecialToken")?.string("id")
        guard pieces.count == (name == nil ? 1 : 2), try pieces.last?.object("Sequence") != nil
        else {
          throw Self.unsupported(root, "another template than [bos] text", object.name("single"))
        }
        guard let name else { continue }
        guard let id = id(name) else {
          throw object.bad("single", .string(name), "a token of the vocabulary")
        }
        found = id
      default: throw Self.unsupported(root, "the step \"\(type)\"", object.path)
      }
    }
    return found
  }
}
