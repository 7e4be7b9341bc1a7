// Properties of the backward pass of every method on a tiny model with random weights.

import Foundation
import LanguageModel
import LinearAlgebra
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
    let start = run.parameters.array
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
          let norm = gradients[range].reduce(0) { $0 + $1 * $1 }.squareRoot()
          let direction = range.map {
            gradients[$0] / norm + 0.3 * generator.nextUniform() / Float(range.count).squareRoot()
          }
          let expected = zip(range, direction).reduce(0.0) {
            $0 + Double(gradients[$1.0]) * Double($1.1)
          }
          let step: Float = 0.01
          func loss(_ sign: Float) -> Double {
            for (index, value) in zip(range, direction) {
              run.parameters.pointer[index] = start[index] + sign * step * value
            }
            return run.gradient(of: examples)
          }
          let slope = (loss(1) - loss(-1)) / Double(2 * step)
          for index in range { run.parameters.pointer[index] = start[index] }
          #expect(
            abs(slope - expected) < 1e-2 * abs(expected) + 1e-4,
            "layer \(layer) \(String(describing: projection)) \(kind): \(slope), \(expected)")
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
