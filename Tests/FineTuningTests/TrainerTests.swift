// The trainer as a whole, on the default model with a handful of short examples.

import Foundation
import LanguageModel
import LinearAlgebra
import Testing

@testable import FineTuning

@Suite("Training", .serialized)
struct TrainerTests {
  private func examples(_ model: LlamaModel) -> [TrainingExample] {
    [("red", "apple"), ("yellow", "banana"), ("green", "pear"), ("orange", "orange")].map {
      TrainingExample(
        prompt: model.tokenizer.encode("A fruit that is \($0):"),
        completion: model.tokenizer.encode(" \($1)") + [model.tokenizer.eos])
    }
  }

  private func configuration(_ change: (inout TrainingConfiguration) -> Void = { _ in })
    -> TrainingConfiguration
  {
    var configuration = TrainingConfiguration()
    configuration.rank = 4
    configuration.targets = [.query, .value, .down]
    configuration.batchSize = 2
    configuration.epochs = 4
    configuration.learningRate = 5e-3
    change(&configuration)
    return configuration
  }

  @Test("the loss falls, equal seeds give equal adapters, and other seeds do not")
  func seeds() throws {
    let model = try Fixtures.model.get()
    func train(_ seed: UInt64) throws -> TrainingResult {
      try AdapterTrainer(
        model: model, configuration: configuration { ($0.seed, $0.dropout) = (seed, 0.05) }
      ).train(examples: examples(model))
    }
    let first = try train(1)
    #expect(first.end == .completed && first.losses.count == 8)
    #expect(first.report.lossLastEpoch < 0.7 * first.report.lossFirstEpoch)
    #expect(first.report.examples == 16 && first.report.steps == 8)
    let bytes = try PEFTFolder.encode(first.adapter)
    #expect(try PEFTFolder.encode(train(1).adapter) == bytes)
    #expect(try PEFTFolder.encode(train(2).adapter) != bytes)
  }

