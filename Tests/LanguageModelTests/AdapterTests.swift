// Every PEFT method in the forward pass of a tiny random model, alone, stacked and merged.

import Foundation
import LinearAlgebra
import RandomNumbers
import Testing

@testable import LanguageModel

@Suite("Adapters")
struct AdapterTests {
  static func tokens(_ count: Int, seed: UInt64) -> [Int32] {
    var generator = SplitMix64(seed: seed)
    return (0..<count).map { _ in Int32(generator.next() % UInt64(TinyLlama.vocabulary)) }
  }

  static func logits(_ model: LlamaModel, _ tokens: [Int32], _ adapter: Adapter?) throws -> [Float]
  {
    try model.forward([
      Chunk(tokens: tokens, cache: KVCache(for: model), adapter: adapter)
    ])[0][0]
  }

  static func difference(_ a: [Float], _ b: [Float]) -> Float {
    zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }

  static func factors(
    _ configuration: LlamaConfiguration, rank: Int, targets: [Projection], dora: Bool, seed: UInt64
  ) -> [[Projection: LoRAFactors]] {
    var generator = SplitMix64(seed: seed)
    func buffer(_ count: Int, _ center: Float, _ scale: Float) -> FloatBuffer {
      FloatBuffer((0..<count).map { _ in center + generator.nextUniform() * scale })
    }
    return (0..<configuration.layers).map { _ in
      Dictionary(
        uniqueKeysWithValues: targets.map { projection in
          let output = projection.outputWidth(in: configuration)
          return (
            projection,
            LoRAFactors(
              a: buffer(rank * projection.inputWidth(in: configuration), 0, 0.1),
              b: buffer(rank * output, 0, 0.1), magnitude: dora ? buffer(output, 0.4, 0.2) : nil)
          )
        })
    }
  }

  static func lora(_ model: LlamaModel, rank: Int = 3, seed: UInt64) throws -> Adapter {
    try Adapter(
      rank: rank, alpha: 6, targets: Projection.allCases,
      layers: factors(
        model.configuration, rank: rank, targets: Projection.allCases, dora: false, seed: seed),
      configuration: model.configuration)
  }

  static func dora(_ model: LlamaModel, over under: Adapter? = nil, seed: UInt64) throws -> Adapter
  {
    let targets: [Projection] = [.query, .output, .up, .down]
    return try Adapter(
      LoRASettings(rank: 2, alpha: 3, targets: targets, rankStabilized: true, dora: true),
      layers: factors(model.configuration, rank: 2, targets: targets, dora: true, seed: seed),
      model: model, over: under)
  }

  static func ia3(_ model: LlamaModel, seed: UInt64) throws -> Adapter {
    var generator = SplitMix64(seed: seed)
    let settings = IA3Settings(targets: [.query, .key, .value, .down], feedForward: [.key, .down])
    let layers = (0..<model.configuration.layers).map { _ in
      Dictionary(
        uniqueKeysWithValues: settings.targets.map { projection in
          let count =
            settings.feedForward.contains(projection)
            ? projection.inputWidth(in: model.configuration)
            : projection.outputWidth(in: model.configuration)
          return (
            projection, FloatBuffer((0..<count).map { _ in 1 + generator.nextUniform() * 0.5 })
          )
        })
    }
    return try Adapter(settings, layers: layers, configuration: model.configuration)
  }

  /// An adapter whose virtual tokens are the embeddings of `tokens`.
  static func prompt(_ model: LlamaModel, _ tokens: [Int32]) throws -> Adapter {
    let width = model.configuration.width
    let rows = FloatBuffer(uninitialized: tokens.count * width)
    for (index, token) in tokens.enumerated() {
      model.tokenEmbedding.expand(
        rows: Int(token)..<Int(token) + 1, into: rows.pointer + index * width)
    }
    return try Adapter(promptEmbeddings: rows, configuration: model.configuration)
  }

  @Test("(IA)³ scales a projection's bias with its output, and cannot be merged there")
  func biases() throws {
    let model = try LlamaModel.load(path: ModelFixtures.path("qwen2"), precision: .float32)
    let configuration = model.configuration
    // Attention gives nothing where its values are nothing, nor where its output is.
    func silencing(_ projection: Projection) throws -> Adapter {
      let zeros = FloatBuffer(zeros: projection.outputWidth(in: configuration))
      return try Adapter(
        IA3Settings(targets: [projection], feedForward: []),
        layers: (0..<configuration.layers).map { _ in [projection: zeros] },
        configuration: configuration)
    }
    let (values, output) = (try silencing(.value), try silencing(.output))
    func logits(_ adapter: Adapter?) throws -> [Float] {
      try model.forward([
        Chunk(tokens: [5, 9, 7], cache: KVCache(for: model), adapter: adapter)
      ])[0][0]
    }
    let (found, expected) = (try logits(values), try logits(output))
    #expect(zip(found, expected).allSatisfy { abs($0 - $1) < 1e-5 })
    #expect(try logits(nil) != found)
    #expect(throws: AdapterError.self) { try model.merging(values) }
    _ = try model.merging(output)
  }

