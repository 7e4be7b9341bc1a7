// Models of width 256 whose weights are made from a seed, here as in Fixtures/make_model_fixtures.py.

import LinearAlgebra

@testable import LanguageModel

struct SeededModel {
  var builder = GGUFBuilder()

  init(_ architecture: Architecture, _ type: WeightType) {
    // TinyLlama's tokenizer has as many tokens.
    let name = architecture.rawValue
    let headWidth = architecture == .qwen3 ? 64 : 32
    builder.keys = TinyLlama().builder.keys.filter { $0.0.hasPrefix("tokenizer.") }
    builder.set("general.architecture", .string(name))
    for (key, value) in [
      ("block_count", 2), ("context_length", 600), ("embedding_length", 256),
      ("feed_forward_length", 256), ("attention.head_count", 8), ("attention.head_count_kv", 4),
      ("attention.key_length", headWidth),
    ] {
      builder.set("\(name).\(key)", .uint32(UInt32(value)))
    }
    builder.set("\(name).attention.layer_norm_rms_epsilon", .float(1e-5))

    var shapes: [String: [Int]] = ["token_embd.weight": [256, 262], "output_norm.weight": [256]]
    let (queries, keys) = (8 * headWidth, 4 * headWidth)
    for layer in 0..<2 {
      let sizes: [(ModelTensor, [Int])] =
        [
          (.attentionNorm(layer: layer), [256]), (.feedForwardNorm(layer: layer), [256]),
          (.weight(.query, layer: layer), [256, queries]),
          (.weight(.key, layer: layer), [256, keys]),
          (.weight(.value, layer: layer), [256, keys]),
          (.weight(.output, layer: layer), [queries, 256]),
          (.weight(.gate, layer: layer), [256, 256]), (.weight(.up, layer: layer), [256, 256]),
          (.weight(.down, layer: layer), [256, 256]),
        ]
        + (architecture == .qwen2
          ? [
            (.bias(.query, layer: layer), [queries]), (.bias(.key, layer: layer), [keys]),
            (.bias(.value, layer: layer), [keys]),
          ] : [])
        + (architecture == .qwen3
          ? [(.queryNorm(layer: layer), [headWidth]), (.keyNorm(layer: layer), [headWidth])] : [])
      for (tensor, shape) in sizes { shapes[tensor.ggufName] = shape }
    }
    // Numbered in the order of their names; a llama's query and key rows then go into GGUF's order.
    for (number, name) in shapes.keys.sorted().enumerated() {
      guard let shape = shapes[name] else { continue }
      var bytes: [UInt8]
      if shape.count == 1 {
        let shift: Float = name.hasSuffix("bias") ? 1.5 : 0
        bytes = TinyLlama.bytes(
          Self.hashes(number, shape[0]).map {
            Float(bitPattern: $0 & 0x7FFFFF | 127 << 23) - shift
          })
      } else {
        bytes = Self.blocks(type, seed: number, count: shape[0] * shape[1])
        if architecture == .llama, name.contains("attn_q.") || name.contains("attn_k.") {
          bytes = Self.interleaved(bytes, rows: shape[1], headWidth: headWidth)
        }
      }
      builder.tensors.append(
        GGUFBuilder.Tensor(
          name: name, shape: shape.map(UInt64.init),
          type: shape.count == 1 ? 0 : UInt32(type.rawValue), bytes: bytes))
    }
  }

  func load() throws -> LlamaModel {
    try TestModel.withFile(builder.build().bytes) {
      try LlamaModel.load(path: $0, precision: .float32)
    }
  }

  private static func hashes(_ seed: Int, _ count: Int) -> [UInt32] {
    (0..<count).map { index in
      var x = UInt32(truncatingIfNeeded: index + seed * 1_000_003)
      for _ in 0..<2 { x = (x ^ (x >> 16)) &* 0x45D9F3B }
      return x ^ (x >> 16)
    }
  }

  private static func blocks(_ type: WeightType, seed: Int, count: Int) -> [UInt8] {
    if type == .f32 || type == .bf16 {
      let bits = hashes(seed, count).map { $0 & 0x807F_FFFF | 122 << 23 }
      return type == .f32
        ? bits.flatMap { GGUFBuilder.bytes($0) }
        : bits.flatMap { GGUFBuilder.bytes(UInt16($0 >> 16)) }
    }
    // Offset and exponent of each half-precision number, and whether it is negative (nil: random).
    let scales: [(Int, UInt8, Bool?)] =
      switch type {
      case .f32, .bf16: []
      case .f16: [(0, 10, nil)]
      case .q4_0: [(0, 9, nil)]
      case .q4_1: [(0, 9, false), (2, 12, true)]
      case .q5_0: [(0, 8, nil)]
      case .q5_1: [(0, 8, false), (2, 12, true)]
      case .q8_0: [(0, 5, nil)]
      case .q4_K: [(0, 3, false), (2, 6, false)]
      case .q5_K: [(0, 2, false), (2, 6, false)]
      case .q6_K: [(208, 1, nil)]
      }
    let size = type.blockBytes
    let blocks = count / type.blockLength
    var bytes = hashes(seed, blocks * size).map { UInt8(truncatingIfNeeded: $0 >> 9) }
    for start in stride(from: 0, to: bytes.count, by: size) {
      for (offset, exponent, isNegative) in scales {
        let high = bytes[start + offset + 1]
        let sign = isNegative.map { $0 ? 0x80 : 0 } ?? high & 0x80
        bytes[start + offset + 1] = high & 3 | exponent << 2 | sign
      }
    }
    return bytes
  }

  private static func interleaved(_ bytes: [UInt8], rows: Int, headWidth: Int) -> [UInt8] {
    let size = bytes.count / rows
    let half = headWidth / 2
    return (0..<rows).flatMap { row in
      let inside = row % headWidth
      let source = row - inside + inside % 2 * half + inside / 2
      return bytes[source * size..<(source + 1) * size]
    }
  }
}
