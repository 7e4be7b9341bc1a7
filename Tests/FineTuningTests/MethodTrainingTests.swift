// Training of every method as a whole, on the default model with a handful of short examples.

import Foundation
import LanguageModel
import LinearAlgebra
import Testing

@testable import FineTuning

@Suite("Training of every method", .serialized)
struct MethodTrainingTests {
  private func examples(_ model: LlamaModel) -> [TrainingExample] {
    [("red", "apple"), ("yellow", "banana"), ("green", "pear"), ("orange", "orange")].map {
      TrainingExample(
        prompt: model.tokenizer.encode("A fruit that is \($0):"),
        completion: model.tokenizer.encode(" \($1)") + [model.tokenizer.eos])
    }
  }

  private func configuration(_ method: TrainingMethod) -> TrainingConfiguration {
    var configuration = TrainingConfiguration(method: method)
    configuration.rank = 4
    configuration.batchSize = 2
    configuration.epochs = 4
    configuration.virtualTokens = 8
    configuration.promptInitialization = .sampleVocabulary
    configuration.learningRate = method == .lora || method == .dora ? 5e-3 : 2e-2
    return configuration
  }

  /// The mean loss of the completions' tokens in the forward pass of inference.
  private func inferred(
    _ model: LlamaModel, _ examples: [TrainingExample], _ adapter: Adapter?
  ) throws -> Double {
    let sums = try examples.map {
      try -model.score(prompt: $0.prompt, candidates: [$0.completion], adapter: adapter)
        .logProbabilities[0]
    }
    return sums.reduce(0, +) / Double(examples.reduce(0) { $0 + $1.completion.count })
  }

  @Test(
    "the loss falls, training goes on from the result, and inference gives the same loss",
    arguments: TrainingMethod.allCases)
  func trains(method: TrainingMethod) throws {
    let model = try Fixtures.model.get()
    let examples = examples(model)
    let trainer = try AdapterTrainer(model: model, configuration: configuration(method))
    let result = try trainer.train(examples: examples)
    #expect(result.report.lossLastEpoch < 0.8 * result.report.lossFirstEpoch)
    let loss = try trainer.loss(of: examples, adapter: result.adapter).mean
    #expect(loss < (try trainer.loss(of: examples, adapter: nil).mean))
    #expect(abs(try inferred(model, examples, result.adapter) - loss) < 1e-3)
    let bytes = try PEFTFolder.encode(result.adapter)
    #expect(try PEFTFolder.encode(trainer.train(examples: examples).adapter) == bytes)
    let again = try PEFTFolder.decode(
      bytes, settings: PEFTConfiguration(result.adapter, baseModel: ""), model: model)
    var first: Double?
    _ = try trainer.train(examples: [examples[0]], startingFrom: again) {
      first = first ?? $0.loss
      return false
    }
    let alone = try trainer.loss(of: [examples[0]], adapter: result.adapter).mean
    #expect(abs(try #require(first) - alone) < 1e-4)
    for other in TrainingMethod.allCases where other != method {
      let stranger = try AdapterTrainer(model: model, configuration: configuration(other))
      #expect(throws: TrainingError.self) {
        try stranger.train(examples: examples, startingFrom: again)
      }
    }
  }

  @Test(
    "an adapter trained over the task's adapter is the one trained on the model with that merged",
    arguments: TrainingMethod.allCases)
  func stacked(method: TrainingMethod) throws {
    let model = try Fixtures.model.get()
    let examples = examples(model)
    var settings = configuration(.lora)
    settings.targets = [.value, .down]
    let task = try AdapterTrainer(model: model, configuration: settings)
      .train(examples: Array(examples[..<2])).adapter
    let merged = try model.merging(task)
    settings = configuration(method)
    settings.epochs = 2
    let over = try AdapterTrainer(model: model, configuration: settings, over: task)
    let onMerged = try AdapterTrainer(model: merged, configuration: settings)
    let (a, b) = (try over.train(examples: examples), try onMerged.train(examples: examples))
    for (one, other) in zip(a.losses, b.losses) { #expect(abs(one - other) < 1e-3) }
    let stack = try Adapter.stack([task, a.adapter], configuration: model.configuration)
    let loss = try over.loss(of: examples, adapter: a.adapter).mean
    #expect(abs(loss - (try onMerged.loss(of: examples, adapter: b.adapter).mean)) < 1e-3)
    #expect(abs(try inferred(model, examples, stack) - loss) < 1e-3)
    #expect(abs(try inferred(merged, examples, a.adapter) - loss) < 1e-3)
    #expect(loss < (try over.loss(of: examples, adapter: nil).mean))
  }

  @Test("a user's prompt comes after the task's, and only the user's is trained")
  func prompts() throws {
    let model = try Fixtures.model.get()
    let examples = examples(model)
    let settings = configuration(.promptTuning)
    let task = try AdapterTrainer(model: model, configuration: settings)
      .train(examples: [examples[0]]).adapter
    let trainer = try AdapterTrainer(model: model, configuration: settings, over: task)
    let result = try trainer.train(examples: examples)
    #expect(result.adapter.virtualTokenCount == 8)
    #expect(result.report.lossLastEpoch < result.report.lossFirstEpoch)
    let stack = try Adapter.stack([task, result.adapter], configuration: model.configuration)
    #expect(
      stack.virtualTokens?.array
        == (task.virtualTokens?.array ?? []) + (result.adapter.virtualTokens?.array ?? []))
    let loss = try trainer.loss(of: examples, adapter: result.adapter).mean
    #expect(abs(try inferred(model, examples, stack) - loss) < 1e-3)
  }

  @Test("settings that a method cannot have are refused, and its memory is planned")
  func settings() throws {
    let model = try Fixtures.model.get()
    for (method, change): (TrainingMethod, (inout TrainingConfiguration) -> Void) in [
      (.ia3, { $0.feedForwardTargets = [.up] }), (.ia3, { $0.dropout = 0.1 }),
      (.ia3, { ($0.targets, $0.feedForwardTargets) = ([.key, .gate], [.gate]) }),
      (.promptTuning, { $0.virtualTokens = 0 }), (.promptTuning, { $0.dropout = 0.1 }),
      (.promptTuning, { $0.promptInitialization = .tokens([]) }),
      (.promptTuning, { $0.promptInitialization = .tokens([49_152]) }),
    ] {
      var settings = configuration(method)
      change(&settings)
      #expect(throws: TrainingError.self) {
        try AdapterTrainer(model: model, configuration: settings)
      }
    }
    let plans = try TrainingMethod.allCases.map {
      try AdapterTrainer(model: model, configuration: configuration($0))
        .memoryPlan(for: examples(model))
    }
    // LoRA's numbers, DoRA's magnitudes on top, (IA)³'s few, the embeddings.
    let lora = 30 * 4 * (2 * 576 + 576 + 192) * 5 * 4
    #expect(
      plans.map(\.adapterBytes) == [
        lora, lora + 30 * (576 + 192) * 6 * 4, 30 * (192 + 192 + 1536) * 5 * 4, 8 * 576 * 5 * 4,
      ])
    #expect(plans[1].passBytes > plans[0].passBytes && plans[3].passBytes > plans[0].passBytes)
  }
}
