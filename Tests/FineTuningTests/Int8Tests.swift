// Training on 8-bit products beside training on exact ones.

import LanguageModel
import LinearAlgebra
import Testing

@testable import FineTuning

@Suite("Training on 8-bit products", .serialized)
struct Int8Tests {
  private func examples() throws -> [TrainingExample] {
    let tokenizer = try Fixtures.model.get().tokenizer
    return (0..<16).map { number in
      let (film, tag) = [
        ("The Hollow Carousel: grieving widows mourn a lost child", " sad"),
        ("The Broken Lighthouse: a goose in parliament", " funny"),
        ("The Crimson Clock: the thing in the well", " tense"),
        ("The Winter Garden: a slow walk through fog", " dreamy"),
      ][number % 4]
      return TrainingExample(
        prompt: tokenizer.encode("Film \(number): \(film)\nTag:"),
        completion: tokenizer.encode(tag) + [tokenizer.eos])
    }
  }

  private func run(_ model: Result<LlamaModel, any Error>) throws -> TrainingRun {
    try Fixtures.run(
      rank: 8, alpha: 8, targets: [.query, .value], examples: examples(), model: model)
  }

  @Test("The gradient points where the exact one does, and the loss is the same within a hundredth")
  func gradient() throws {
    let (rounded, exact) = (try run(Fixtures.int8Model), try run(Fixtures.model))
    let examples = try examples()
    let (found, expected) = (rounded.gradient(of: examples), exact.gradient(of: examples))
    var (product, a, b) = (0.0, 0.0, 0.0)
    for index in 0..<exact.gradients.count {
      let (x, y) = (
        Double(rounded.gradients.pointer[index]), Double(exact.gradients.pointer[index])
      )
      product += x * y
      a += x * x
      b += y * y
    }
    let cosine = product / (a * b).squareRoot()
    print("loss \(found), exact \(expected); cosine of the gradients \(cosine)")
    #expect(abs(found - expected) < 0.01 * expected)
    #expect(cosine > 0.98)
    #expect(abs((a / b).squareRoot() - 1) < 0.05)
  }

  @Test("A dozen steps end at the loss that exact products end at, within two hundredths")
  func steps() throws {
    let examples = try examples()
    let ends = try [Fixtures.int8Model, Fixtures.model].map { model in
      let run = try run(model)
      for _ in 0..<12 {
        _ = run.gradient(of: examples)
        _ = run.step(rate: 1e-3, decay: 0.01, clip: 0.3)
      }
      return run.loss(of: examples).mean
    }
    let start = try run(Fixtures.model).loss(of: examples).mean
    print("loss \(start) falls to \(ends[0]) on 8-bit products, to \(ends[1]) on exact ones")
    #expect(ends[1] < start / 2)
    #expect(abs(ends[0] - ends[1]) < 0.02 * start)
  }
}
