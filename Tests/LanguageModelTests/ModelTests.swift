// The forward pass on a tiny random model: every weight type, any split of the work, adapters.

import Foundation
import LinearAlgebra
import RandomNumbers
import Testing

@testable import LanguageModel

private func tokens(_ count: Int, seed: UInt64) -> [Int32] {
  var generator = SplitMix64(seed: seed)
  return (0..<count).map { _ in Int32(generator.next() % UInt64(TinyLlama.vocabulary)) }
}

private func lastLogits(_ model: LlamaModel, _ tokens: [Int32], _ adapter: Adapter? = nil)
  throws -> [Float]
{
  let chunk = Chunk(tokens: tokens, cache: KVCache(for: model), adapter: adapter)
  return Array(try model.forward([chunk])[0][0])
}

private func difference(_ a: [Float], _ b: [Float]) -> Float {
  zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) }
}

func randomAdapter(
  _ configuration: LlamaConfiguration, seed: UInt64, targets: [Projection] = Projection.allCases
) throws -> Adapter {
  var generator = SplitMix64(seed: seed)
  func factor(_ count: Int) -> FloatBuffer {
    FloatBuffer((0..<count).map { _ in generator.nextUniform() * 0.1 })
  }
  let layers = (0..<configuration.layers).map { _ in
    Dictionary(
      uniqueKeysWithValues: targets.map { projection in
        (
          projection,
          LoRAFactors(
            a: factor(3 * projection.inputWidth(in: configuration)),
            b: factor(3 * projection.outputWidth(in: configuration)))
        )
      })
  }
  return try Adapter(
    rank: 3, alpha: 6, targets: targets, layers: layers, configuration: configuration)
}

@Suite("Model")
struct ModelTests {
  @Test(
    "A model in any weight type computes what its weights expanded to F32 compute",
    arguments: WeightType.allCases)
  func types(type: WeightType) throws {
    let tiny = TinyLlama(type: type)
    var expanded = tiny
    for index in tiny.builder.tensors.indices where tiny.builder.tensors[index].shape.count == 2 {
      let tensor = tiny.builder.tensors[index]
      let owner = NSMutableData(bytes: tensor.bytes, length: tensor.bytes.count)
      let matrix = QuantizedMatrix(
        type: type, rows: Int(tensor.shape[1]), columns: Int(tensor.shape[0]),
        bytes: UnsafeRawBufferPointer(start: owner.bytes, count: tensor.bytes.count), owner: owner)
      let weights = FloatBuffer(uninitialized: matrix.rows * matrix.columns)
      matrix.expand(rows: 0..<matrix.rows, into: weights.pointer, level: .scalar)
      expanded.builder.tensors[index].type = 0
      expanded.builder.tensors[index].bytes = TinyLlama.bytes(weights.array)
    }
    let (model, reference) = (try tiny.load(), try expanded.load())
    for count in [1, 3, 40] {
      let input = tokens(count, seed: UInt64(count))
      let (found, expected) = (try lastLogits(model, input), try lastLogits(reference, input))
      #expect(expected.contains { abs($0) > 1e-3 })
      #expect(difference(found, expected) < 1e-3)
    }
  }

