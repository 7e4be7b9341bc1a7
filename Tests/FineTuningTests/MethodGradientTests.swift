// Properties of the backward pass of every method on a tiny model with random weights.

import Foundation
import LanguageModel
import LinearAlgebra
import RandomNumbers
import Testing

@testable import FineTuning

@Suite("Gradients of every method")
struct MethodGradientTests {
  static let methods: [AdapterMethod] = [
    .lora(LoRASettings(rank: 3, alpha: 1, targets: Projection.allCases)),
    .lora(LoRASettings(rank: 3, alpha: 1, targets: Projection.allCases, dora: true)),
    .lora(LoRASettings(rank: 2, alpha: 1, targets: [.value, .down], dora: true)),
    .ia3(IA3Settings()),
    .ia3(IA3Settings(targets: Projection.allCases, feedForward: [.output, .down])),
    .ia3(IA3Settings(targets: [.output, .down], feedForward: [])),
    .promptTuning(virtualTokens: 6),
  ]

  @Test(
    "A packed batch with a shared prefix has the gradients of its examples one at a time",
    arguments: methods.indices)
  func packedEqualsSingle(index: Int) throws {
    for shared in [0, 37] {
      let run = try GradientTests.run(Self.methods[index])
      let examples = GradientTests.examples(7, shared: shared, seed: 31)
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
      let error = GradientTests.distance(packed, sum.map { Float($0) })
      print("method \(index), prefix \(shared): relative distance \(error)")
      #expect(error < 1e-4)
      // Every number takes part.
      #expect(packed.filter { $0 != 0 }.count > packed.count * 9 / 10)
    }
  }

  @Test(
    "Gradients equal finite differences with DoRA's norms held still", arguments: methods.indices)
  func finiteDifferences(index: Int) throws {
    let run = try GradientTests.run(Self.methods[index])
    let examples = GradientTests.examples(3, shared: 4, seed: 5)
    _ = run.gradient(of: examples)
    let gradients = run.gradients.array
    var generator = SplitMix64(seed: 23)
    let places = run.layout.virtualTokens > 0 ? 1 : GradientTests.shape.layers
    for layer in 0..<places {
      let projections: [Projection?] =
        run.layout.virtualTokens > 0 ? [nil] : run.layout.sites.joined().map(\.projection)
      for projection in projections {
        for kind in ["A", "B", "scale", "prompt"] {
          // A and B change DoRA's norms, which their gradient does not see.
          if run.layout.isDoRA && kind != "scale" { continue }
          if (kind == "prompt") != (projection == nil) { continue }
          let range = try #require(run.layout.range(layer: layer, projection, kind))
          if range.isEmpty { continue }
          run.expectSlope(
            "layer \(layer) \(projection?.rawValue ?? "") \(kind)", in: range, gradients: gradients,
            examples: examples, using: &generator)
        }
      }
    }
  }

  @Test(
    "Layers computed again in the backward pass and batches in several passes change nothing",
    arguments: methods.indices)
  func recomputation(index: Int) throws {
    let examples = GradientTests.examples(9, shared: 5, seed: 41)
    let free = try GradientTests.run(Self.methods[index])
    _ = free.gradient(of: examples)
    var limit = 0
    do {
      _ = try GradientTests.run(Self.methods[index], memoryLimit: 0)
    } catch TrainingError.memory(let needed, _, _) { limit = needed }
    let tight = try GradientTests.run(Self.methods[index], memoryLimit: limit + 1000)
    #expect(free.plan.keepsLayers && !tight.plan.keepsLayers)
    _ = tight.gradient(of: examples)
    #expect(GradientTests.distance(tight.gradients.array, free.gradients.array) < 1e-5)
  }
}
