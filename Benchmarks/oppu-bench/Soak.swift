// Training and inference at once for a while: for sanitizers, which watch meanwhile.

import ArgumentParsing
import FineTuning
import Foundation
import LanguageModel
import LinearAlgebra
import RandomNumbers

struct Soak: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Trains, generates and scores at the same time, over and over.",
    discussion: """
      Meant for a build under a sanitizer, with a tiny model:
        swift build -c release --sanitize=thread --scratch-path .build/thread --product oppu-bench
        .build/thread/release/oppu-bench soak --model TINY.gguf --minutes 30
      """)

  @Option(help: "A small model, a GGUF file or a folder.") var model: String
  @Option(help: "How long.") var minutes = 30.0
  @Option(help: "Seed of prompts, examples and adapters.") var seed: UInt64 = 1

  func run() throws {
    let model = try LlamaModel.load(path: model)
    let shared = Shared(end: .now + .seconds(minutes * 60))
    // What the model makes on first use is made before there are threads: the thread sanitizer does
    // not know Swift's Mutex and would take its protection for none.
    try Self.train(model, shared, seed: seed, rounds: 1)
    _ = try model.generate([GenerationRequest(prompt: [1], maxTokens: 1)])
    let workers: [@Sendable () throws -> Void] = [
      { try Self.train(model, shared, seed: seed) },
      { try Self.generate(model, shared, seed: seed + 1) },
      { try Self.score(model, shared, seed: seed + 2) },
    ]
    let failure = Locked<String?>(nil)
    let group = DispatchGroup()
    for work in workers {
      group.enter()
      let thread = Thread {
        do { try work() } catch { failure.with { $0 = "\(error)" } }
        group.leave()
      }
      thread.stackSize = 8 << 20
      thread.start()
    }
    group.wait()
    if let failure = failure.with({ $0 }) { throw PeerError(description: failure) }
    let counts = shared.counts.with { $0 }
    print(
      "seed \(seed): \(counts.trainings) trainings, \(counts.texts) texts, \(counts.scores) scores")
  }

  /// A value behind a lock that sanitizers know.
  ///
  /// Unchecked: the value is touched under the lock only.
  private final class Locked<Value>: @unchecked Sendable {
    private let lock = NSLock()
    private var value: Value

    init(_ value: Value) { self.value = value }

    func with<Result>(_ body: (inout Value) -> Result) -> Result {
      lock.withLock { body(&value) }
    }
  }

  /// What the threads share.
  private final class Shared: Sendable {
    struct Counts {
      var trainings = 0
      var texts = 0
      var scores = 0
    }

    let end: ContinuousClock.Instant
    let counts = Locked(Counts())
    let adapters = Locked<[Adapter]>([])
    var isOver: Bool { .now >= end }

    init(end: ContinuousClock.Instant) { self.end = end }

    func anyAdapter(_ generator: inout SplitMix64) -> Adapter? {
      adapters.with { $0.randomElement(using: &generator) }
    }
  }

  private static func tokens(
    _ range: ClosedRange<Int>, _ model: LlamaModel, _ generator: inout SplitMix64
  ) -> [Int32] {
    (0..<Int.random(in: range, using: &generator)).map { _ in
      Int32.random(in: 0..<Int32(model.configuration.vocabulary), using: &generator)
    }
  }

  private static func train(
    _ model: LlamaModel, _ shared: Shared, seed: UInt64, rounds: Int = .max
  ) throws {
    var generator = SplitMix64(seed: seed)
    var round = 0
    while round < rounds, !shared.isOver {
      round += 1
      for method in TrainingMethod.allCases {
        var settings = TrainingConfiguration(method: method)
        settings.batchSize = 4
        settings.virtualTokens = 3
        settings.seed = generator.next()
        settings.dropout =
          method == .lora && Bool.random(using: &generator) ? 0.1 : 0
        let prefix = tokens(1...20, model, &generator)
        let examples = (0..<8).map { _ in
          TrainingExample(
            prompt: prefix + tokens(1...20, model, &generator),
            completion: tokens(1...4, model, &generator))
        }
        let trainer = try AdapterTrainer(model: model, configuration: settings)
        let adapter = try trainer.train(examples: examples, heldOut: examples).adapter
        shared.adapters.with { $0 = ($0 + [adapter]).suffix(8) }
        shared.counts.with { $0.trainings += 1 }
      }
    }
  }

  private static func generate(_ model: LlamaModel, _ shared: Shared, seed: UInt64) throws {
    var generator = SplitMix64(seed: seed)
    let prefixes = PrefixCache(byteLimit: 1 << 20)
    let instruction = tokens(40...60, model, &generator)
    let batch = GenerationBatch(model: model, prefixes: prefixes, rowsPerStep: 32)
    while !shared.isOver {
      while batch.count < 6 {
        _ = try batch.add(
          GenerationRequest(
            prompt: instruction + tokens(1...20, model, &generator),
            maxTokens: Int.random(in: 1...12, using: &generator),
            sampling: SamplingOptions(temperature: 0.8, topK: 20, seed: generator.next()),
            adapter: shared.anyAdapter(&generator)))
      }
      let ended = batch.step().count { $0.result != nil }
      shared.counts.with { $0.texts += ended }
    }
  }

  private static func score(_ model: LlamaModel, _ shared: Shared, seed: UInt64) throws {
    var generator = SplitMix64(seed: seed)
    while !shared.isOver {
      let candidates = (0..<5).map { _ in tokens(1...4, model, &generator) }
      _ = try model.score(
        prompt: tokens(1...50, model, &generator), candidates: candidates,
        adapter: shared.anyAdapter(&generator))
      shared.counts.with { $0.scores += 1 }
    }
  }
}
