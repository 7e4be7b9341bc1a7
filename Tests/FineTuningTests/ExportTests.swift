// Writes adapters trained here, with their losses and logits, for Fixtures/check_in_peft.py and
// check_in_llama_cpp.py; on request only.

import Foundation
import LanguageModel
import Testing

@testable import FineTuning

@Suite("Export for PEFT and llama.cpp")
struct ExportTests {
  static let folder = ProcessInfo.processInfo.environment["OPPU_EXPORT_ADAPTER"]

  @Test(
    "an adapter of every method is written with its losses and logits", .enabled(if: folder != nil),
    arguments: TrainingMethod.allCases)
  func export(method: TrainingMethod) throws {
    let folder = try #require(Self.folder) + "/" + method.rawValue
    let model = try Fixtures.model.get()
    var configuration = TrainingConfiguration(method: method)
    if method == .lora || method == .dora { configuration.targets = Projection.allCases }
    configuration.rankStabilized = method == .dora
    configuration.promptInitialization = .tokens(model.tokenizer.encode("Answer as this user:"))
    configuration.learningRate = method == .ia3 || method == .promptTuning ? 3e-2 : 2e-3
    configuration.epochs = 6
    let trainer = try AdapterTrainer(model: model, configuration: configuration)
    let examples = try Fixtures.gradients.get().examples
    let result = try trainer.train(examples: examples)
    #expect(result.report.lossLastEpoch < result.report.lossFirstEpoch)
    try PEFTFolder.write(
      result.adapter, to: folder, baseModel: "SmolLM2-135M-Instruct", fingerprint: nil)
    if method == .lora {
      try GGUFAdapter.encode(result.adapter, configuration: model.configuration).write(
        to: URL(fileURLWithPath: folder + "/adapter.gguf"))
    }
    func logits(_ ids: [Int32], _ adapter: Adapter?) throws -> [Float] {
      try model.forward([
        Chunk(tokens: ids, cache: KVCache(for: model), adapter: adapter)
      ])[0][0]
    }
    let rows = try ["Tag this film: a clockmaker finds a map.\nTag:", "let x = 3 + 4"].map { text in
      let ids = model.tokenizer.encode(text)
      return Row(
        ids: ids, losses: try model.losses(of: ids, adapter: result.adapter),
        base: try logits(ids, nil), logits: try logits(ids, result.adapter))
    }
    try JSONEncoder().encode(["rows": rows]).write(
      to: URL(fileURLWithPath: folder).appendingPathComponent("expected.json"))
  }

  private struct Row: Encodable {
    let ids: [Int32]
    let losses: [Float]
    /// After the last token, without and with the adapter.
    let base: [Float]
    let logits: [Float]
  }
}
