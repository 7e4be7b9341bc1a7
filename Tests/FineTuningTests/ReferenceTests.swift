// Losses, gradients and optimiser steps against PyTorch + PEFT (Fixtures/make_fixtures.py).

import Foundation
import LanguageModel
import Testing

@testable import FineTuning

@Suite("Against PyTorch and PEFT", .serialized)
struct ReferenceTests {
  @Test(
    "loss and every adapter gradient of a fixed batch equal PyTorch's within 1e-3",
    arguments: [0, 1])
  func gradients(index: Int) throws {
    let fixture = try Fixtures.gradients.get()
    let reference = fixture.cases[index]
    let run = try Fixtures.run(
      rank: reference.rank, alpha: reference.alpha, targets: reference.targets,
      examples: fixture.examples)
    let loss = run.gradient(of: fixture.examples)
    #expect(abs(loss - reference.loss) < 1e-3 * reference.loss)
    #expect(
      abs(AdamW.norm(run.gradients) - reference.gradientNorm) < 1e-3 * reference.gradientNorm)
    #expect(reference.tensors.count == 2 * 30 * reference.targets.count)
    var worst = 0.0
    for tensor in reference.tensors {
      let range = try #require(
        run.layout.range(layer: tensor.layer, tensor.projection, tensor.kind))
      let ours = Array(run.gradients.elements[range])
      let norm = ours.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
      #expect(abs(norm - tensor.norm) < 1e-3 * tensor.norm)
      // A sampled element may be near zero by cancellation: the tensor's own scale counts.
      let scale = tensor.norm / Double(ours.count).squareRoot()
      for (place, value) in zip(tensor.places, tensor.values) {
        let error = abs(Double(ours[place]) - value) / max(abs(value), scale)
        worst = max(worst, error)
        #expect(error < 1e-3, "layer \(tensor.layer) \(tensor.projection) \(tensor.kind)[\(place)]")
      }
    }
    print("loss \(loss) against \(reference.loss), largest gradient error \(worst)")
  }

  @Test("ten optimiser steps land within 1e-3 of PEFT's losses", arguments: [0, 1])
  func tenSteps(index: Int) throws {
    let fixture = try Fixtures.gradients.get()
    let reference = fixture.steps[index]
    let run = try Fixtures.run(
      rank: reference.rank, alpha: reference.alpha, targets: reference.targets,
      examples: fixture.examples)
    let schedule = LinearSchedule(
      warmupSteps: reference.warmupSteps, steps: reference.batches.count)
    for (step, batch) in reference.batches.enumerated() {
      let loss = run.gradient(of: batch.map { fixture.examples[$0] })
      let norm = run.step(
        rate: reference.lr * schedule.factor(step), decay: reference.weightDecay,
        clip: reference.clip)
      #expect(abs(loss - reference.losses[step]) < 1e-3 * max(1, reference.losses[step]))
      print(
        "step \(step): \(loss) \(reference.losses[step]), norm \(norm) \(reference.gradientNorms[step])"
      )
    }
    let after = run.loss(of: fixture.examples).mean
    #expect(abs(after - reference.lossAfter) < 1e-3)
    print("after: \(after) \(reference.lossAfter)")
  }
}
