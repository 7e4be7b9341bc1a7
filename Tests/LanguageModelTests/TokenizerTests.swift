// The tokenizers of each family, from tokenizer.json and from GGUF, against the tokenizers library.

import Foundation
import JSON
import Testing

@testable import LanguageModel

private struct Row: Decodable {
  let text: String
  var ids: [String: [Int32]] = [:]
  var decoded: [String: String] = [:]

  private struct Key: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: Key.self)
    text = try values.decode(String.self, forKey: Key(stringValue: "text"))
    for key in values.allKeys where key.stringValue != "text" {
      if key.stringValue.hasSuffix("_decoded") {
        decoded[String(key.stringValue.dropLast(8))] = try values.decode(String.self, forKey: key)
      } else {
        ids[key.stringValue] = try values.decode([Int32].self, forKey: key)
      }
    }
  }
}

@Suite("Tokenizers")
struct TokenizerTests {
  private static let rows = Result {
    try TestModel.fixture("models/tokens.jsonl").split(separator: UInt8(ascii: "\n")).dropFirst()
      .map { try JSONDecoder().decode(Row.self, from: $0) }
  }

  private static func tokenizer(_ name: String) throws -> Tokenizer {
    if name != "gpt2" { return try LlamaModel.load(path: ModelFixtures.path(name)).tokenizer }
    let json = try JSONObject(path: ModelFixtures.path("gpt2.tokenizer.json"))
    return try TokenizerJSON(json, vocabulary: 400).tokenizer(
      Tokenizer.Settings(eos: 0, addsBOS: false))
  }

  @Test(
    "400 texts have the ids that the tokenizers library gives, and decode as it decodes",
    arguments: ["llama2", "llama3", "mistral", "smollm", "qwen2", "gpt2"])
  func folders(name: String) throws {
    let tokenizer = try Self.tokenizer(name)
    let rows = try Self.rows.get()
    #expect(rows.count == 400)
    for row in rows {
      let expected = try #require(row.ids[name])
      #expect(tokenizer.encode(row.text) == expected, "\(row.text.debugDescription)")
      let plain = tokenizer.addsBOS ? Array(expected.dropFirst()) : expected
      let text = row.decoded[name] ?? row.text
      #expect(
        tokenizer.decode(plain).unicodeScalars.elementsEqual(text.unicodeScalars),
        "\(row.text.debugDescription)")
      var stream = Tokenizer.StreamDecoder(tokenizer)
      let pieces = plain.map { stream.append($0) }.joined() + stream.finish()
      #expect(pieces.unicodeScalars.elementsEqual(text.unicodeScalars))
    }
  }

  @Test(
    "A GGUF file's tokenizer gives the same ids as the folder's",
    arguments: ["llama2", "llama3", "qwen2", "qwen3"])
  func gguf(name: String) throws {
    let gguf = try LlamaModel.load(path: ModelFixtures.path(name + ".gguf")).tokenizer
    let folder = try LlamaModel.load(path: ModelFixtures.path(name)).tokenizer
    for row in try Self.rows.get() {
      // GGUF does not say that Llama 2's <unk> is looked for after normalisation only.
      if name == "llama2", row.text.contains("<unk>") { continue }
      #expect(gguf.encode(row.text) == folder.encode(row.text), "\(row.text.debugDescription)")
    }
    #expect(gguf.addsBOS == folder.addsBOS)
    #expect(gguf.bos == folder.bos)
  }

  @Test("Text that goes on has neither a beginning-of-sequence token nor SentencePiece's blank")
  func continuation() throws {
    let llama = try Self.tokenizer("llama2")
    #expect(llama.encode("the end").first == llama.bos)
    #expect(llama.decode(llama.encode("a") + llama.encodeContinuation("b c")).hasSuffix("ab c"))
    let qwen = try Self.tokenizer("qwen2")
    #expect(qwen.encodeContinuation("the end") == qwen.encode("the end"))
  }

  @Test("JSON is read strictly, and what is wrong is named")
  func json() throws {
    func read(_ text: String) throws -> JSONObject {
      let memory = NSData(data: Data(text.utf8))
      return try JSONObject(
        UnsafeRawBufferPointer(start: memory.bytes, count: memory.length), of: memory,
        file: "x.json")
    }
    let object = try read(
      #" {"a": [1, -2.5e3, true, null], "é": "\u00e9\ud83d\ude00\n", "e\u0301": {"b": false}} "#)
    #expect(try object.array("a") == [.number(1), .number(-2500), .bool(true), .null])
    #expect(try object.string("é") == "é😀\n")
    #expect(try object.object("e\u{301}")?.bool("b") == false)
    #expect(object.value("b") == nil)
    for text in [
      "", "[]", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\":1}x", "{\"a\":\"\u{1}\"}",
      #"{"a":"\ud800"}"#, #"{"a":"\x"}"#, "{\"a\":tru}", "{\"a\":NaN}", "{\"a\":1e999}",
      "{\"a\":" + String(repeating: "[", count: 100_000),
    ] {
      #expect(throws: ModelFileError.self) { try read(text) }
    }
    // Also where it is not asked for: two readers would see two files.
    #expect(throws: ModelFileError.self) { try read("{\"a\":1,\"b\":{\"c\":1,\"c\":2}}") }
  }

  @Test(
    "In a user's text the name of a special token is text, and other text is what it always was")
  func usersText() throws {
    let tokenizer = try TestModel.int8.get().tokenizer
    let names = (0..<Int32(tokenizer.vocabulary)).filter(tokenizer.isSpecial)
      .map { tokenizer.decode([$0]) }
    #expect(names.contains("<|im_end|>"))
    for name in names {
      for text in [name, "a\(name)b", "\(name)\(name)", "x \(name)\n"] {
        for tokens in [tokenizer.encodeText(text), tokenizer.encodeContinuation(text)] {
          #expect(!tokens.contains(where: tokenizer.isSpecial), "\(text)")
          #expect(tokenizer.decode(tokens) == text)
        }
      }
    }
    let allowed = tokenizer.encodeText("a<|im_end|>b<|im_start|>", controls: ["<|im_end|>"])
    #expect(allowed.filter(tokenizer.isSpecial) == tokenizer.encode("<|im_end|>"))
    for text in ["", "Film: The Bridge (1995)\nTag:", "naïve  <b>x</b> [1] €\u{1F600}"] {
      #expect(tokenizer.encodeText(text) == tokenizer.encode(text))
    }
  }
}
