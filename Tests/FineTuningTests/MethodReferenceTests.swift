// DoRA, (IA)³ and prompt tuning against PyTorch + PEFT (Fixtures/make_method_fixtures.py).

import Foundation
import LanguageModel
import LinearAlgebra
import Testing

@testable import FineTuning

private struct Recorded: Decodable {
  struct Row: Decodable {
    let ids: [Int32]
    let losses: [Double]
    let places: [Int]
    let last: [Float]
    let largestChange: Float
  }
  struct Method: Decodable {
    let gradients: RecordedGradients
    let steps: RecordedSteps
    let rows: [Row]
  }
  let examples: [TrainingExample]
  let virtualTokens: Int
  let methods: [String: Method]

  static let shared = Result { try Fixtures.decoded(Recorded.self, "methods.json") }
}

@Suite("Every method against PyTorch and PEFT", .serialized)
struct MethodReferenceTests {
  static let names = ["dora", "ia3", "prompt_tuning"]

  private static func method(_ name: String, virtualTokens: Int) -> AdapterMethod {
    switch name {
    case "dora":
      .lora(LoRASettings(rank: 4, alpha: 8, targets: [.query, .output, .down], dora: true))
    case "ia3": .ia3(IA3Settings())
    default: .promptTuning(virtualTokens: virtualTokens)
    }
  }

  /// A run from the numbers that make_method_fixtures.py begins with.
  private func run(_ name: String, _ recorded: Recorded) throws -> TrainingRun {
    let weights = FrozenWeights(try Fixtures.model.get())
    let layout = AdapterLayout(
      shape: weights.shape, method: Self.method(name, virtualTokens: recorded.virtualTokens))
    let parameters = layout.initialParameters(seed: 0, weights: weights)
    layout.forEachSite { site, base in
      let layer = base / layout.layerCount
      let seed = (layer * Projection.allCases.count + site.projection.index) * 2
      let a = Fixtures.pseudoRandom(
        seed: seed, count: layout.rank * site.inputWidth, scale: 0.05)
      let b = Fixtures.pseudoRandom(
        seed: seed + 1, count: layout.rank * site.outputWidth, scale: 0.02)
      let scale = Fixtures.pseudoRandom(seed: seed + 1000, count: site.scaleCount, scale: 0.1)
      (parameters.pointer + base + site.a).update(from: a, count: a.count)
      (parameters.pointer + base + site.b).update(from: b, count: b.count)
      for (index, value) in scale.enumerated() {
        parameters.pointer[base + site.scale + index] *= 1 + value
      }
    }
    let rows = Fixtures.pseudoRandom(
      seed: 9999, count: layout.virtualTokens * layout.shape.width, scale: 0.2)
    (parameters.pointer + layout.layerCount * layout.shape.layers).update(
      from: rows, count: rows.count)
    return try TrainingRun(
      weights: weights, layout: layout, scaling: 2, parameters: parameters, dropout: 0, seed: 0,
      longest: recorded.examples.map(\.tokenCount).max() ?? 0,
      batchRows: recorded.examples.reduce(0) { $0 + $1.tokenCount }, memoryLimit: 1 << 31)
  }

