// Properties of the backward pass on a tiny model with random weights.

import Foundation
import LanguageModel
import LinearAlgebra
import RandomNumbers
import Testing

@testable import FineTuning

@Suite("Gradients of a tiny model")
struct GradientTests {
  static let shape = TransformerShape(
    layers: 2, width: 32, heads: 4, kvHeads: 2, headWidth: 8, feedForwardWidth: 48,
    vocabulary: 61, ropeBase: 10_000, rmsEpsilon: 1e-5)

  static func matrix(_ rows: Int, _ columns: Int, _ generator: inout SplitMix64) -> QuantizedMatrix
  {
    let scale = 1.5 / Float(columns).squareRoot()
    let buffer = FloatBuffer((0..<rows * columns).map { _ in generator.nextUniform() * scale })
    return QuantizedMatrix(
      type: .f32, rows: rows, columns: columns, bytes: UnsafeRawBufferPointer(buffer.elements),
      owner: buffer)
  }

  static func weights(seed: UInt64) -> FrozenWeights {
    var generator = SplitMix64(seed: seed)
    func norm() -> [Float] { (0..<shape.width).map { _ in 1 + 0.3 * generator.nextUniform() } }
    let layers = (0..<shape.layers).map { _ in
      FrozenWeights.Layer(
        attentionNorm: norm(), feedForwardNorm: norm(),
        groups: ProjectionGroup.allCases.map { group in
          group.members.map {
            matrix(
              ProjectionGroup.outputWidth(of: $0, shape), group.inputWidth(shape), &generator)
          }
        })
    }
    let embedding = matrix(shape.vocabulary, shape.width, &generator)
    return FrozenWeights(
      shape: shape, layers: layers, embedding: embedding, output: embedding, outputNorm: norm())
  }

  /// Examples of different lengths whose prompts begin with the same `shared` tokens.
  static func examples(_ count: Int, shared: Int, seed: UInt64) -> [TrainingExample] {
    var generator = SplitMix64(seed: seed)
    func tokens(_ count: Int) -> [Int32] {
      (0..<count).map { _ in Int32.random(in: 0..<Int32(shape.vocabulary), using: &generator) }
    }
    let prefix = tokens(shared)
    return (0..<count).map { index in
      TrainingExample(
        prompt: prefix + tokens(2 + index * 29 % 90), completion: tokens(1 + index % 4))
    }
  }

  static func run(
    targets: [Projection] = Projection.allCases, dropout: Float = 0, memoryLimit: Int = 1 << 30,
    longest: Int = 200, batchRows: Int = 4000
  ) throws -> TrainingRun {
    try run(
      .lora(LoRASettings(rank: 3, alpha: 1, targets: targets)), dropout: dropout,
      memoryLimit: memoryLimit, longest: longest, batchRows: batchRows)
  }

  /// A run of any method from random numbers; those that scale are near what they are at first.
  static func run(
    _ method: AdapterMethod, dropout: Float = 0, memoryLimit: Int = 1 << 30, longest: Int = 200,
    batchRows: Int = 4000
  ) throws -> TrainingRun {
    let weights = weights(seed: 7)
    let layout = AdapterLayout(shape: shape, method: method)
    var generator = SplitMix64(seed: 11)
    let parameters = FloatBuffer((0..<layout.count).map { _ in generator.nextUniform() * 0.2 })
    let scale: Float = layout.virtualTokens > 0 ? 4 : 1
    for index in 0..<parameters.count { parameters.pointer[index] *= scale }
    let start = layout.initialParameters(seed: 1, weights: weights)
    layout.forEachSite { site, base in
      for index in base + site.scale..<base + site.scale + site.scaleCount {
        parameters.pointer[index] = start.pointer[index] * (1 + parameters.pointer[index])
      }
    }
    return try TrainingRun(
      weights: weights, layout: layout, scaling: 1.7, parameters: parameters, dropout: dropout,
      seed: 3, longest: longest, batchRows: batchRows, memoryLimit: memoryLimit)
  }

  /// Σ over all elements of (a - b)² relative to Σ b².
  static func distance(_ a: [Float], _ b: [Float]) -> Double {
    let difference = zip(a, b).reduce(0.0) { $0 + pow(Double($1.0 - $1.1), 2) }
    return (difference / b.reduce(0.0) { $0 + Double($1) * Double($1) }).squareRoot()
  }

