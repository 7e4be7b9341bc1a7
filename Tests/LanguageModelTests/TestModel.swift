// The default model, and a tiny one of random weights that tests write themselves.

import Foundation
import LinearAlgebra
import RandomNumbers
import TestSupport

@testable import LanguageModel

enum TestModel {
  static var path: String { Paths.model }

  /// With exact products, for comparison with other implementations.
  static let shared = Result { try LlamaModel.load(path: path, precision: .float32) }
  /// As users have it.
  static let int8 = Result { try LlamaModel.load(path: path) }

  static func fixture(_ name: String) throws -> Data {
    let folder = Bundle.module.resourceURL?.appending(path: "Fixtures")
    return try Data(contentsOf: (folder ?? URL(filePath: ".")).appending(path: name))
  }

  /// Writes bytes to a new temporary file, calls the body with its path, and removes it.
  static func withFile<Value>(_ bytes: [UInt8], _ body: (String) throws -> Value) throws -> Value {
    let url = FileManager.default.temporaryDirectory
      .appending(path: "oppu-test-\(UUID().uuidString).gguf")
    try Data(bytes).write(to: url)
    defer { try? FileManager.default.removeItem(at: url) }
    return try body(url.path)
  }
}

/// A GGUF file in the making. Fields are open so that a test can make one of them wrong.
struct GGUFBuilder {
  enum Value {
    case uint32(UInt32)
    case float(Float)
    case bool(Bool)
    case string(String)
    case strings([String])
    case integers([Int32])
  }
  struct Tensor {
    var name: String
    var shape: [UInt64]
    var type: UInt32
    var bytes: [UInt8]
    var offset: UInt64?
  }
  var version: UInt32 = 3
  var keys: [(String, Value)] = []
  var tensors: [Tensor] = []
  var tensorCount: UInt64?
  var keyCount: UInt64?

  mutating func set(_ key: String, _ value: Value?) {
    let place = keys.firstIndex { $0.0 == key }
    if let place, let value {
      keys[place].1 = value
    } else if let place {
      keys.remove(at: place)
    } else if let value {
      keys.append((key, value))
    }
  }

  static func bytes<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    withUnsafeBytes(of: number.littleEndian) { Array($0) }
  }

  static func bytes(_ text: String) -> [UInt8] { bytes(UInt64(text.utf8.count)) + Array(text.utf8) }

  /// The file's bytes, and where each part of the header ends.
  func build() -> (bytes: [UInt8], header: Int) {
    var out = Array("GGUF".utf8) + Self.bytes(version)
    out += Self.bytes(tensorCount ?? UInt64(tensors.count))
    out += Self.bytes(keyCount ?? UInt64(keys.count))
    for (key, value) in keys {
      out += Self.bytes(key)
      switch value {
      case .uint32(let number): out += Self.bytes(UInt32(4)) + Self.bytes(number)
      case .float(let number): out += Self.bytes(UInt32(6)) + Self.bytes(number.bitPattern)
      case .bool(let flag): out += Self.bytes(UInt32(7)) + [flag ? 1 : 0]
      case .string(let text): out += Self.bytes(UInt32(8)) + Self.bytes(text)
      case .strings(let texts):
        out += Self.bytes(UInt32(9)) + Self.bytes(UInt32(8)) + Self.bytes(UInt64(texts.count))
        for text in texts { out += Self.bytes(text) }
      case .integers(let numbers):
        out += Self.bytes(UInt32(9)) + Self.bytes(UInt32(5)) + Self.bytes(UInt64(numbers.count))
        for number in numbers { out += Self.bytes(number) }
      }
    }
    var data: [UInt8] = []
    for tensor in tensors {
      out += Self.bytes(tensor.name) + Self.bytes(UInt32(tensor.shape.count))
      for length in tensor.shape { out += Self.bytes(length) }
      out += Self.bytes(tensor.type) + Self.bytes(tensor.offset ?? UInt64(data.count))
      data += tensor.bytes
      data += [UInt8](repeating: 0, count: (32 - data.count % 32) % 32)
    }
    let header = out.count
    out += [UInt8](repeating: 0, count: (32 - out.count % 32) % 32)
    return (out + data, header)
  }
}

/// A llama of two layers, width 256, four heads and two key-value heads, with random weights.
struct TinyLlama {
  static let width = 256
  static let feedForward = 512
  static let kvWidth = 128
  static let vocabulary = 262
  var builder = GGUFBuilder()

