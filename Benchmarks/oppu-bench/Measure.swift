// One measurement of our own, in a process of its own, so that its memory is its own too.

import ArgumentParsing
import FineTuning
import Foundation
import LanguageModel
import LinearAlgebra
import RandomNumbers

/// What is measured. Figures go to stdout as one JSON object.
enum Measurement: String, CaseIterable, ExpressibleByArgument {
  case training
  /// One batch of 16 examples of 256 tokens, for its memory.
  case trainingMemory
  case prefill
  case decode
  case users
  /// A prompt of 512 tokens and 32 more, for the memory.
  case inferenceMemory
}

struct Measure: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "One measurement of our own; prints JSON.", shouldDisplay: false)

  @Argument var what: Measurement
  @Option var model: String
  @Option var data: [String] = []
  @Option var precision: ProductPrecision = .int8

  func run() throws {
    let model = try LlamaModel.load(path: model, precision: precision)
    var figures: [String: Double]
    switch what {
    case .training:
      figures = [:]
      for (index, path) in data.enumerated() {
        let report = try train(
          model,
          try TrainingData.read(
            path: path, cutoff: 2048, keeping: model.tokenizer.beginning,
            example: PromptTokens(model.tokenizer).example), epochs: 2)
        figures["examples_per_s \(index)"] = report.examplesPerSecond
        figures["tokens_per_s \(index)"] = report.tokensPerSecond
        figures["last_epoch_loss \(index)"] = report.lossLastEpoch
      }
    case .trainingMemory:
      let examples = (0..<16).map { number in
        TrainingExample(
          prompt: Self.tokens(240, first: 1000 + number),
          completion: Self.tokens(16, first: 3000 + number))
      }
      _ = try train(model, examples, epochs: 1)
      figures = [:]
    case .prefill:
      let tokens = Self.tokens(512)
      let best = try Self.best(of: 5) {
        _ = try model.forward([Chunk(tokens: tokens, cache: KVCache(for: model))])
      }
      figures = ["tokens_per_s": 512 / best]
    case .decode:
      let request = GenerationRequest(prompt: Self.tokens(8), maxTokens: 64)
      var best = Double.infinity
      for _ in 0..<5 { best = min(best, try model.generate([request])[0].decodeSeconds) }
      figures = ["tokens_per_s": 63 / best]
    case .users:
      let adapters = try (0..<16).map { try Self.adapter(model.configuration, seed: $0) }
      func seconds(_ adapters: [Adapter?]) throws -> Double {
        let requests = adapters.enumerated().map { user, adapter in
          GenerationRequest(
            prompt: Self.tokens(96, first: 1000 + user), maxTokens: 32, adapter: adapter)
        }
        return try Self.best(of: 3) { _ = try model.generate(requests) }
      }
      let with = try seconds(adapters)
      let without = try seconds(adapters.map { _ in nil })
      figures = ["requests_per_s": 16 / with, "requests_per_s without adapters": 16 / without]
    case .inferenceMemory:
      _ = try model.generate([GenerationRequest(prompt: Self.tokens(512), maxTokens: 32)])
      figures = [
        "kv_bytes": Double(
          KVCache.byteCount(
            positions: 544, configuration: model.configuration, precision: model.precision)),
        "weight_bytes": Double(model.weightBytes),
      ]
    }
    figures["resident_bytes"] = Self.peakResidentBytes
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    print(String(decoding: try encoder.encode(figures), as: UTF8.self))
  }

  private func train(
    _ model: LlamaModel, _ examples: [TrainingExample], epochs: Int
  ) throws -> FineTuningReport {
    var settings = TrainingConfiguration()
    settings.epochs = epochs
    return try AdapterTrainer(model: model, configuration: settings)
      .train(examples: examples).report
  }

  /// Token ids far from the special ones, the same for every peer.
  private static func tokens(_ count: Int, first: Int = 1000) -> [Int32] {
    (0..<count).map { Int32(first + 7 * $0) }
  }

  private static func best(of count: Int, _ body: () throws -> Void) rethrows -> Double {
    var best = Double.infinity
    for _ in 0..<count {
      best = min(best, try ContinuousClock().measure(body) / .seconds(1))
    }
    return best
  }

  /// Random LoRA factors of rank 8 on queries and values.
  private static func adapter(_ shape: LlamaConfiguration, seed: Int) throws -> Adapter {
    var generator = SplitMix64(seed: UInt64(seed))
    func numbers(_ count: Int) -> FloatBuffer {
      FloatBuffer((0..<count).map { _ in generator.nextUniform() * 0.02 })
    }
    let targets: [Projection] = [.query, .value]
    let layers = (0..<shape.layers).map { _ in
      Dictionary(
        uniqueKeysWithValues: targets.map { projection in
          (
            projection,
            LoRAFactors(
              a: numbers(8 * projection.inputWidth(in: shape)),
              b: numbers(8 * projection.outputWidth(in: shape)))
          )
        })
    }
    return try Adapter(
      rank: 8, alpha: 8, targets: targets, layers: layers, configuration: shape)
  }

  /// The most memory that this process has held.
  private static var peakResidentBytes: Double {
    var usage = rusage()
    #if os(Linux)
      getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
      return Double(usage.ru_maxrss) * 1024
    #else
      getrusage(RUSAGE_SELF, &usage)
      return Double(usage.ru_maxrss)
    #endif
  }
}

extension ProductPrecision: ExpressibleByArgument {}
