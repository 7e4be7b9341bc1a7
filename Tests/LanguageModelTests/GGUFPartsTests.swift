// GGUF models in several files, and files that leave open how their tokenizer cuts text.

import Foundation
import Testing

@testable import LanguageModel

@Suite("GGUF models in parts, and older files")
struct GGUFPartsTests {
  /// A folder of the test's own.
  private func withFolder<Value>(_ body: (URL) throws -> Value) throws -> Value {
    let folder = FileManager.default.temporaryDirectory
      .appending(path: "oppu-parts-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try body(folder)
  }

  /// The model as gguf-split cuts it: the metadata in the first part, each part with its number.
  private func parts(_ model: TinyLlama, _ count: Int) -> [GGUFBuilder] {
    let tensors = model.builder.tensors
    return (0..<count).map { number in
      var part = number == 0 ? model.builder : GGUFBuilder()
      part.tensors = tensors.enumerated().filter { $0.offset % count == number }.map(\.element)
      part.set("split.no", .uint32(UInt32(number)))
      part.set("split.count", .uint32(UInt32(count)))
      part.set("split.tensors.count", .uint32(UInt32(tensors.count)))
      return part
    }
  }

  private func name(_ number: Int, _ count: Int) -> String {
    String(format: "tiny-%05d-of-%05d.gguf", number + 1, count)
  }

  @Test("all parts of a model are read together, whichever is named")
  func together() throws {
    let model = TinyLlama()
    let whole = try model.load()
    let tokens = whole.tokenizer.encode("the end")
    try withFolder { folder in
      for (number, part) in parts(model, 3).enumerated() {
        try Data(part.build().bytes).write(to: folder.appending(path: name(number, 3)))
      }
      let loaded = try (0..<3).map {
        try LlamaModel.load(path: folder.appending(path: name($0, 3)).path, precision: .float32)
      }
      for model in loaded {
        #expect(try model.losses(of: tokens) == whole.losses(of: tokens))
        #expect(model.fingerprint == loaded[0].fingerprint)
      }
    }
  }

  @Test("a missing part is named, and so is a name by which the others cannot be found")
  func missing() throws {
    let cut = parts(TinyLlama(), 2)
    func problem(_ files: [(String, GGUFBuilder)]) throws -> String {
      try withFolder { folder in
        for (name, part) in files {
          try Data(part.build().bytes).write(to: folder.appending(path: name))
        }
        do {
          _ = try LlamaModel.load(path: folder.appending(path: files[0].0).path)
          return "loaded"
        } catch { return "\(error)" }
      }
    }
    #expect(
      try problem([(name(0, 2), cut[0])]).hasSuffix(
        "is part 1 of 2; part 2, tiny-00002-of-00002.gguf, is not in its folder."))
    #expect(try problem([("model.gguf", cut[0])]).contains("must end in -00001-of-00002.gguf"))
    #expect(
      try problem([(name(0, 2), cut[0]), (name(1, 2), cut[0])]).contains("as its name says"))
    var twice = cut[1]
    twice.tensors.append(cut[0].tensors[0])
    #expect(
      try problem([(name(0, 2), cut[0]), (name(1, 2), twice)]).contains("split.tensors.count"))
    var short = cut[0]
    short.set("split.tensors.count", nil)
    #expect(try problem([(name(0, 2), short), (name(1, 2), twice)]).contains("twice"))
    short.set("split.count", .uint32(5_000))
    #expect(try problem([(name(0, 2), short)]).contains("at most 1024"))
    #expect(try problem([(name(0, 2), cut[0]), (name(1, 2), cut[1])]) == "loaded")
  }

  @Test(
    "a file that does not say how text is cut is noted; Llama 3's tokens tell that it is Llama 3's")
  func cutting() throws {
    var model = TinyLlama()
    model.builder.set("tokenizer.ggml.pre", .string("smollm"))
    #expect(try model.load().tokenizer.notes.isEmpty)
    model.builder.set("tokenizer.ggml.pre", nil)
    let plain = try model.load().tokenizer
    #expect(plain.preTokenizer == .byteLevel)
    #expect(plain.notes.count == 1 && plain.notes[0].contains("tokenizer.ggml.pre"))

    let tokens = model.builder.keys.first { $0.0 == "tokenizer.ggml.tokens" }?.1
    guard case .strings(var names)? = tokens else { return }
    names.replaceSubrange(
      names.count - 3..<names.count - 1, with: ["<|end_of_text|>", "<|begin_of_text|>"])
    model.builder.set("tokenizer.ggml.tokens", .strings(names))
    let old = try model.load().tokenizer
    model.builder.set("tokenizer.ggml.pre", .string("llama-bpe"))
    let known = try model.load().tokenizer
    #expect(old.preTokenizer == .llama3 && old.addsBOS)
    for text in ["In 12345 days, we'll see", "  x\n\ny"] {
      #expect(old.encode(text) == known.encode(text))
    }
    #expect(old.notes.count == 1 && old.notes[0].contains("Llama 3"))
    #expect(known.notes.isEmpty)
  }

  @Test("a rotation base that is written without a point is taken")
  func wholeBase() throws {
    var model = TinyLlama()
    let tokens = try model.load().tokenizer.encode("the end")
    let losses = try model.load().losses(of: tokens)
    model.builder.set("llama.rope.freq_base", .uint32(10_000))
    #expect(try model.load().losses(of: tokens) == losses)
  }
}
