// Tokens, logits, losses and greedy text of the default model against transformers, and expanded
// blocks against gguf-py. Fixtures/make_fixtures.py made the truth.

import Foundation
import LinearAlgebra
import RandomNumbers
import Testing

@testable import LanguageModel

private func fixtureDecoder() -> JSONDecoder {
  let decoder = JSONDecoder()
  decoder.keyDecodingStrategy = .convertFromSnakeCase
  return decoder
}

private struct TokenRow: Decodable {
  let text: String
  let ids: [Int32]
  let digitsFirstIds: [Int32]?
  let decoded: String?
}

private struct LogitsFixture: Decodable {
  struct Row: Decodable {
    let text: String
    let ids: [Int32]
    let losses: [Float]
    let sampledLogits: [Float]
    let top: [[Float]]
    let mean: Double
    let std: Double
    let greedy: [Int32]
  }
  let rows: [Row]
}

private struct BlocksFixture: Decodable {
  struct Blocks: Decodable {
    let bytes: String
    let weights: [Float]
  }
  let rows: Int
  let columns: Int
  let types: [String: Blocks]
}

@Suite("Reference")
struct ReferenceTests {
  @Test("500 texts have the token ids that transformers gives, and decode to the same text")
  func tokens() throws {
    let tokenizer = try TestModel.shared.get().tokenizer
    let digitsFirst = tokenizer.with(.digitsThenByteLevel)
    let lines = try TestModel.fixture("tokens.jsonl").split(separator: UInt8(ascii: "\n"))
      .dropFirst()
    #expect(lines.count == 500)
    for line in lines {
      let row = try fixtureDecoder().decode(TokenRow.self, from: line)
      #expect(tokenizer.encode(row.text) == row.ids, "\(row.text.prefix(80).debugDescription)")
      #expect(
        digitsFirst.encode(row.text) == row.digitsFirstIds ?? row.ids,
        "\(row.text.prefix(80).debugDescription)")
      let text = tokenizer.decode(row.ids)
      #expect(
        text.unicodeScalars.elementsEqual((row.decoded ?? row.text).unicodeScalars),
        "\(row.text.prefix(80).debugDescription)")
      var stream = Tokenizer.StreamDecoder(tokenizer)
      let pieces = row.ids.map { stream.append($0) }.joined() + stream.finish()
      #expect(pieces.unicodeScalars.elementsEqual(text.unicodeScalars))
    }
  }

  @Test("Logits, losses and 32 greedy tokens of 20 texts equal transformers'")
  func logits() throws {
    let model = try TestModel.shared.get()
    let fixture = try fixtureDecoder().decode(
      LogitsFixture.self, from: TestModel.fixture("logits.json"))
    #expect(fixture.rows.count == 20)
    var worst: Float = 0
    for row in fixture.rows {
      #expect(model.tokenizer.encode(row.text) == row.ids)
      let logits = try model.forward([
        Chunk(tokens: row.ids, cache: KVCache(for: model))
      ])
      let last = Array(logits[0][0])
      for (index, expected) in row.sampledLogits.enumerated() {
        worst = max(worst, abs(last[index * 96] - expected))
      }
      for pair in row.top { worst = max(worst, abs(last[Int(pair[0])] - pair[1])) }
      let mean = last.reduce(0.0) { $0 + Double($1) } / Double(last.count)
      let variance =
        last.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) }
        / Double(last.count - 1)
      #expect(abs(mean - row.mean) < 1e-2)
      #expect(abs(variance.squareRoot() - row.std) < 1e-2)
      let losses = try model.losses(of: row.ids)
      #expect(losses.count == row.losses.count)
      for (found, expected) in zip(losses, row.losses) {
        #expect(abs(found - expected) < 1e-2)
        worst = max(worst, abs(found - expected))
      }
    }
    #expect(worst < 1e-2)
    print("Largest difference from transformers: \(worst)")
    let results = try model.generate(
      fixture.rows.map { GenerationRequest(prompt: $0.ids, maxTokens: 32) })
    for (result, row) in zip(results, fixture.rows) {
      #expect(result.tokens == row.greedy, "\(row.text)")
    }
  }

  @Test("With 8-bit activations the mean loss of the texts changes by less than 1 in 200")
  func int8Losses() throws {
    let model = try TestModel.int8.get()
    let fixture = try fixtureDecoder().decode(
      LogitsFixture.self, from: TestModel.fixture("logits.json"))
    let found = try fixture.rows.flatMap { try model.losses(of: $0.ids) }
    let expected = fixture.rows.flatMap(\.losses)
    let (mean, reference) = (
      found.reduce(0, +) / Float(found.count), expected.reduce(0, +) / Float(expected.count)
    )
    print("Mean loss of \(found.count) tokens with 8-bit activations: \(mean), exact \(reference)")
    #expect(abs(mean - reference) < reference / 200)
    let spread = zip(found, expected).map { abs($0 - $1) }.reduce(0, +) / Float(found.count)
    #expect(spread < 0.1, "the mean difference of a token's loss")
  }

  @Test("Random blocks expand to the weights that gguf-py computes")
  func blocks() throws {
    let fixture = try JSONDecoder().decode(
      BlocksFixture.self, from: TestModel.fixture("blocks.json"))
    #expect(fixture.types.count == WeightType.allCases.count - 1)
    for (name, blocks) in fixture.types {
      let type = try #require(WeightType.allCases.first { $0.name == name })
      let digits = Array(blocks.bytes.utf8)
      let bytes = stride(from: 0, to: digits.count, by: 2).map {
        UInt8(String(decoding: digits[$0...$0 + 1], as: UTF8.self), radix: 16) ?? 0
      }
      let owner = NSMutableData(bytes: bytes, length: bytes.count)
      let matrix = QuantizedMatrix(
        type: type, rows: fixture.rows, columns: fixture.columns,
        bytes: UnsafeRawBufferPointer(start: owner.bytes, count: bytes.count), owner: owner)
      for level in Elementwise.Level.available {
        var weights = [Float](repeating: .nan, count: fixture.rows * fixture.columns)
        matrix.expand(rows: 0..<fixture.rows, into: &weights, level: level)
        for (found, expected) in zip(weights, blocks.weights) {
          #expect(
            abs(found - expected) <= 2e-6 * max(abs(expected), 1), "\(name) \(level)")
        }
      }
    }
  }

  @Test("A word of 100,000 letters is tokenised in well under a second")
  func longWord() throws {
    let tokenizer = try TestModel.shared.get().tokenizer
    var generator = SplitMix64(seed: 3)
    let letters = Array("etaoinshrdlu")
    let word = String((0..<100_000).map { _ in letters[Int(generator.next() % 12)] })
    let clock = ContinuousClock()
    var ids: [Int32] = []
    let time = clock.measure { ids = tokenizer.encode(word) }
    #expect(tokenizer.decode(ids) == word)
    #expect(time < .seconds(1))
  }

  @Test("The fingerprint is the SHA-256 of the file and stays the same")
  func fingerprint() throws {
    let bytes = TinyLlama().builder.build().bytes
    let models = try (0..<2).map { _ in
      try TestModel.withFile(bytes) { path in
        let model = try LlamaModel.load(path: path)
        return (model.fingerprint, model.fingerprint)
      }
    }
    #expect(models[0] == models[1])
    #expect(models[0].0 == models[0].1)
    #expect(models[0].0.count == 64)
  }
}
