// LoRA adapters as GGUF files.

import Foundation
import LinearAlgebra
import Testing

@testable import LanguageModel

@Suite("GGUF adapters")
struct GGUFAdapterTests {
  @Test("A LoRA adapter written as GGUF reads back the same, whatever its scaling")
  func roundTrip() throws {
    let model = try TinyLlama().load()
    let layers = AdapterTests.factors(
      model.configuration, rank: 3, targets: [.query, .key, .value, .down], dora: false, seed: 2)
    for rankStabilized in [false, true] {
      let adapter = try Adapter(
        rank: 3, alpha: 5, targets: [.query, .key, .value, .down], rankStabilized: rankStabilized,
        layers: layers, configuration: model.configuration)
      let data = try GGUFAdapter.encode(adapter, configuration: model.configuration)
      let again = try TestModel.withFile(Array(data)) {
        try GGUFAdapter.read(path: $0, configuration: model.configuration)
      }
      let settings = try #require(again.lora)
      #expect(settings.targets == adapter.lora?.targets && settings.rank == 3)
      #expect(abs(settings.scaling - (adapter.lora?.scaling ?? 0)) < 1e-6)
      for layer in 0..<2 {
        for projection in settings.targets {
          let (a, b) = (
            try #require(adapter.factors(layer: layer, projection)),
            try #require(again.factors(layer: layer, projection))
          )
          #expect(a.a.array == b.a.array && a.b.array == b.b.array)
        }
      }
    }
  }

  @Test("An adapter of another base model is refused where its file names that")
  func otherBase() throws {
    let model = try TinyLlama().load()
    let adapter = try Adapter(
      rank: 1, alpha: 1, targets: [.query],
      layers: AdapterTests.factors(
        model.configuration, rank: 1, targets: [.query], dora: false, seed: 2),
      configuration: model.configuration)
    let data = try GGUFAdapter.encode(
      adapter, configuration: model.configuration, fingerprint: model.fingerprint)
    try TestModel.withFile(Array(data)) { path in
      _ = try GGUFAdapter.read(
        path: path, configuration: model.configuration, fingerprint: model.fingerprint)
      do {
        _ = try GGUFAdapter.read(
          path: path, configuration: model.configuration, fingerprint: "0123456789abcdef")
        Issue.record("taken")
      } catch let error as AdapterError {
        #expect(error.description.contains("\(model.fingerprint.prefix(12))…"))
        #expect(error.description.contains("0123456789ab…"))
      }
    }
  }

  @Test("GGUF's order of a query's rows is that of the base model's file")
  func order() throws {
    // B is the query weights' first columns as the file has them: read as an adapter, its rows must be
    // those of the loaded matrix.
    let tiny = TinyLlama(type: .f32)
    let model = try tiny.load()
    let tensor = try #require(tiny.builder.tensors.first { $0.name == "blk.0.attn_q.weight" })
    let weights = tensor.bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    var writer = GGUFWriter()
    writer.set("general.architecture", .string("llama"))
    writer.set("general.type", .string("adapter"))
    writer.set("adapter.type", .string("lora"))
    writer.set("adapter.lora.alpha", .float(1))
    for layer in 0..<2 {
      let name = "blk.\(layer).attn_q.weight"
      writer.add(name + ".lora_a", shape: [256, 1], values: [Float](repeating: 1, count: 256))
      writer.add(name + ".lora_b", shape: [1, 256], values: (0..<256).map { weights[$0 * 256] })
    }
    let adapter = try TestModel.withFile(Array(writer.encode())) {
      try GGUFAdapter.read(path: $0, configuration: model.configuration)
    }
    let row = FloatBuffer(uninitialized: 256)
    for index in 0..<256 {
      model.layers[0][.query].expand(rows: index..<index + 1, into: row.pointer)
      #expect(adapter.factors(layer: 0, .query)?.b.pointer[index] == row.pointer[0])
    }
  }

  @Test("Adapters that GGUF cannot hold, and files that are no adapter of the model, are refused")
  func refusals() throws {
    let model = try TinyLlama().load()
    let configuration = model.configuration
    for adapter in [
      try AdapterTests.dora(model, seed: 1), try AdapterTests.ia3(model, seed: 1),
      try AdapterTests.prompt(model, [1]),
    ] {
      #expect(throws: AdapterError.self) {
        try GGUFAdapter.encode(adapter, configuration: configuration)
      }
    }
    func problem(_ change: (inout [(String, GGUFValue)], inout [(String, [Int])]) -> Void) throws
      -> String
    {
      var keys: [(String, GGUFValue)] = [
        ("general.architecture", .string("llama")), ("general.type", .string("adapter")),
        ("adapter.type", .string("lora")), ("adapter.lora.alpha", .float(2)),
      ]
      var tensors: [(String, [Int])] = [
        ("blk.0.attn_q.weight.lora_a", [256, 2]), ("blk.0.attn_q.weight.lora_b", [2, 256]),
        ("blk.1.attn_q.weight.lora_a", [256, 2]), ("blk.1.attn_q.weight.lora_b", [2, 256]),
      ]
      change(&keys, &tensors)
      var writer = GGUFWriter()
      for (key, value) in keys { writer.set(key, value) }
      for (name, shape) in tensors {
        writer.add(name, shape: shape, values: [Float](repeating: 1, count: shape.reduce(1, *)))
      }
      return try TestModel.withFile(Array(writer.encode())) { path in
        do {
          _ = try GGUFAdapter.read(path: path, configuration: configuration)
          return "accepted"
        } catch { return "\(error)" }
      }
    }
    #expect(try problem { _, _ in } == "accepted")
    #expect(try problem { keys, _ in keys[0].1 = .string("qwen2") }.contains("qwen2"))
    #expect(try problem { keys, _ in keys[1].1 = .string("model") }.contains("general.type"))
    #expect(try problem { keys, _ in keys.removeLast() }.contains("adapter.lora.alpha"))
    #expect(try problem { keys, _ in keys[3].1 = .float(.nan) }.contains("adapter.lora.alpha"))
    #expect(try problem { _, tensors in tensors.remove(at: 1) }.contains("attn_q.weight.lora_b"))
    #expect(try problem { _, tensors in tensors.removeLast(2) }.contains("Layer 1"))
    #expect(try problem { _, tensors in tensors[2].1 = [256, 3] }.contains("[256, 3]"))
    #expect(try problem { _, tensors in tensors[3].1 = [2, 128] }.contains("[2, 128]"))
    #expect(
      try problem { _, tensors in tensors.append(("output.weight.lora_a", [256, 2])) }
        .contains("output.weight.lora_a"))
    #expect(try problem { _, tensors in tensors = [] }.contains("no adapted"))
  }
}
