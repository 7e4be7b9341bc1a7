// A row that cannot be computed, and prompts that belong to somebody, in a batch and a cache with others.

import LinearAlgebra
import RandomNumbers
import Testing

@testable import LanguageModel

@Suite("Users beside each other")
struct UsersBesideEachOtherTests {
  private func prompt(_ count: Int, seed: UInt64) -> [Int32] {
    var generator = SplitMix64(seed: seed)
    return (0..<count).map { _ in Int32(generator.next() % 200) + 20 }
  }

  /// Finite weights with which nothing finite comes out.
  private func hugeAdapter(_ configuration: LlamaConfiguration) throws -> Adapter {
    let layers = (0..<configuration.layers).map { _ in
      Dictionary(
        uniqueKeysWithValues: Projection.allCases.map { projection in
          let (input, output) = (
            projection.inputWidth(in: configuration), projection.outputWidth(in: configuration)
          )
          return (
            projection,
            LoRAFactors(
              a: FloatBuffer([Float](repeating: 3e30, count: input)),
              b: FloatBuffer([Float](repeating: 3e30, count: output)))
          )
        })
    }
    return try Adapter(
      rank: 1, alpha: 1, targets: Projection.allCases, layers: layers, configuration: configuration)
  }

  @Test(
    "A row without finite numbers fails alone: the others' are what they are without it, to the bit",
    arguments: [ProductPrecision.int8, .float32])
  func badRow(precision: ProductPrecision) throws {
    let model = try TinyLlama(type: .q8_0).load(precision: precision)
    let huge = try hugeAdapter(model.configuration)
    let own = try randomAdapter(model.configuration, seed: 4)
    var requests = (0..<6).map { index in
      GenerationRequest(
        prompt: prompt(20 + 9 * index, seed: UInt64(index)), maxTokens: 9,
        sampling: SamplingOptions(temperature: index == 5 ? 0.8 : 0, seed: 3),
        adapter: index == 2 ? own : nil)
    }
    let without = try model.generate(requests).map(\.tokens)
    requests.insert(
      GenerationRequest(prompt: prompt(33, seed: 99), maxTokens: 9, adapter: huge), at: 3)
    let found = model.generateEach(requests)
    #expect(throws: InferenceError.notFinite) { try found[3].get() }
    let others = try (found[..<3] + found[4...]).map { try $0.get().tokens }
    #expect(others == without)
    // And the numbers themselves.
    func logits(_ adapters: [Adapter?]) throws -> [[Float]] {
      try model.forward(
        adapters.enumerated().map { index, adapter in
          Chunk(
            tokens: prompt(12, seed: adapter === huge ? 50 : UInt64(index)),
            cache: KVCache(for: model), adapter: adapter)
        }
      ).map { $0[0] }
    }
    let alone = try logits([nil, own])
    let beside = try logits([nil, own, huge])
    #expect(alone == Array(beside.prefix(2)))
    #expect(!beside[2].contains { $0.isFinite })
  }

  @Test("A request that cannot be taken fails alone")
  func refused() throws {
    let model = try TinyLlama(type: .q8_0).load(precision: .int8)
    let good = GenerationRequest(prompt: prompt(5, seed: 1), maxTokens: 3)
    var bad = good
    bad.prompt = []
    let found = model.generateEach([bad, good, bad])
    #expect(throws: InferenceError.noTokens) { try found[0].get() }
    #expect(try found[1].get().tokens == (try model.generate([good])[0].tokens))
    #expect(throws: InferenceError.noTokens) { try found[2].get() }
    #expect(throws: InferenceError.self) { try model.generate([good, bad]) }
  }

  @Test("What a user asked is found by that user only, and gone when the user is")
  func owners() throws {
    let model = try TinyLlama(type: .q8_0).load(precision: .int8)
    let block = KVCache.blockLength
    let cache = PrefixCache(byteLimit: 1 << 24)
    let instruction = prompt(block + 3, seed: 1)
    func ask(_ user: String, _ text: UInt64) throws -> GenerationResult {
      let prompt = instruction + prompt(3 * block, seed: text)
      return try model.generate(
        [
          GenerationRequest(
            prompt: prompt, maxTokens: 2,
            owner: .user(user, sharedTokens: instruction.count))
        ], prefixes: cache)[0]
    }
    let first = try ask("ada", 7)
    #expect(first.reusedTokens == 0)
    let blocks = cache.statistics.blocks
    // The same text and another one are the same to somebody else.
    #expect(try ask("ben", 7).reusedTokens == 0)
    #expect(try ask("ben", 8).reusedTokens == 0)
    #expect(cache.statistics.reusedPositions == 2 * block, "the task's own words are computed once")
    #expect(try ask("ada", 7).reusedTokens == 3 * block)
    #expect(try ask("ada", 7).tokens == first.tokens)
    cache.remove(owner: "ben")
    #expect(cache.statistics.blocks == blocks)
    #expect(try ask("ada", 7).reusedTokens == 3 * block)
    cache.remove(owner: "ada")
    #expect(cache.statistics.blocks == 1, "the task's own words")
    #expect(try ask("ada", 7).reusedTokens == 0)
    // One letter in two spellings: two users, as everywhere.
    _ = try ask("\u{E9}", 9)
    #expect(try ask("e\u{301}", 9).reusedTokens == 0)
    cache.removeAll()
    #expect(cache.statistics.byteCount == 0)
  }
}
