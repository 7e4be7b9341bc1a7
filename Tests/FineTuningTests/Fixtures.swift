// What the tests share: the default model, the reference values and their formula for A and B.

import Foundation
import LanguageModel
import LinearAlgebra
import TestSupport
import Testing

@testable import FineTuning

enum Fixtures {
  static let folder = Paths.root.appending(path: "Tests/FineTuningTests/Fixtures")
  static let modelPath = Paths.model
  static let model = Result { try LlamaModel.load(path: modelPath, precision: .float32) }
  /// As users have it.
  static let int8Model = Result { try LlamaModel.load(path: modelPath) }
  static let gradients = Result { try decoded(Gradients.self, "gradients.json") }

  static func decoded<Fixture: Decodable>(_ type: Fixture.Type, _ name: String) throws -> Fixture {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(type, from: Data(contentsOf: folder.appendingPathComponent(name)))
  }

  /// Uniform in (-scale, scale): the hash of seed and index that make_fixtures.py has.
  static func pseudoRandom(seed: Int, count: Int, scale: Double) -> [Float] {
    (0..<count).map { index in
      var x = UInt32(truncatingIfNeeded: index + seed * 1_000_003)
      for _ in 0..<2 { x = (x ^ (x >> 16)) &* 0x45D9F3B }
      x ^= x >> 16
      return Float(((Double(x) + 0.5) / 4_294_967_296 * 2 - 1) * scale)
    }
  }

  /// The parameters that make_fixtures.py starts from.
  static func initialParameters(_ layout: AdapterLayout) -> FloatBuffer {
    let parameters = FloatBuffer(zeros: layout.count)
    layout.forEachSite { site, base in
      let layer = base / layout.layerCount
      let seed = (layer * Projection.allCases.count + site.projection.index) * 2
      let a = pseudoRandom(seed: seed, count: layout.rank * site.inputWidth, scale: 0.05)
      let b = pseudoRandom(seed: seed + 1, count: layout.rank * site.outputWidth, scale: 0.02)
      (parameters.pointer + base + site.a).update(from: a, count: a.count)
      (parameters.pointer + base + site.b).update(from: b, count: b.count)
    }
    return parameters
  }

  static func run(
    rank: Int, alpha: Float, targets: [Projection], examples: [TrainingExample],
    memoryLimit: Int = 1 << 31, model: Result<LlamaModel, any Error> = Fixtures.model
  ) throws -> TrainingRun {
    let weights = FrozenWeights(try model.get())
    let layout = AdapterLayout(shape: weights.shape, rank: rank, targets: targets)
    return try TrainingRun(
      weights: weights, layout: layout, scaling: alpha / Float(rank),
      parameters: initialParameters(layout), dropout: 0, seed: 0,
      longest: examples.map(\.tokenCount).max() ?? 0,
      batchRows: examples.reduce(0) { $0 + $1.tokenCount }, memoryLimit: memoryLimit)
  }
}

struct Gradients: Decodable, Sendable {
  /// An adapter's settings, and beside them what was recorded with it.
  struct Case<Recorded: Decodable & Sendable>: Decodable, Sendable {
    struct Settings: Decodable, Sendable {
      let rank: Int
      let alpha: Float
      let targets: [Projection]
    }

    let settings: Settings
    let recorded: Recorded

    init(from decoder: any Decoder) throws {
      settings = try Settings(from: decoder)
      recorded = try Recorded(from: decoder)
    }

    func run(_ examples: [TrainingExample]) throws -> TrainingRun {
      try Fixtures.run(
        rank: settings.rank, alpha: settings.alpha, targets: settings.targets, examples: examples)
    }
  }

  let examples: [TrainingExample]
  let cases: [Case<RecordedGradients>]
  let steps: [Case<RecordedSteps>]
}

extension AdapterLayout {
  /// The place of a factor ("A", "B"), of a scale or of the virtual tokens in the flat array.
  func range(layer: Int, _ projection: Projection?, _ kind: String) -> Range<Int>? {
    if kind == "prompt" { return layerCount * shape.layers..<count }
    for site in sites.joined() where site.projection == projection {
      if kind == "scale" {
        let start = layer * layerCount + site.scale
        return start..<start + site.scaleCount
      }
      let start = layer * layerCount + (kind == "A" ? site.a : site.b)
      return start..<start + rank * (kind == "A" ? site.inputWidth : site.outputWidth)
    }
    return nil
  }
}
