// Every architecture, weight type and kind of file against transformers. Fixtures/make_model_fixtures.py
// made the truth.

import Foundation
import LinearAlgebra
import Testing

@testable import LanguageModel

enum ModelFixtures {
  static let folder = (Bundle.module.resourceURL ?? URL(filePath: "."))
    .appending(path: "Fixtures/models")
  static let names = ["llama2", "llama3", "mistral", "smollm", "qwen2", "qwen3"]

  static func path(_ name: String) -> String { folder.appending(path: name).path }

  /// Copies a model folder to a temporary place, changes it, and removes it after the body.
  static func withCopy<Value>(
    of name: String, _ body: (URL) throws -> Value
  ) throws -> Value {
    let url = FileManager.default.temporaryDirectory
      .appending(path: "oppu-test-\(UUID().uuidString)")
    try FileManager.default.copyItem(at: folder.appending(path: name), to: url)
    defer { try? FileManager.default.removeItem(at: url) }
    return try body(url)
  }
}

private struct FolderLogits: Decodable {
  struct Model: Decodable {
    let inputs: [[Int32]]
    let folder: [[Float]]
    let gguf: [[Float]]
    let ggufType: String
  }
  let models: [String: Model]
}

private struct TypeLogits: Decodable {
  struct Row: Decodable {
    let architecture: String
    let type: String
    let ids: [Int32]
    let logits: [Float]
  }
  let rows: [Row]
}

/// The largest difference from every `stride`-th logit of the last position, relative to the largest
/// of them.
private func difference(
  _ model: LlamaModel, _ ids: [Int32], _ expected: [Float], stride: Int
) throws -> Float {
  let logits = try model.forward([Chunk(tokens: ids, cache: KVCache(for: model))])
  let last = logits[0][0]
  let scale = expected.reduce(1) { max($0, abs($1)) }
  var worst: Float = 0
  for (index, value) in expected.enumerated() {
    worst = max(worst, abs(last[index * stride] - value) / scale)
  }
  return worst
}

@Suite("Architectures")
struct ArchitectureTests {
  @Test(
    "A folder and a GGUF file of each architecture have the logits that transformers computes",
    arguments: ModelFixtures.names)
  func files(name: String) throws {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let fixture = try decoder.decode(
      FolderLogits.self, from: TestModel.fixture("models/logits.json"))
    let truth = try #require(fixture.models[name])
    let folder = try LlamaModel.load(path: ModelFixtures.path(name), precision: .float32)
    let gguf = try LlamaModel.load(
      path: ModelFixtures.path(name + ".gguf"), precision: .float32)
    var worst: Float = 0
    for (ids, expected) in zip(truth.inputs, truth.folder) {
      worst = max(worst, try difference(folder, ids, expected, stride: 7))
    }
    for (ids, expected) in zip(truth.inputs, truth.gguf) {
      worst = max(worst, try difference(gguf, ids, expected, stride: 7))
    }
    #expect(worst < 2e-4, "relative to the largest logit")
    print("\(name): largest difference from transformers \(worst)")
    #expect(gguf.layers[0][.up].type.name == truth.ggufType)
    #expect(gguf.configuration.architecture == folder.configuration.architecture)
    #expect(gguf.configuration.contextLength == folder.configuration.contextLength)
    #expect(folder.tokenizer.eos == gguf.tokenizer.eos)
  }

  @Test("Every weight type of every architecture has the logits that transformers computes")
  func types() throws {
    let rows = try JSONDecoder().decode(
      TypeLogits.self, from: TestModel.fixture("models/types.json")
    ).rows
    #expect(Set(rows.map(\.type)) == Set(WeightType.allCases.map(\.name)))
    #expect(Set(rows.map(\.architecture)) == Set(Architecture.allCases.map(\.rawValue)))
    var models: [String: LlamaModel] = [:]
    var worst: Float = 0
    for row in rows {
      let architecture = try #require(Architecture(rawValue: row.architecture))
      let type = try #require(WeightType.allCases.first { $0.name == row.type })
      let key = "\(architecture) \(type)"
      let model = try models[key] ?? SeededModel(architecture, type).load()
      models[key] = model
      let found = try difference(model, row.ids, row.logits, stride: 16)
      #expect(found < 2e-4, "\(key), \(row.ids.count) tokens")
      worst = max(worst, found)
    }
    print("Weight types: largest difference from transformers \(worst)")
  }

