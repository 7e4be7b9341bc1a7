// The training pass of what Qwen 2 and 3 add to a llama: biases, norms of heads, heads whose widths do
// not add up to the stream's, and scaled rotations.

import Foundation
import LanguageModel
import LinearAlgebra
import RandomNumbers
import TestSupport
import Testing

@testable import FineTuning

@Suite("Gradients of other architectures")
struct ArchitectureGradientTests {
  private static func weights() -> FrozenWeights {
    var shape = GradientTests.shape
    shape.headWidth = 12
    shape.normalizesHeads = true
    shape.ropeScaling = .yarn(
      factor: 4, originalContext: 32, attentionFactor: 1.2, betaFast: 32, betaSlow: 1)
    var generator = SplitMix64(seed: 7)
    func vector(_ count: Int, around centre: Float) -> [Float] {
      (0..<count).map { _ in centre + 0.5 * generator.nextUniform() }
    }
    let layers = (0..<shape.layers).map { _ in
      FrozenWeights.Layer(
        attentionNorm: vector(shape.width, around: 1),
        feedForwardNorm: vector(shape.width, around: 1),
        groups: ProjectionGroup.allCases.map { group in
          group.members.map {
            GradientTests.matrix(
              ProjectionGroup.outputWidth(of: $0, shape), group.inputWidth(shape), &generator)
          }
        },
        qkvBias: vector(shape.qkvWidth, around: 0), queryNorm: vector(shape.headWidth, around: 1),
        keyNorm: vector(shape.headWidth, around: 1))
    }
    let embedding = GradientTests.matrix(shape.vocabulary, shape.width, &generator)
    return FrozenWeights(
      shape: shape, layers: layers, embedding: embedding, output: embedding,
      outputNorm: vector(shape.width, around: 1))
  }

  @Test("gradients equal finite differences in every adapted tensor, kept or computed again")
  func finiteDifferences() throws {
    let weights = Self.weights()
    let layout = AdapterLayout(shape: weights.shape, rank: 3, targets: Projection.allCases)
    var generator = SplitMix64(seed: 11)
    let parameters = FloatBuffer((0..<layout.count).map { _ in generator.nextUniform() * 0.2 })
    func plan(memoryLimit: Int) throws -> TrainingRun {
      try TrainingRun(
        weights: weights, layout: layout, scaling: 1.7, parameters: parameters, dropout: 0, seed: 3,
        longest: 200, batchRows: 1000, memoryLimit: memoryLimit)
    }
    let run = try plan(memoryLimit: 1 << 30)
    let examples = GradientTests.examples(3, shared: 4, seed: 5)
    _ = run.gradient(of: examples)
    let gradients = run.gradients.array
    for layer in 0..<weights.shape.layers {
      for projection in Projection.allCases {
        for kind in ["A", "B"] {
          let range = try #require(layout.range(layer: layer, projection, kind))
          run.expectSlope(
            "layer \(layer) \(projection.rawValue) \(kind)", in: range, gradients: gradients,
            examples: examples, using: &generator)
        }
      }
    }
    var needed = 0
    do {
      _ = try plan(memoryLimit: 0)
    } catch TrainingError.memory(let bytes, _, _) {
      needed = bytes
    }
    let tight = try plan(memoryLimit: needed + 1000)
    #expect(!tight.plan.keepsLayers)
    _ = tight.gradient(of: examples)
    #expect(GradientTests.distance(tight.gradients.array, gradients) < 1e-5)
  }

  @Test(
    "the training pass has the losses of the inference pass",
    arguments: ["llama2", "llama3", "mistral", "smollm", "qwen2", "qwen3"])
  func losses(name: String) throws {
    let folder = Paths.root.appending(path: "Tests/LanguageModelTests/Fixtures/models")
    let model = try LlamaModel.load(
      path: folder.appending(path: name).path, precision: .float32)
    let tokens = (0..<40).map { Int32((11 * $0 + 5) % 300) }
    let example = TrainingExample(
      prompt: Array(tokens.prefix(1)), completion: Array(tokens.dropFirst()))
    let weights = FrozenWeights(model)
    let layout = AdapterLayout(shape: weights.shape, rank: 2, targets: [.query])
    let run = try TrainingRun(
      weights: weights, layout: layout, scaling: 1, parameters: FloatBuffer(zeros: layout.count),
      dropout: 0, seed: 0, longest: 40, batchRows: 40, memoryLimit: 1 << 30)
    let losses = try model.losses(of: tokens)
    let expected = losses.reduce(0.0) { $0 + Double($1) } / Double(losses.count)
    #expect(abs(run.gradient(of: [example]) - expected) < 1e-4 * expected)
  }
}