  @Test("loss and every gradient of a fixed batch equal PEFT's within 1e-3", arguments: names)
  func gradients(name: String) throws {
    let recorded = try Recorded.shared.get()
    let reference = try #require(recorded.methods[name]).gradients
    let run = try run(name, recorded)
    try run.expectGradients(reference, of: recorded.examples)
    #expect(
      run.layout.count
        == reference.tensors.reduce(0) { sum, tensor in
          sum + (run.layout.range(layer: tensor.layer, tensor.projection, tensor.kind)?.count ?? 0)
        })
  }

  @Test("ten optimiser steps land within 1e-4 of PEFT's losses", arguments: names)
  func tenSteps(name: String) throws {
    let recorded = try Recorded.shared.get()
    let reference = try #require(recorded.methods[name]).steps
    try run(name, recorded).expectSteps(reference, of: recorded.examples, tolerance: 1e-4)
  }

  @Test(
    "an adapter trained in PEFT gives the logits and losses here that it gives there",
    arguments: names)
  func trainedInPEFT(name: String) throws {
    let model = try Fixtures.model.get()
    let recorded = try #require(Recorded.shared.get().methods[name])
    let folder = Fixtures.folder.appendingPathComponent("peft_\(name)").path
    let adapter = try PEFTFolder.read(folder, model: model)
    let trainer = try AdapterTrainer(model: model, configuration: TrainingConfiguration())
    for row in recorded.rows {
      let chunk = Chunk(
        tokens: row.ids, cache: KVCache(for: model), adapter: adapter, logits: .last)
      let logits = try #require(try model.forward([chunk]).first)[0]
      let worst = zip(row.places, row.last).map { abs(logits[$0] - $1) }.max() ?? .infinity
      #expect(row.largestChange > 0.5 && worst < 1e-2)
      let losses = try model.losses(of: row.ids, adapter: adapter)
      let worstLoss = zip(losses, row.losses).map { abs(Double($0) - $1) }.max() ?? .infinity
      #expect(losses.count == row.losses.count && worstLoss < 2e-3)
      let examples = (1..<row.ids.count).map {
        TrainingExample(prompt: Array(row.ids[..<$0]), completion: [row.ids[$0]])
      }
      let trained = try trainer.loss(of: examples, adapter: adapter).examples
      let worstTrained = zip(trained, row.losses).map { abs($0 - $1) }.max() ?? .infinity
      #expect(worstTrained < 2e-3)
      print("\(name): logits within \(worst), losses within \(worstLoss) and \(worstTrained)")
    }
    // PEFT's own files and ours name the same tensors with the same shapes, and read back the same.
    let theirs = try SafetensorsFile(path: folder + "/" + PEFTFolder.weightsName)
    let ours = try SafetensorsFile(data: PEFTFolder.encode(adapter))
    #expect(ours.tensors.mapValues(\.shape) == theirs.tensors.mapValues(\.shape))
    for name in theirs.tensors.keys { #expect(try ours.floats(name) == theirs.floats(name)) }
    let settings = try PEFTConfiguration(adapter, baseModel: "SmolLM2-135M-Instruct")
    #expect(try PEFTConfiguration(json: settings.json()) == settings)
    let json = try Data(
      contentsOf: URL(fileURLWithPath: folder + "/" + PEFTFolder.configurationName))
    #expect(try PEFTConfiguration(json: json) == settings)
  }

  @Test(
    "settings of (IA)³ and prompt tuning that cannot be honoured are refused by name",
    arguments: [
      (
        #"{"peft_type":"IA3","target_modules":["k_proj"],"feedforward_modules":["up_proj"]}"#,
        "up_proj"
      ),
      (#"{"peft_type":"IA3","target_modules":"all-linear"}"#, "all-linear"),
      (
        #"{"peft_type":"IA3","target_modules":["k_proj"],"modules_to_save":["lm_head"]}"#,
        "modules_to_save"
      ),
      (#"{"peft_type":"PROMPT_TUNING","num_virtual_tokens":0}"#, "num_virtual_tokens"),
      (
        #"{"peft_type":"PROMPT_TUNING","num_virtual_tokens":4,"num_transformer_submodules":2}"#,
        "submodules"
      ),
      (#"{"peft_type":"PROMPT_TUNING","num_virtual_tokens":4,"r":2}"#, "option r"),
    ])
  func refused(json: String, reason: String) throws {
    do {
      _ = try PEFTConfiguration(json: Data(json.utf8), file: "c.json")
      Issue.record("accepted")
    } catch {
      #expect("\(error)".hasPrefix("c.json: ") && "\(error)".contains(reason), "\(error)")
    }
  }
}
