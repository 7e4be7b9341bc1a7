// Generation and sampling.

import Foundation
import LinearAlgebra
import Testing

@testable import LanguageModel

@Suite("Generation")
struct GenerationTests {
  @Test("A batch gives each request what it gets alone, and the same seed the same text")
  func batches() throws {
    let model = try TinyLlama().load()
    let requests = (0..<5).map { index in
      GenerationRequest(
        prompt: (0...Int32(index * 3)).map { $0 + 40 }, maxTokens: 8 + index,
        sampling: SamplingOptions(
          temperature: index == 0 ? 0 : 0.8, topK: index == 2 ? 10 : 0,
          topP: index == 3 ? 0.9 : 1, seed: UInt64(index)))
    }
    let together = try model.generate(requests)
    #expect(together.map(\.tokens) == (try model.generate(requests)).map(\.tokens))
    for (request, result) in zip(requests, together) {
      #expect(result.tokens.count == request.maxTokens)
      #expect(result.finishReason == .length)
      #expect(try model.generate([request])[0].tokens == result.tokens)
    }
    var other = requests[1]
    other.sampling.seed = 77
    #expect(try model.generate([other])[0].tokens != together[1].tokens)
  }

  @Test(
    "Text ends at a stop token, at the caller's word, at the limit or where the context is full")
  func endings() throws {
    let model = try TinyLlama().load()
    let free = try model.generate([GenerationRequest(prompt: [1, 2, 3], maxTokens: 12)])[0]
    let stop = free.tokens[5]
    let end = free.tokens.firstIndex(of: stop) ?? 5
    let stopped = try model.generate([
      GenerationRequest(prompt: [1, 2, 3], maxTokens: 12, stopTokens: [stop])
    ])[0]
    #expect(stopped.tokens == Array(free.tokens[..<end]))
    #expect(stopped.finishReason == .stop)

    var seen: [Int32] = []
    let asked = try model.generate(
      [GenerationRequest(prompt: [1, 2, 3], maxTokens: 12)],
      onToken: { _, token in
        seen.append(token)
        return seen.count < 4
      })
    #expect(asked[0].finishReason == .cancelled)
    #expect(seen == Array(free.tokens.prefix(4)))
    #expect(asked[0].tokens == seen)

    var steps = 0
    let cancelled = try model.generate(
      [GenerationRequest(prompt: [1], maxTokens: 9), GenerationRequest(prompt: [2], maxTokens: 9)],
      isCancelled: {
        steps += 1
        return steps > 3
      })
    #expect(cancelled.map(\.finishReason) == [.cancelled, .cancelled])
    #expect(cancelled.map(\.tokens.count) == [3, 3])

    let full = try model.generate([
      GenerationRequest(prompt: [Int32](repeating: 7, count: 598), maxTokens: 50)
    ])[0]
    #expect(full.finishReason == .contextFull)
    #expect(full.tokens.count == 3)
    #expect(try model.generate([GenerationRequest(prompt: [1], maxTokens: 0)])[0].tokens == [])
    #expect(throws: InferenceError.noTokens) {
      try model.generate([GenerationRequest(prompt: [], maxTokens: 1)])
    }
    #expect(throws: InferenceError.self) {
      try model.generate([
        GenerationRequest(
          prompt: [1], maxTokens: 1, sampling: SamplingOptions(temperature: -1))
      ])
    }
  }

  @Test("Samples follow the distribution that temperature, top-k and top-p leave")
  func sampling() throws {
    // Probabilities 0.4, 0.3, 0.2, 0.1 at ids 3, 0, 2, 1, and one impossible token.
    let logits = [0.3, 0.1, 0.2, 0.4, 0].map { Float(log($0)) }
    func frequencies(_ options: SamplingOptions) throws -> [Double] {
      var sampler = Sampler(options)
      var counts = [Double](repeating: 0, count: 5)
      for _ in 0..<20_000 {
        counts[Int(try sampler.choose(logits))] += 1 / 20_000
      }
      return counts
    }
    func expect(_ options: SamplingOptions, _ expected: [Double]) throws {
      for (found, truth) in zip(try frequencies(options), expected) {
        // Five standard deviations of 20,000 draws are below 0.018; the seed is 12.
        #expect(truth == 0 ? found == 0 : abs(found - truth) < 0.018, "\(options)")
      }
    }
    try expect(SamplingOptions(temperature: 1, seed: 12), [0.3, 0.1, 0.2, 0.4, 0])
    try expect(
      SamplingOptions(temperature: 0.5, seed: 12), [9, 1, 4, 16, 0].map { $0 / 30 })
    try expect(SamplingOptions(temperature: 1, topK: 2, seed: 12), [3.0 / 7, 0, 0, 4.0 / 7, 0])
    try expect(
      SamplingOptions(temperature: 1, topP: 0.75, seed: 12), [3.0 / 9, 0, 2.0 / 9, 4.0 / 9, 0])
    try expect(
      SamplingOptions(temperature: 1, topK: 3, topP: 0.5, seed: 12), [3.0 / 7, 0, 0, 4.0 / 7, 0])
    try expect(SamplingOptions.greedy, [0, 0, 0, 1, 0])
    #expect(throws: InferenceError.notFinite) {
      var sampler = Sampler(.greedy)
      _ = try sampler.choose([Float.nan, .nan])
    }
  }

  @Test("A character cut between tokens is handed out once it is complete")
  func streaming() throws {
    let tokenizer = try TinyLlama().load().tokenizer
    let ids = tokenizer.encode("aé👍🏽the<|end|>")
    var decoder = Tokenizer.StreamDecoder(tokenizer)
    let pieces = ids.map { decoder.append($0) }
    #expect(pieces.filter { !$0.isEmpty } == ["a", "é", "👍", "\u{1F3FD}", "the", "<|end|>"])
    #expect(decoder.append(ids[1]) == "")
    #expect(decoder.finish() == "\u{FFFD}")
    #expect(tokenizer.decode(ids, skippingSpecial: true) == "aé👍🏽the")
    #expect(tokenizer.decode([9999, -1]) == "")
  }
}