  @Test("A sliding window ends the context where it would begin to hide positions")
  func slidingWindow() throws {
    for path in ["mistral", "mistral.gguf"] {
      let model = try LlamaModel.load(path: ModelFixtures.path(path))
      #expect(model.configuration.slidingWindow == 64)
      #expect(throws: InferenceError.contextExceeded(positions: 65, contextLength: 64)) {
        try model.forward([
          Chunk(
            tokens: [Int32](repeating: 5, count: 65), cache: KVCache(for: model))
        ])
      }
    }
  }

  @Test("A folder's fingerprint is that of its files' hashes and changes with each of them")
  func fingerprint() throws {
    try ModelFixtures.withCopy(of: "llama2") { url in
      let first = try LlamaModel.load(path: url.path)
      #expect(first.fingerprint.count == 64)
      #expect(
        try LlamaModel.load(path: ModelFixtures.path("llama2")).fingerprint == first.fingerprint)
      let process = Process()
      process.executableURL = URL(filePath: "/bin/sh")
      process.currentDirectoryURL = url
      process.arguments = [
        "-c", "LC_ALL=C sha256sum config.json model*.safetensors tokenizer.json | sha256sum",
      ]
      let pipe = Pipe()
      process.standardOutput = pipe
      try process.run()
      let said = String(
        decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      #expect(said.prefix(64) == first.fingerprint)
      let config = url.appending(path: "config.json")
      try (Data(contentsOf: config) + Data("\n".utf8)).write(to: config)
      #expect(try LlamaModel.load(path: url.path).fingerprint != first.fingerprint)
    }
  }

  @Test("What a folder has that is not supported is refused with the key and what is supported")
  func refusals() throws {
    func problem(
      _ name: String, _ file: String, _ old: String, _ new: String
    ) throws -> ModelFileError? {
      try ModelFixtures.withCopy(of: name) { url in
        let place = url.appending(path: file)
        let text = try String(contentsOf: place, encoding: .utf8)
        #expect(text.contains(old), "\(old)")
        try text.replacingOccurrences(of: old, with: new)
          .write(to: place, atomically: true, encoding: .utf8)
        do {
          _ = try LlamaModel.load(path: url.path)
          return nil
        } catch {
          return error as? ModelFileError
        }
      }
    }
    for (name, file, old, new, expected) in [
      ("llama3", "config.json", "\"llama\"", "\"gemma\"", "llama, mistral, qwen2, qwen3"),
      ("llama3", "config.json", "\"llama3\"", "\"longrope\"", "default, linear, llama3, yarn"),
      ("llama3", "config.json", "\"silu\"", "\"gelu\"", "hidden_act"),
      ("llama3", "config.json", "\"attention_bias\": false", "\"attention_bias\": true", "false"),
      ("llama3", "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "layers.2"),
      ("llama3", "config.json", "\"vocab_size\": ", "\"vocab_size\": 9", "expected"),
      ("llama3", "config.json", "{", "{{", "byte 1"),
      ("llama3", "tokenizer.json", "\"BPE\"", "\"Unigram\"", "byte-level BPE"),
      ("llama3", "tokenizer.json", "{1,3}", "{1,2}", "pre-tokenizers of GPT-2"),
      ("qwen2", "tokenizer.json", "\"NFC\"", "\"NFKC\"", "NFKC"),
      ("llama2", "tokenizer.json", "\"<0x41>\"", "\"<0x41)\"", "no token for some bytes"),
      (
        "llama2", "model.safetensors.index.json", "model-00001-of", "../model-00001-of",
        ".safetensors file in the folder"
      ),
      ("llama2", "model.safetensors.index.json", "model-00001-of", "model-00009-of", "model-00009"),
    ] {
      let error = try problem(name, file, old, new)
      #expect(
        error?.description.contains(expected) == true, "\(old): \(error?.description ?? "taken")")
    }
    try ModelFixtures.withCopy(of: "llama3") { url in
      try FileManager.default.removeItem(at: url.appending(path: "tokenizer.json"))
      #expect(throws: ModelFileError.self) { try LlamaModel.load(path: url.path) }
    }
    #expect(throws: ModelFileError.self) { try LlamaModel.load(path: "/") }
  }
}