  @Test(
    "gradients equal finite differences in every adapted tensor, with and without dropout",
    arguments: [Float(0), 0.3])
  func finiteDifferences(dropout: Float) throws {
    let run = try Self.run(dropout: dropout)
    let examples = Self.examples(3, shared: 4, seed: 5)
    _ = run.gradient(of: examples)
    let gradients = run.gradients.array
    var generator = SplitMix64(seed: 23)
    for layer in 0..<Self.shape.layers {
      for projection in Projection.allCases {
        for kind in ["A", "B"] {
          let range = try #require(run.layout.range(layer: layer, projection, kind))
          run.expectSlope(
            "layer \(layer) \(projection.rawValue) \(kind)", in: range, gradients: gradients,
            examples: examples, using: &generator)
        }
      }
    }
  }

  @Test("a packed batch with a shared prefix has the gradients of its examples one at a time")
  func packedEqualsSingle() throws {
    for (shared, targets) in [(0, Projection.allCases), (37, Projection.allCases), (20, [.query])] {
      let run = try Self.run(targets: targets)
      let examples = Self.examples(7, shared: shared, seed: 31)
      let loss = run.gradient(of: examples)
      let packed = run.gradients.array
      var sum = [Double](repeating: 0, count: packed.count)
      var lossSum = 0.0
      let total = examples.reduce(0) { $0 + $1.lossCount }
      for example in examples {
        let weight = Double(example.lossCount) / Double(total)
        lossSum += run.gradient(of: [example]) * weight
        for (index, value) in run.gradients.elements.enumerated() {
          sum[index] += Double(value) * weight
        }
      }
      #expect(abs(loss - lossSum) < 1e-5)
      let error = Self.distance(packed, sum.map { Float($0) })
      print("prefix \(shared): relative distance of packed gradients \(error)")
      #expect(error < 1e-4)
      #expect(PackedBatch(examples, sharePrefix: true).prefixCount >= shared)
    }
  }

  @Test("layers computed again in the backward pass and batches in several passes change nothing")
  func recomputation() throws {
    let examples = Self.examples(9, shared: 0, seed: 41)
    let free = try Self.run()
    #expect(free.plan.keepsLayers)
    _ = free.gradient(of: examples)
    // The least that is refused, and a little more.
    var limit = 0
    do {
      _ = try Self.run(memoryLimit: 0)
    } catch TrainingError.memory(let needed, _, let longest) {
      #expect(longest == 200)
      limit = needed
    }
    let tight = try Self.run(memoryLimit: limit + 1000)
    #expect(!tight.plan.keepsLayers && tight.plan.rowsPerPass < 300)
    #expect(tight.plan.totalBytes <= limit + 1000)
    _ = tight.gradient(of: examples)
    #expect(Self.distance(tight.gradients.array, free.gradients.array) < 1e-5)
  }

  @Test("projections in the lowest layer that need no gradient below them still get their own")
  func lowestLayer() throws {
    let examples = Self.examples(4, shared: 3, seed: 43)
    let all = try Self.run()
    _ = all.gradient(of: examples)
    for projection in Projection.allCases {
      let one = try Self.run(targets: [projection])
      // The same numbers for this projection, and none elsewhere.
      for layer in 0..<Self.shape.layers {
        for kind in ["A", "B"] {
          let from = try #require(all.layout.range(layer: layer, projection, kind))
          let to = try #require(one.layout.range(layer: layer, projection, kind))
          for (a, b) in zip(from, to) { one.parameters.pointer[b] = all.parameters.pointer[a] }
        }
      }
      for site in all.layout.sites.joined() where site.projection != projection {
        for layer in 0..<Self.shape.layers {
          let start = layer * all.layout.layerCount + site.b
          for index in start..<start + 3 * site.outputWidth { all.parameters.pointer[index] = 0 }
        }
      }
      _ = all.gradient(of: examples)
      _ = one.gradient(of: examples)
      for layer in 0..<Self.shape.layers {
        for kind in ["A", "B"] {
          let from = try #require(all.layout.range(layer: layer, projection, kind))
          let to = try #require(one.layout.range(layer: layer, projection, kind))
          #expect(
            Self.distance(
              Array(one.gradients.elements[to]), Array(all.gradients.elements[from])) < 1e-4)
        }
      }
      let fresh = try Self.run()
      all.parameters.pointer.update(from: fresh.parameters.pointer, count: fresh.layout.count)
    }
  }
}