  @Test(
    "An adapter of every method, and every stack of them, computes what it computes merged",
    arguments: ["lora", "dora", "ia3", "lora+lora", "lora+ia3", "ia3+lora", "ia3+dora+lora"])
  func merged(kinds: String) throws {
    let model = try TinyLlama(type: .f32).load()
    var adapters: [Adapter] = []
    for (index, kind) in kinds.split(separator: "+").enumerated() {
      let seed = UInt64(index + 3)
      switch kind {
      case "lora": adapters.append(try Self.lora(model, rank: 2 + index, seed: seed))
      case "dora": adapters.append(try Self.dora(model, over: adapters.first, seed: seed))
      default: adapters.append(try Self.ia3(model, seed: seed))
      }
    }
    let stack = try Adapter.stack(adapters, configuration: model.configuration)
    let merged = try model.merging(stack)
    // One adapter after the other merged into the weights is the same again.
    let inTurn = try adapters.reduce(model) { try $0.merging($1) }
    #expect(stack.methods.count == adapters.count)
    #expect(merged.fingerprint != model.fingerprint)
    for count in [1, 30] {
      let input = Self.tokens(count, seed: 4)
      let found = try Self.logits(model, input, stack)
      let largest = found.reduce(0) { max($0, abs($1)) }
      let expected = try Self.logits(merged, input, nil)
      #expect(Self.difference(found, expected) < 2e-3 * max(1, largest), "\(count) tokens")
      #expect(
        Self.difference(try Self.logits(inTurn, input, nil), expected) < 2e-3 * max(1, largest))
      #expect(Self.difference(found, try Self.logits(model, input, nil)) > 1e-2)
    }
  }

  @Test("DoRA with the base model's norms and B = 0 is the base model")
  func doraIdentity() throws {
    let model = try TinyLlama(type: .f32).load()
    let layers = try (0..<2).map { layer in
      let matrix = model.layers[layer][.gate]
      let weights = FloatBuffer(uninitialized: matrix.rows * matrix.columns)
      matrix.expand(into: weights.pointer)
      let norms = (0..<matrix.rows).map { row in
        (0..<matrix.columns).reduce(0.0) { sum, column in
          sum + pow(Double(weights.pointer[row * matrix.columns + column]), 2)
        }.squareRoot()
      }
      let factors = try #require(
        Self.factors(model.configuration, rank: 2, targets: [.gate], dora: false, seed: 1)[0][.gate]
      )
      return [
        Projection.gate: LoRAFactors(
          a: factors.a, b: FloatBuffer(zeros: factors.b.count),
          magnitude: FloatBuffer(norms.map { Float($0) }))
      ]
    }
    let adapter = try Adapter(
      LoRASettings(rank: 2, alpha: 2, targets: [.gate], dora: true), layers: layers, model: model)
    let input = Self.tokens(20, seed: 1)
    #expect(
      Self.difference(try Self.logits(model, input, adapter), try Self.logits(model, input, nil))
        < 1e-4)
  }

  @Test("Users of all methods in one batch get exactly their own adapter", arguments: [1, 20])
  func batch(length: Int) throws {
    let model = try TinyLlama().load()
    let adapters = [
      try Self.lora(model, seed: 1), nil, try Self.ia3(model, seed: 2),
      try Self.dora(model, seed: 3), try Self.prompt(model, [5, 6, 7]),
      try Adapter.stack(
        [Self.lora(model, rank: 1, seed: 4), Self.prompt(model, [8])],
        configuration: model.configuration),
    ]
    let inputs = adapters.indices.map { Self.tokens(length, seed: UInt64($0)) }
    let together = try model.forward(
      zip(inputs, adapters).map {
        Chunk(tokens: $0, cache: KVCache(for: model), adapter: $1)
      })
    for index in adapters.indices {
      let alone = try Self.logits(model, inputs[index], adapters[index])
      #expect(Self.difference(together[index][0], alone) < 1e-3)
      if adapters[index] != nil {
        #expect(Self.difference(alone, try Self.logits(model, inputs[index], nil)) > 1e-2)
      }
    }
  }

  @Test("Virtual tokens that are a text's embeddings do what that text before the prompt does")
  func virtualTokens() throws {
    let model = try TinyLlama().load()
    let first = Self.tokens(520, seed: 1)  // more than one pass
    let prompt = Self.tokens(9, seed: 2)
    let adapter = try Self.prompt(model, first)
    let cache = KVCache(for: model)
    let found = try model.forward([
      Chunk(tokens: prompt, cache: cache, adapter: adapter, logits: .all)
    ])[0]
    let expected = try model.forward([
      Chunk(tokens: first + prompt, cache: KVCache(for: model), logits: .all)
    ])[0]
    #expect(found.rows == 9 && cache.count == 529)
    for row in 0..<9 { #expect(Self.difference(found[row], expected[520 + row]) < 2e-3) }
    // The next tokens do not bring them again, and a fork knows of them.
    let fork = cache.fork()
    let next = try model.forward([Chunk(tokens: [3, 4], cache: fork, adapter: adapter)])[0][0]
    #expect(fork.count == 531)
    #expect(Self.difference(next, try Self.logits(model, first + prompt + [3, 4], nil)) < 2e-3)

    let whole = try model.losses(of: first + prompt)
    let short = try model.losses(of: prompt, adapter: adapter)
    #expect(short.count == 8)
    for (a, b) in zip(short, whole.suffix(8)) { #expect(abs(a - b) < 1e-3) }
    let candidates: [[Int32]] = [[1], [2, 3], [], [9, 8, 7]]
    let scores = try model.score(prompt: prompt, candidates: candidates, adapter: adapter)
      .logProbabilities
    let plain = try model.score(prompt: first + prompt, candidates: candidates).logProbabilities
    for (a, b) in zip(scores, plain) {
      #expect(abs(a - b) < 2e-3)
    }
    func generated(_ prompt: [Int32], _ adapter: Adapter?) throws -> GenerationResult {
      try model.generate([GenerationRequest(prompt: prompt, maxTokens: 100, adapter: adapter)])[0]
    }
    let text = try generated(prompt, adapter)
    #expect(text.tokens == (try generated(first + prompt, nil)).tokens)
    // 520 + 9 positions and 71 generated fill the context of 600; the last needs no position.
    #expect(text.finishReason == .contextFull && text.tokens.count == 72)
  }

  @Test("A sequence keeps its virtual tokens: they count, and another adapter is refused")
  func cacheRules() throws {
    let model = try TinyLlama().load()
    let adapter = try Self.prompt(model, Self.tokens(100, seed: 1))
    let cache = KVCache(for: model)
    func refusal(_ chunk: Chunk) -> InferenceError? {
      do throws(InferenceError) {
        _ = try model.forward([chunk])
        return nil
      } catch {
        return error
      }
    }
    #expect(
      refusal(Chunk(tokens: Self.tokens(501, seed: 2), cache: cache, adapter: adapter))
        == .contextExceeded(positions: 601, contextLength: 600))
    #expect(cache.count == 0)
    #expect(refusal(Chunk(tokens: [1, 2], cache: cache, adapter: adapter)) == nil)
    #expect(
      refusal(Chunk(tokens: [1], cache: cache))
        == .cacheOfAnotherAdapter(cacheVirtualTokens: 100, adapterVirtualTokens: 0))
    cache.truncate(to: 50)
    #expect(cache.count == 0)
    #expect(refusal(Chunk(tokens: [1], cache: cache)) == nil)
    #expect(cache.count == 1)
    #expect(throws: AdapterError.self) { try model.merging(adapter) }
  }

  @Test("Numbers that do not fit a model or a description are refused")
  func refusals() throws {
    let configuration = try TinyLlama().load().configuration
    let good = Self.factors(configuration, rank: 2, targets: [.query], dora: false, seed: 1)
    func make(_ settings: LoRASettings, _ layers: [[Projection: LoRAFactors]]) throws {
      _ = try Adapter(settings, layers: layers, model: try TinyLlama().load())
    }
    try make(LoRASettings(rank: 2, alpha: 2, targets: [.query]), good)
    for (settings, layers) in [
      (LoRASettings(rank: 2, alpha: 2, targets: [.query, .key]), good),
      (LoRASettings(rank: 3, alpha: 2, targets: [.query]), good),
      (LoRASettings(rank: 0, alpha: 2, targets: [.query]), good),
      (LoRASettings(rank: 2, alpha: .nan, targets: [.query]), good),
      (LoRASettings(rank: 2, alpha: 2, targets: [.query], dora: true), good),
      (LoRASettings(rank: 2, alpha: 2, targets: [.query]), Array(good.dropLast())),
    ] {
      #expect(throws: AdapterError.self) { try make(settings, layers) }
    }
    #expect(throws: AdapterError.self) {
      try Adapter(
        IA3Settings(targets: [.key], feedForward: [.down]), layers: [[:], [:]],
        configuration: configuration)
    }
    #expect(throws: AdapterError.self) {
      try Adapter(promptEmbeddings: FloatBuffer(zeros: 255), configuration: configuration)
    }
    #expect(throws: AdapterError.self) { try Adapter.stack([], configuration: configuration) }
  }
}