  @Test("Logits do not depend on how the tokens are split into calls, passes and batches")
  func splits() throws {
    let model = try TinyLlama().load()
    let input = tokens(590, seed: 1)  // more than one pass and several cache blocks
    let whole = try model.forward([
      Chunk(tokens: input, cache: KVCache(for: model), logits: .all)
    ])[0]
    #expect(whole.rows == 590)
    let cache = KVCache(for: model)
    var position = 0
    for length in [1, 2, 125, 1, 7, 128, 200, 126] {
      let chunk = Chunk(tokens: Array(input[position..<position + length]), cache: cache)
      let other = Chunk(
        tokens: tokens(9, seed: 2), cache: KVCache(for: model), logits: .none)
      let logits = try model.forward([other, chunk])
      #expect(logits[0].rows == 0)
      position += length
      #expect(
        difference(Array(logits[1][0]), Array(whole[position - 1])) < 2e-3, "up to \(position)")
    }
    #expect(cache.count == 590)
  }

  @Test(
    "With 8-bit activations a row's logits have the same bits alone and in a mixed batch",
    arguments: [WeightType.q4_1, .q8_0])
  func mixedBatches(type: WeightType) throws {
    let tiny = TinyLlama(type: type)
    let model = try tiny.load(precision: .int8)
    let adapters = try (0..<3).map { try randomAdapter(model.configuration, seed: UInt64($0)) }
    struct Input {
      let tokens: [Int32]
      let adapter: Adapter?
    }
    let inputs = [300, 1, 37, 130, 2].enumerated().map { index, count in
      Input(
        tokens: tokens(count, seed: UInt64(index + 40)),
        adapter: index < adapters.count ? adapters[index] : nil)
    }
    func chunk(_ input: Input) -> Chunk {
      Chunk(
        tokens: input.tokens, cache: KVCache(for: model), adapter: input.adapter)
    }
    let together = try model.forward(inputs.map(chunk))
    for (index, input) in inputs.enumerated() {
      let alone = try model.forward([chunk(input)])[0]
      #expect(alone[0] == together[index][0], "input \(index)")
    }
    // And where the rows are cut into other passes: prefill in pieces, then decoding.
    let cache = KVCache(for: model)
    var last: [Float] = []
    for piece in [0..<1, 1..<90, 90..<218, 218..<219, 219..<300] {
      last = try model.forward([
        Chunk(tokens: Array(inputs[0].tokens[piece]), cache: cache, adapter: inputs[0].adapter)
      ])[0][0]
    }
    #expect(last == together[0][0])
  }

  @Test("A fork goes on alone, and a truncated cache forgets")
  func forks() throws {
    let model = try TinyLlama().load()
    let (prompt, first, second) = (tokens(130, seed: 1), tokens(6, seed: 2), tokens(6, seed: 3))
    let cache = KVCache(for: model)
    _ = try model.forward([Chunk(tokens: prompt, cache: cache)])
    let fork = cache.fork()
    let a = try model.forward([
      Chunk(tokens: first, cache: cache), Chunk(tokens: second, cache: fork),
    ])
    #expect(difference(Array(a[0][0]), try lastLogits(model, prompt + first)) < 2e-3)
    #expect(difference(Array(a[1][0]), try lastLogits(model, prompt + second)) < 2e-3)
    cache.truncate(to: 100)
    let b = try model.forward([Chunk(tokens: second, cache: cache)])
    #expect(
      difference(Array(b[0][0]), try lastLogits(model, Array(prompt[..<100]) + second)) < 2e-3)
  }

  @Test("Users in one batch get exactly their own adapter", arguments: [1, 20])
  func adapters(length: Int) throws {
    let model = try TinyLlama().load()
    let one = try randomAdapter(model.configuration, seed: 1)
    let two = try randomAdapter(model.configuration, seed: 2, targets: [.query, .value])
    let inputs = (0..<4).map { tokens(length, seed: $0) }
    let adapters = [one, nil, two, one]
    let together = try model.forward(
      zip(inputs, adapters).map {
        Chunk(tokens: $0, cache: KVCache(for: model), adapter: $1)
      })
    for index in 0..<4 {
      let alone = try lastLogits(model, inputs[index], adapters[index])
      #expect(difference(Array(together[index][0]), alone) < 1e-3)
      if adapters[index] != nil {
        #expect(difference(alone, try lastLogits(model, inputs[index])) > 1e-2)
      }
    }
  }

  @Test("An adapter beside the weights computes what it computes merged into them")
  func merged() throws {
    var tiny = TinyLlama(type: .f32)
    let model = try tiny.load()
    let adapter = try randomAdapter(model.configuration, seed: 9)
    for layer in 0..<2 {
      for projection in Projection.allCases {
        let factors = try #require(adapter.factors(layer: layer, projection))
        let name = "blk.\(layer).\(projection.ggufName).weight"
        let index = try #require(tiny.builder.tensors.firstIndex { $0.name == name })
        let columns = projection.inputWidth(in: model.configuration)
        let rows = projection.outputWidth(in: model.configuration)
        var weights = tiny.builder.tensors[index].bytes.withUnsafeBytes {
          Array($0.bindMemory(to: Float.self))
        }
        for row in 0..<rows {
          // llama.cpp's converter interleaves the two halves of each query and key head.
          let isRotated = projection == .query || projection == .key
          let (head, inside) = (row / 64, row % 64)
          let place = isRotated ? head * 64 + (inside % 32) * 2 + inside / 32 : row
          for column in 0..<columns {
            for r in 0..<3 {
              weights[place * columns + column] +=
                2 * factors.b.pointer[row * 3 + r] * factors.a.pointer[r * columns + column]
            }
          }
        }
        tiny.builder.tensors[index].bytes = TinyLlama.bytes(weights)
      }
    }
    let merged = try tiny.load()
    for count in [1, 30] {
      let input = tokens(count, seed: 4)
      let found = try lastLogits(model, input, adapter)
      #expect(difference(found, try lastLogits(merged, input)) < 2e-3)
      #expect(difference(found, try lastLogits(model, input)) > 1e-2)
    }
  }

  @Test("Losses and candidate scores equal the log-softmax of the logits")
  func scores() throws {
    let model = try TinyLlama().load()
    let adapter = try randomAdapter(model.configuration, seed: 5)
    let input = tokens(50, seed: 6)
    func logProbabilities(_ all: [Int32]) throws -> [Double] {
      let logits = try model.forward([
        Chunk(tokens: all, cache: KVCache(for: model), adapter: adapter, logits: .all)
      ])[0]
      return (0..<all.count - 1).map { row in
        let line = logits[row].map(Double.init)
        let top = line.max() ?? 0
        return line[Int(all[row + 1])] - top - log(line.reduce(0) { $0 + exp($1 - top) })
      }
    }
    let losses = try model.losses(of: input, adapter: adapter)
    let expected = try logProbabilities(input)
    #expect(losses.count == 49)
    for (found, truth) in zip(losses, expected) { #expect(abs(Double(-found) - truth) < 1e-3) }

    let candidates = (0..<9).map { tokens(Int($0) % 4, seed: 10 + $0) } + [tokens(400, seed: 3)]
    let scores = try model.score(prompt: input, candidates: candidates, adapter: adapter)
      .logProbabilities
    for (candidate, score) in zip(candidates, scores) {
      let truth = try logProbabilities(input + candidate).dropFirst(49).reduce(0, +)
      #expect(abs(score - truth) < 1e-3 * max(1, abs(truth)))
    }
  }

  @Test("Several threads compute on one model at once")
  func concurrency() async throws {
    let model = try TinyLlama().load()
    let inputs = (0..<4).map { tokens(30 + Int($0), seed: $0) }
    let expected = try inputs.map { try lastLogits(model, $0) }
    await withTaskGroup(of: [Float]?.self) { group in
      for (input, truth) in zip(inputs, expected) {
        group.addTask {
          for _ in 0..<10 {
            let found = try? lastLogits(model, input)
            #expect(found.map { difference($0, truth) < 1e-4 } == true)
          }
          return nil
        }
      }
    }
  }

  @Test("Input that the model cannot take is refused with the reason, and no cache changes")
  func refusals() throws {
    let model = try TinyLlama().load()
    let cache = KVCache(for: model)
    func refusal(_ chunks: [Chunk]) -> InferenceError? {
      do throws(InferenceError) {
        _ = try model.forward(chunks)
        return nil
      } catch {
        return error
      }
    }
    #expect(refusal([Chunk(tokens: [], cache: cache)]) == .noTokens)
    #expect(
      refusal([Chunk(tokens: [1, 262], cache: cache)])
        == .tokenOutsideVocabulary(token: 262, vocabulary: 262))
    #expect(
      refusal([Chunk(tokens: [-1], cache: cache)])
        == .tokenOutsideVocabulary(token: -1, vocabulary: 262))
    #expect(
      refusal([Chunk(tokens: tokens(601, seed: 0), cache: cache)])
        == .contextExceeded(positions: 601, contextLength: 600))
    #expect(
      refusal([Chunk(tokens: [1], cache: cache), Chunk(tokens: [1], cache: cache)])
        == .cacheUsedTwice)
    #expect(cache.count == 0)
    #expect(throws: InferenceError.tokenOutsideVocabulary(token: 999, vocabulary: 262)) {
      try model.score(prompt: [1], candidates: [[2], [999]])
    }
    #expect(throws: AdapterError.self) {
      try Adapter(
        rank: 2, alpha: 2, targets: [.query], layers: [[:], [:]],
        configuration: model.configuration)
    }
  }
}