  @Test("training goes on from an adapter, and the callback stops it")
  func incremental() throws {
    let model = try Fixtures.model.get()
    // One batch holds all examples, so that a step's loss is that of the whole set.
    let trainer = try AdapterTrainer(
      model: model, configuration: configuration { ($0.batchSize, $0.learningRate) = (4, 1e-3) })
    let examples = examples(model)
    let first = try trainer.train(examples: examples) { $0.step < 2 }
    #expect(first.end == .stopped && first.losses.count == 2)
    let before = try trainer.loss(of: examples, adapter: first.adapter).mean
    #expect(try trainer.loss(of: examples, adapter: nil).mean > before)
    var seen: [Double] = []
    let second = try trainer.train(examples: examples, startingFrom: first.adapter) {
      seen.append($0.loss)
      return true
    }
    #expect(seen == second.losses && seen.count == 4 && second.end == .completed)
    #expect(abs(try #require(seen.first) - before) < 1e-4)
    #expect(try trainer.loss(of: examples, adapter: second.adapter).mean < before)
    let other = try AdapterTrainer(model: model, configuration: configuration { $0.rank = 2 })
    #expect(throws: TrainingError.self) {
      try other.train(examples: examples, startingFrom: first.adapter)
    }
  }

  @Test("held-out loss stops training early and the best epoch's weights come back")
  func earlyStopping() throws {
    let model = try Fixtures.model.get()
    let all = examples(model)
    // What is held out contradicts what is trained, so its loss must turn soon.
    let heldOut = [TrainingExample(prompt: all[0].prompt, completion: all[1].completion)]
    let trainer = try AdapterTrainer(
      model: model, configuration: configuration { ($0.epochs, $0.learningRate) = (12, 2e-2) })
    let result = try trainer.train(examples: [all[0]], heldOut: heldOut)
    #expect(result.end == .earlyStopped)
    let best = try #require(result.bestEpoch)
    #expect(result.heldOutLosses.count == best + 2)
    #expect(result.heldOutLosses.dropFirst().min() == result.heldOutLosses[best])
    let loss = try trainer.loss(of: heldOut, adapter: result.adapter).mean
    #expect(abs(loss - result.heldOutLosses[best]) < 1e-4)
  }

  @Test("settings and examples that cannot work are refused by name")
  func refusals() throws {
    let model = try Fixtures.model.get()
    for change: (inout TrainingConfiguration) -> Void in [
      { $0.rank = 0 }, { $0.targets = [] }, { $0.dropout = 1 }, { $0.learningRate = .nan },
      { $0.epochs = 0 }, { $0.clip = 0 }, { $0.alpha = .infinity },
    ] {
      #expect(throws: TrainingError.self) {
        try AdapterTrainer(model: model, configuration: configuration(change))
      }
    }
    let trainer = try AdapterTrainer(model: model, configuration: configuration { $0.cutoff = 8 })
    #expect(throws: TrainingError.noExamples) { try trainer.train(examples: []) }
    let bad: [TrainingExample] = [
      .init(prompt: [1], completion: Array(repeating: 5, count: 9)),
      .init(prompt: [1], completion: []), .init(prompt: [], completion: [3]),
      .init(prompt: [-1], completion: [3]), .init(prompt: [1], completion: [49_152]),
    ]
    for example in bad {
      do {
        _ = try trainer.train(examples: [.init(prompt: [1], completion: [2]), example])
        Issue.record("accepted \(example)")
      } catch TrainingError.example(let index, _) { #expect(index == 1) }
    }
    let small = try AdapterTrainer(
      model: model, configuration: configuration { $0.memoryLimit = 200 << 20 })
    do {
      _ = try small.train(examples: [
        .init(prompt: [Int32](repeating: 1, count: 2000), completion: [2])
      ])
      Issue.record("accepted")
    } catch TrainingError.memory(let needed, let limit, let longest) {
      #expect(needed > limit && limit == 200 << 20 && longest == 2001)
    }
  }

  @Test("a data file's rows become examples, and a bad row is named by file and line")
  func dataFile() throws {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent(
      "oppu-data-\(UUID().uuidString).jsonl")
    defer { try? FileManager.default.removeItem(at: url) }
    func read(_ text: String, cutoff: Int = 6) throws -> [TrainingExample] {
      try Data(text.utf8).write(to: url)
      return try TrainingData.read(path: url.path, cutoff: cutoff, keeping: nil) {
        TrainingExample(
          prompt: $0.utf8.map { Int32($0) }, completion: $1.utf8.map { Int32($0) } + [0])
      }
    }
    let rows = try read(
      #"{"prompt":"ab","completion":"c"}"# + "\n\n" + #"{"prompt":"abcdefgh","completion":"xyz"}"#)
    #expect(
      rows == [
        .init(prompt: [97, 98], completion: [99, 0]),
        .init(prompt: [103, 104], completion: [120, 121, 122, 0]),
      ])
    for (text, reason) in [
      (#"{"prompt":"ab"}"#, "completion"), (#"{"completion":"ab"}"#, "prompt"), ("[1]", "object"),
      (#"{"prompt":"a","completion":"abcdef"}"#, "cutoff of 6"), ("{", "object"),
    ] {
      do {
        _ = try read(#"{"prompt":"a","completion":"b"}"# + "\n" + text)
        Issue.record("accepted \(text)")
      } catch let error as TrainingDataError {
        #expect(error.line == 2 && error.file == url.path && error.problem.contains(reason))
      }
    }
    #expect(throws: TrainingDataError.self) { try read("\n") }
    #expect(throws: TrainingDataError.self) {
      try TrainingData.read(path: "/nonexistent", cutoff: 6, keeping: nil) { _, _ in
        TrainingExample(prompt: [], completion: [])
      }
    }
  }

  @Test("the schedule is that of get_linear_schedule_with_warmup")
  func schedule() {
    let schedule = LinearSchedule(warmupSteps: 2, steps: 6)
    #expect((0...6).map(schedule.factor) == [0, 0.5, 1, 0.75, 0.5, 0.25, 0])
    #expect(LinearSchedule(warmupSteps: 0, steps: 2).factor(0) == 1)
  }
}