  /// The text tokens are the 256 bytes and three merges; three special tokens follow.
  init(type: WeightType = .q8_0, seed: UInt64 = 5) {
    var generator = SplitMix64(seed: seed)
    builder.set("general.architecture", .string("llama"))
    for (key, value) in [
      ("block_count", 2), ("context_length", 600), ("embedding_length", Self.width),
      ("feed_forward_length", Self.feedForward), ("attention.head_count", 4),
      ("attention.head_count_kv", 2), ("rope.dimension_count", 64),
    ] {
      builder.set("llama.\(key)", .uint32(UInt32(value)))
    }
    builder.set("llama.rope.freq_base", .float(10000))
    builder.set("llama.attention.layer_norm_rms_epsilon", .float(1e-5))
    builder.set("tokenizer.ggml.model", .string("gpt2"))
    builder.set("tokenizer.ggml.pre", .string("smollm"))
    let alphabet = ByteAlphabet()
    let tokens =
      alphabet.scalars.map { String($0) } + ["th", "the", "ing", "<|end|>", "<|start|>", "<|pad|>"]
    builder.set("tokenizer.ggml.tokens", .strings(tokens))
    builder.set(
      "tokenizer.ggml.token_type",
      .integers([Int32](repeating: 1, count: 259) + [Int32](repeating: 3, count: 3)))
    builder.set("tokenizer.ggml.merges", .strings(["t h", "th e"]))
    builder.set("tokenizer.ggml.bos_token_id", .uint32(260))
    builder.set("tokenizer.ggml.eos_token_id", .uint32(259))

    func add(_ name: String, _ columns: Int, _ rows: Int) {
      let bytes = randomBlocks(type, count: columns * rows, using: &generator)
      builder.tensors.append(
        GGUFBuilder.Tensor(
          name: name, shape: [UInt64(columns), UInt64(rows)], type: UInt32(type.rawValue),
          bytes: bytes))
    }
    func addNorm(_ name: String) {
      let values = (0..<Self.width).map { _ in 1 + generator.nextUniform() * 0.2 }
      builder.tensors.append(
        GGUFBuilder.Tensor(
          name: name, shape: [UInt64(Self.width)], type: 0, bytes: Self.bytes(values)))
    }
    add("token_embd.weight", Self.width, Self.vocabulary)
    for layer in 0..<2 {
      addNorm("blk.\(layer).attn_norm.weight")
      add("blk.\(layer).attn_q.weight", Self.width, Self.width)
      add("blk.\(layer).attn_k.weight", Self.width, Self.kvWidth)
      add("blk.\(layer).attn_v.weight", Self.width, Self.kvWidth)
      add("blk.\(layer).attn_output.weight", Self.width, Self.width)
      addNorm("blk.\(layer).ffn_norm.weight")
      add("blk.\(layer).ffn_gate.weight", Self.width, Self.feedForward)
      add("blk.\(layer).ffn_up.weight", Self.width, Self.feedForward)
      add("blk.\(layer).ffn_down.weight", Self.feedForward, Self.width)
    }
    addNorm("output_norm.weight")
  }

  static func bytes(_ values: [Float]) -> [UInt8] {
    values.flatMap { value in withUnsafeBytes(of: value) { Array($0) } }
  }

  func load(precision: ProductPrecision = .float32) throws -> LlamaModel {
    try TestModel.withFile(builder.build().bytes) {
      try LlamaModel.load(path: $0, precision: precision)
    }
  }
}

/// Random bytes of `count` weights whose scales are small numbers.
func randomBlocks(
  _ type: WeightType, count: Int, using generator: inout SplitMix64
) -> [UInt8] {
  var bytes: [UInt8] = []
  func append(half value: Float) { bytes += GGUFBuilder.bytes(Float16(value).bitPattern) }
  func appendRandom(_ count: Int) {
    for _ in 0..<count { bytes.append(UInt8.random(in: 0...255, using: &generator)) }
  }
  for _ in 0..<count / type.blockLength {
    let scale = generator.nextUniform() * 0.1
    switch type {
    case .f32: bytes += GGUFBuilder.bytes(scale.bitPattern)
    case .f16: append(half: scale)
    case .bf16: bytes += GGUFBuilder.bytes(UInt16(scale.bitPattern >> 16))
    case .q4_0:
      append(half: scale * 0.1)
      appendRandom(16)
    case .q4_1:
      append(half: scale * 0.1)
      append(half: -scale * 0.75)
      appendRandom(16)
    case .q5_0:
      append(half: scale * 0.05)
      appendRandom(20)
    case .q5_1:
      append(half: scale * 0.05)
      append(half: -scale * 0.75)
      appendRandom(20)
    case .q8_0:
      append(half: scale * 0.01)
      appendRandom(32)
    case .q4_K:
      append(half: scale * 0.003)
      append(half: scale * 0.02)
      appendRandom(140)
    case .q5_K:
      append(half: scale * 0.0015)
      append(half: scale * 0.02)
      appendRandom(172)
    case .q6_K:
      appendRandom(208)
      append(half: scale * 0.0005)
    }
  }
  return bytes
}
