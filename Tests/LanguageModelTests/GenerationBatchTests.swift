// Continuous batching, reused prefixes, constrained texts.

import Foundation
import LinearAlgebra
import RandomNumbers
import Testing

@testable import LanguageModel

@Suite("Continuous batching")
struct GenerationBatchTests {
  private func prompt(_ count: Int, seed: UInt64) -> [Int32] {
    var generator = SplitMix64(seed: seed)
    return (0..<count).map { _ in Int32(generator.next() % 200) + 20 }
  }

  /// Runs a batch to its end; request number `n` is added before step `steps[n]`.
  private func run(
    _ requests: [GenerationRequest], arriving steps: [Int], batch: GenerationBatch
  ) throws -> [[Int32]] {
    var results = [[Int32]](repeating: [], count: requests.count)
    var streamed = results
    var step = 0
    var added = 0
    while added < requests.count || !batch.isEmpty {
      while added < requests.count, steps[added] <= step {
        #expect(try batch.add(requests[added]) == added)
        added += 1
      }
      for progress in batch.step() {
        if let token = progress.token { streamed[progress.request].append(token) }
        if let result = progress.result { results[progress.request] = try result.get().tokens }
      }
      step += 1
    }
    #expect(streamed == results)
    return results
  }

  @Test(
    "Requests that join and leave at any step get the tokens they get alone",
    arguments: [ProductPrecision.int8, .float32])
  func joining(precision: ProductPrecision) throws {
    let model = try TinyLlama(type: .q8_0).load(precision: precision)
    let adapters = try (0..<2).map { try randomAdapter(model.configuration, seed: UInt64($0)) }
    let requests = [40, 3, 150, 1, 77].enumerated().map { index, count in
      GenerationRequest(
        prompt: prompt(count, seed: UInt64(index)), maxTokens: 6 + 3 * index,
        sampling: SamplingOptions(temperature: index == 3 ? 0.7 : 0, seed: 5),
        adapter: index < 2 ? adapters[index] : nil)
    }
    let alone = try requests.map { try model.generate([$0])[0].tokens }
    for rows in [7, 64, 512] {
      let batch = GenerationBatch(model: model, rowsPerStep: rows)
      let found = try run(requests, arriving: [0, 0, 2, 5, 6], batch: batch)
      #expect(found == alone, "\(rows) rows a step")
    }
  }

  @Test("A common beginning is computed once, changes nothing, and belongs to its adapter")
  func prefixes() throws {
    let model = try TinyLlama(type: .q8_0).load(precision: .int8)
    let adapter = try randomAdapter(model.configuration, seed: 3)
    let other = try randomAdapter(model.configuration, seed: 3)
    let instruction = prompt(100, seed: 1)
    func request(_ seed: UInt64, _ adapter: Adapter?) -> GenerationRequest {
      GenerationRequest(
        prompt: instruction + prompt(9, seed: seed), maxTokens: 7, adapter: adapter)
    }
    let cache = PrefixCache(byteLimit: 1 << 24)
    let blocks = 100 / KVCache.blockLength * KVCache.blockLength
    for (adapter, expected) in [
      (nil, 0), (adapter, 0), (nil, blocks), (adapter, blocks), (other, 0),
    ] {
      let request = request(UInt64(expected + 7), adapter)
      let result = try model.generate([request], prefixes: cache)[0]
      #expect(result.reusedTokens == expected)
      #expect(result.tokens == (try model.generate([request])[0].tokens))
    }
    // The very same prompt: all of its whole blocks, but never its last token.
    let exact = GenerationRequest(
      prompt: prompt(KVCache.blockLength * 2, seed: 9), maxTokens: 1)
    _ = try model.generate([exact], prefixes: cache)
    #expect(
      try model.generate([exact], prefixes: cache)[0].reusedTokens == KVCache.blockLength)
    #expect(cache.statistics.reusedPositions == 2 * blocks + KVCache.blockLength)
  }

  @Test("The kept beginnings stay below the limit in bytes, and the longest unused go first")
  func bounds() throws {
    let model = try TinyLlama().load()
    let block = KVCache.byteCount(
      positions: 1, configuration: model.configuration, precision: model.precision)
    let cache = PrefixCache(byteLimit: 10 * block)
    let favourite = GenerationRequest(prompt: prompt(70, seed: 1000), maxTokens: 1)
    var reused = 0
    for seed in 0..<30 {
      reused += try model.generate([favourite], prefixes: cache)[0].reusedTokens > 0 ? 1 : 0
      _ = try model.generate(
        [GenerationRequest(prompt: prompt(80, seed: UInt64(seed)), maxTokens: 1)], prefixes: cache)
      #expect(cache.statistics.byteCount <= cache.byteLimit)
      #expect(cache.statistics.byteCount == cache.statistics.blocks * block)
    }
    #expect(reused == 29)
    let none = PrefixCache(byteLimit: 0)
    _ = try model.generate([favourite], prefixes: none)
    #expect(none.statistics.blocks == 0)
  }
}

