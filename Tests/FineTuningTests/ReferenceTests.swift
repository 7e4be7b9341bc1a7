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
    #expect(reference.recorded.tensors.count == 2 * 30 * reference.settings.targets.count)
    try reference.run(fixture.examples)
      .expectGradients(reference.recorded, of: fixture.examples)
  }

  @Test("ten optimiser steps land within 1e-3 of PEFT's losses", arguments: [0, 1])
  func tenSteps(index: Int) throws {
    let fixture = try Fixtures.gradients.get()
    let reference = fixture.steps[index]
    try reference.run(fixture.examples)
      .expectSteps(reference.recorded, of: fixture.examples, tolerance: 1e-3)
  }
}
