// Writes an adapter trained here, with its losses, for Fixtures/check_in_peft.py; on request only.

import Foundation
import LanguageModel
import Testing

@testable import FineTuning

@Suite("Export for PEFT")
struct ExportTests {
  static let folder = ProcessInfo.processInfo.environment["OPPU_EXPORT_ADAPTER"]

  @Test("an adapter and its losses are written for check_in_peft.py", .enabled(if: folder != nil))
  func export() throws {
    let folder = try #require(Self.folder)
    let model = try Fixtures.model.get()
    var configuration = TrainingConfiguration()
    configuration.targets = Projection.allCases
    configuration.learningRate = 2e-3
    configuration.epochs = 6
    let trainer = try AdapterTrainer(model: model, configuration: configuration)
    let examples = try Fixtures.gradients.get().examples
    let adapter = try trainer.train(examples: examples).adapter
    try PEFTFolder.write(adapter, to: folder, baseModel: "SmolLM2-135M-Instruct")
    let rows = try ["Tag this film: a clockmaker finds a map.\nTag:", "let x = 3 + 4"].map { text in
      let ids = model.tokenizer.encode(text)
      let each = (1..<ids.count).map {
        TrainingExample(prompt: Array(ids[..<$0]), completion: [ids[$0]])
      }
      return Row(ids: ids, losses: try trainer.loss(of: each, adapter: adapter).examples)
    }
    try JSONEncoder().encode(["rows": rows]).write(
      to: URL(fileURLWithPath: folder).appendingPathComponent("losses.json"))
  }

  private struct Row: Encodable {
    let ids: [Int32]
    let losses: [Double]
  }
}
