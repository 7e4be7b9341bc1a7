// Damaged, absurd and unsupported GGUF files: a typed error each time, never a crash.

import Foundation
import LinearAlgebra
import RandomNumbers
import Testing

@testable import LanguageModel

@Suite("Hostile files")
struct HostileFileTests {
  private func problem(_ bytes: [UInt8]) throws -> GGUFError.Problem? {
    try TestModel.withFile(bytes) { path -> GGUFError.Problem? in
      do throws(GGUFError) {
        _ = try LlamaModel(GGUFFile(path: path))
        return nil
      } catch {
        #expect(error.path == path)
        #expect(error.description.contains(path))
        return error.problem
      }
    }
  }

  private func problem(_ change: (inout GGUFBuilder) -> Void) throws -> GGUFError.Problem? {
    var builder = TinyLlama().builder
    change(&builder)
    return try problem(builder.build().bytes)
  }

  @Test("The unchanged tiny file loads")
  func sound() throws { #expect(try problem { _ in } == nil) }

  @Test("A file cut short anywhere is refused")
  func truncation() throws {
    let (bytes, header) = TinyLlama().builder.build()
    // Every length of the first part, and a spread of the rest.
    let lengths =
      Array(0..<700) + stride(from: 700, to: header + 64, by: 97)
      + stride(from: header + 64, to: bytes.count - 1024, by: 40_009)
      // The last tensor is a norm of 1024 bytes, a multiple of the alignment: no padding follows.
      + [bytes.count - 1024, bytes.count - 1]
    for length in lengths {
      #expect(try problem(Array(bytes[..<length])) != nil, "cut to \(length) bytes")
    }
  }

  @Test("Something else than a file, and files of other kinds, are refused with the reason")
  func otherFiles() throws {
    #expect(throws: GGUFError.self) { try GGUFFile(path: "/nonexistent/model.gguf") }
    #expect(throws: GGUFError.self) { try GGUFFile(path: "/") }
    #expect(throws: GGUFError.self) { try GGUFFile(path: "/dev/zero") }
    #expect(try problem([]) == .notGGUF)
    #expect(try problem(Array("PK\u{3}\u{4}whatever this is".utf8)) == .notGGUF)
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    #expect(try problem(Array(pointer.utf8)) == .pointer)
    do {
      _ = try SafetensorsFile(data: Data(pointer.utf8), name: "w")
      Issue.record("taken")
    } catch { #expect("\(error)".contains("Git LFS"), "\(error)") }
    #expect(try problem { $0.version = 1 } == .unsupportedVersion(1))
    #expect(try problem { $0.version = 3 << 24 } == .unsupportedVersion(3 << 24))
  }

  @Test("Absurd counts, lengths and dimensions are refused before anything is allocated")
  func absurd() throws {
    func isAbsurd(_ change: (inout GGUFBuilder) -> Void) throws -> Bool {
      if case .absurd = try problem(change) { return true }
      return false
    }
    for count in [UInt64(1) << 60, .max, UInt64(Int64.max)] {
      #expect(try isAbsurd { $0.tensorCount = count })
      #expect(try isAbsurd { $0.keyCount = count })
      #expect(try isAbsurd { $0.tensors[3].shape[0] = count })
    }
    #expect(try isAbsurd { $0.tensors[3].shape = [1 << 32, 1 << 32, 1 << 32, 1 << 32] })
    #expect(try isAbsurd { $0.tensors[3].shape = [1 << 31, 1 << 31] })
    #expect(try isAbsurd { $0.tensors[3].shape = [0, 256] })
    #expect(try isAbsurd { $0.tensors[3].shape = [] })
    #expect(try isAbsurd { $0.tensors[3].shape = [1, 1, 1, 1, 1] })

    // A string longer than the file, an array that says 2^60, and arrays in arrays in arrays.
    func raw(_ value: [UInt8]) -> [UInt8] {
      Array("GGUF".utf8) + GGUFBuilder.bytes(UInt32(3)) + GGUFBuilder.bytes(UInt64(0))
        + GGUFBuilder.bytes(UInt64(1)) + GGUFBuilder.bytes("key") + value
        + [UInt8](repeating: 9, count: 64)
    }
    let string = GGUFBuilder.bytes(UInt32(8))
    let array = GGUFBuilder.bytes(UInt32(9))
    for length in [UInt64(1000), 1 << 24, 1 << 40, .max] {
      #expect(try problem(raw(string + GGUFBuilder.bytes(length))) != nil)
      for type in UInt32(0)...13 {
        #expect(
          try problem(raw(array + GGUFBuilder.bytes(type) + GGUFBuilder.bytes(length))) != nil)
      }
    }
    var nested: [UInt8] = []
    for _ in 0..<100_000 { nested += GGUFBuilder.bytes(UInt32(9)) + GGUFBuilder.bytes(UInt64(1)) }
    #expect(try problem(raw(array + nested)) != nil)
    #expect(
      try problem(raw(GGUFBuilder.bytes(UInt32(77)))) == .unknownValueType(key: "key", type: 77))
    #expect(
      try problem(raw(string + GGUFBuilder.bytes(UInt64(2)) + [0xFF, 0xFE]))
        == .invalidText(what: "the value of \"key\"", offset: 47))
  }

  @Test(
    "Tensors that lie outside, overlap the border, are misaligned, doubled or strange are refused")
  func tensors() throws {
    for offset in [UInt64(1) << 40, UInt64.max - 31, UInt64(Int64.max) - 31] {
      guard case .outsideFile(let name, _, _, _) = try problem({ $0.tensors[1].offset = offset })
      else {
        Issue.record("offset \(offset) was taken")
        continue
      }
      #expect(name == "blk.0.attn_norm.weight")
    }
    #expect(
      try problem { $0.tensors[1].offset = 33 }
        == .misaligned(tensor: "blk.0.attn_norm.weight", offset: 33, alignment: 32))
    #expect(
      try problem { $0.tensors[2].name = $0.tensors[1].name }
        == .duplicateTensor("blk.0.attn_norm.weight"))
    #expect(
      try problem { $0.tensors[1].offset = 32 }
        == .overlapping(tensor: "blk.0.attn_norm.weight", other: "token_embd.weight"))
    #expect(
      try problem { $0.tensors[1].type = 99 }
        == .unknownTensorType(tensor: "blk.0.attn_norm.weight", type: 99))
    #expect(
      try problem { $0.tensors[1].type = .max }
        == .unknownTensorType(tensor: "blk.0.attn_norm.weight", type: .max))
    #expect(
      try problem { $0.tensors[2].shape = [128, 512] }
        == .badShape(tensor: "blk.0.attn_q.weight", shape: [128, 512], expected: "[256, 256]"))
    #expect(
      try problem { $0.tensors[2].shape = [8, 8192] }
        == .badShape(
          tensor: "blk.0.attn_q.weight", shape: [8, 8192],
          expected: "rows of whole blocks of 32 for Q8_0"))
    #expect(
      try problem { $0.tensors.remove(at: 4) } == .missingTensor("blk.0.attn_v.weight"))
    #expect(
      try problem { $0.tensors.removeAll() } == .missingTensor("token_embd.weight"))
    #expect(
      try problem { $0.tensors[4].name = "blk.0.attn_v.bias" }
        == .unexpectedTensor("blk.0.attn_v.bias"))
  }

  @Test("Keys that are missing, doubled, of another type or do not fit each other are refused")
  func keys() throws {
    for key in [
      "general.architecture", "llama.block_count", "llama.context_length",
      "llama.embedding_length", "llama.feed_forward_length", "llama.attention.head_count",
      "llama.attention.layer_norm_rms_epsilon", "tokenizer.ggml.model", "tokenizer.ggml.tokens",
      "tokenizer.ggml.merges", "tokenizer.ggml.eos_token_id",
    ] {
      #expect(try problem { $0.set(key, nil) } == .missingKey(key))
      guard case .badValue(key, _, _) = try problem({ $0.set(key, .bool(true)) }) else {
        Issue.record("a boolean was taken for \(key)")
        continue
      }
    }
    #expect(
      try problem { $0.keys.append($0.keys[3]) } == .duplicateKey("llama.embedding_length"))
    func isBad(_ key: String, _ value: GGUFBuilder.Value) throws -> Bool {
      if case .badValue(key, _, _) = try problem({ $0.set(key, value) }) { return true }
      return false
    }
    #expect(try isBad("llama.attention.head_count", .uint32(3)))
    #expect(try isBad("llama.attention.head_count", .uint32(0)))
    #expect(try isBad("llama.attention.head_count_kv", .uint32(3)))
    #expect(try isBad("llama.attention.head_count_kv", .uint32(0)))
    #expect(try isBad("llama.rope.dimension_count", .uint32(32)))
    #expect(try isBad("llama.rope.freq_base", .float(.nan)))
    #expect(try isBad("llama.attention.layer_norm_rms_epsilon", .float(-1)))
    #expect(try isBad("llama.block_count", .uint32(.max)))
    #expect(try isBad("llama.vocab_size", .uint32(5)))
    #expect(try isBad("general.alignment", .uint32(0)))
    #expect(try isBad("general.alignment", .uint32(3)))
    #expect(try isBad("tokenizer.ggml.tokens", .strings(["a", "b"])))
    #expect(try isBad("tokenizer.ggml.token_type", .integers([1])))
    #expect(try isBad("tokenizer.ggml.merges", .strings(["no such merge"])))
    #expect(try isBad("tokenizer.ggml.eos_token_id", .uint32(262)))
    #expect(
      try problem { $0.set("llama.block_count", .uint32(3)) }
        == .missingTensor("blk.2.attn_norm.weight"))
    #expect(
      try problem { $0.set("general.architecture", .string("mamba")) }
        == .unsupported(
          what: "the architecture", found: "mamba", supported: "llama, qwen2, qwen3"))
    #expect(
      try problem { $0.set("tokenizer.ggml.model", .string("bert")) }
        == .unsupported(
          what: "the tokenizer model", found: "bert",
          supported: "gpt2 (byte-level BPE), llama (SentencePiece BPE)"))
    guard
      case .unsupported("the pre-tokenizer", "tekken", let supported) = try problem({
        $0.set("tokenizer.ggml.pre", .string("tekken"))
      })
    else {
      Issue.record("an unknown pre-tokenizer was taken")
      return
    }
    #expect(supported.contains("smollm"))
  }

  @Test("Thousands of files with random bytes changed load or are refused, and never crash")
  func fuzz() throws {
    let seed: UInt64 = 20_261_122
    var generator = SplitMix64(seed: seed)
    let (bytes, header) = TinyLlama().builder.build()
    let interesting: [UInt8] = [0, 1, 0x7F, 0x80, 0xFF]
    var refused = 0
    let url = FileManager.default.temporaryDirectory
      .appending(path: "oppu-fuzz-\(UUID().uuidString).gguf")
    defer { try? FileManager.default.removeItem(at: url) }
    for round in 0..<2000 {
      var changed = bytes
      for _ in 0..<(1 + generator.next() % 4) {
        let place = Int(generator.next() % UInt64(header))
        changed[place] =
          round % 2 == 0
          ? interesting[Int(generator.next() % 5)] : UInt8(truncatingIfNeeded: generator.next())
      }
      try Data(changed).write(to: url)
      do throws(GGUFError) {
        let model = try LlamaModel(GGUFFile(path: url.path))
        // A file that loads computes, whatever the numbers are.
        if round % 50 < 2 {
          _ = try? model.forward([
            Chunk(tokens: [1, 2, 3], cache: KVCache(for: model))
          ])
        }
      } catch {
        #expect(!error.description.isEmpty)
        refused += 1
      }
    }
    #expect(refused > 500, "seed \(seed)")
    print("Fuzzing: \(refused) of 2000 changed files refused, seed \(seed)")
  }
}