@Suite("Constrained texts")
struct ConstraintTests {
  private func texts(
    _ constraint: OutputConstraint, count: Int = 40, temperature: Float = 1.5
  ) throws -> [String] {
    let model = try TestModel.int8.get()
    let requests = (0..<count).map { seed in
      GenerationRequest(
        prompt: model.tokenizer.encode("The answer is"), maxTokens: 24,
        sampling: SamplingOptions(temperature: temperature, seed: UInt64(seed)),
        stopTokens: [model.tokenizer.eos], constraint: constraint)
    }
    return try model.generate(requests).map { result in
      #expect([.complete, .stop].contains(result.finishReason))
      return model.tokenizer.decode(result.tokens)
    }
  }

  @Test("A choice is one of its texts, also where one begins another")
  func choices() throws {
    let labels = [" sci-fi", " based on a book", " comedy", " dark comedy", " dark", " dark com"]
    let found = try texts(.choice(labels), temperature: 6)
    #expect(Set(found).isSubset(of: labels))
    #expect(Set(found).count > 2, "\(Set(found))")
    #expect(try texts(.choice([" only"]), count: 1) == [" only"])
  }

  @Test(
    "A number lies in its range, whole or with decimals, above and below zero",
    arguments: [(1.0, 5.0, 0), (0, 1000, 0), (-20, -3, 0), (-5, 5, 0), (0.5, 2.5, 1), (97, 103, 2)])
  func numbers(low: Double, high: Double, decimals: Int) throws {
    for text in try texts(.number(low...high, decimals: decimals)) {
      let digits = text.trimmingCharacters(in: .whitespaces)
      let value = try #require(Double(digits), "\(text)")
      #expect((low...high).contains(value), "\(text)")
      let fraction = digits.split(separator: ".").dropFirst().first ?? ""
      #expect(fraction.count <= decimals, "\(text)")
    }
  }

  @Test(
    "The likeliest choice under a constraint is the likeliest of the allowed, not the model's own")
  func greedy() throws {
    let model = try TestModel.int8.get()
    let free = GenerationRequest(
      prompt: model.tokenizer.encode("The capital of France is"), maxTokens: 1)
    #expect(model.tokenizer.decode(try model.generate([free])[0].tokens) == " Paris")
    var bound = free
    bound.maxTokens = 8
    bound.constraint = .choice([" London", " seventeen"])
    #expect(model.tokenizer.decode(try model.generate([bound])[0].tokens) == " London")
  }

  @Test("A constraint that nothing can meet is refused with the reason")
  func refusals() throws {
    for constraint in [
      OutputConstraint.choice([]), .choice(["a", ""]), .number(0.2...0.8),
      .number(0...1, decimals: 12),
      .number(0...1e15),
    ] {
      #expect(throws: InferenceError.self) { try texts(constraint, count: 1) }
    }
  }
}
