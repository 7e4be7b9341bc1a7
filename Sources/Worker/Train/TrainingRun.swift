// One training job's computation: examples from the history, fine-tuning from the active version, and the gate.
// Blocking; runs on a compute queue.

import FineTuning
import Foundation
import LanguageModel
import Personalization
import Storage

/// What a job works on, all of it about exactly one user and task.
struct TrainingInput: Sendable {
  var stream: Storage.Stream
  var task: TaskDefinition
  var history: [StoredEvent]
  var parent: (record: AdapterRecord, adapter: Adapter)?
  var changeOrdinal: Int64?
  var seed: UInt64
}

/// How a job ended, where it was not stopped.
enum TrainingOutcome: Sendable {
  case adapter(NewAdapter)
  /// There was nothing to train on.
  case nothing(reason: String)
}

/// The computation was asked to stop.
struct TrainingStopped: Error {}

struct TrainingRun: Sendable {
  let model: LlamaModel
  let settings: WorkerConfiguration.Train
  let progress: ComputeProgress<JSONValue>

  func run(_ input: TrainingInput) throws -> TrainingOutcome {
    let encoder = ExampleEncoder(model: model, task: input.task, cutoff: settings.cutoff)
    let set = try trainingSet(input, prompts: encoder.prompts)
    guard !set.training.isEmpty else {
      return .nothing(reason: "no event to train on among \(input.history.count)")
    }
    let training = try set.training.map { try encoder.encode($0.prompt, $0.completion) }
    let heldOut = try set.heldOut.map { try encoder.encode($0.prompt, $0.completion) }
    var configuration = settings.trainingConfiguration(seed: input.seed)
    configuration.epochs = affordableEpochs(training)
    let trainer = try AdapterTrainer(model: model, configuration: configuration)
    let begin = Date()
    let result = try trainer.train(
      examples: training, startingFrom: input.parent?.adapter
    ) { step in
      progress.update([
        "step": .number(Double(step.step)), "steps": .number(Double(step.steps)),
        "loss": .number(step.loss), "tokens_per_s": .number(step.tokensPerSecond.rounded()),
      ])
      return !progress.isStopped
    }
    if progress.isStopped { throw TrainingStopped() }
    let gate = PromotionGate(
      minimumGain: settings.minimumGain, confidence: settings.gateConfidence
    ).judge(
      parent: try trainer.loss(of: heldOut, adapter: input.parent?.adapter).examples,
      candidate: try trainer.loss(of: heldOut, adapter: result.adapter).examples,
      base: input.parent == nil ? nil : try trainer.loss(of: heldOut, adapter: nil).examples)
    let description = try PEFTConfiguration(
      result.adapter, baseModel: URL(fileURLWithPath: model.path).lastPathComponent
    ).json()
    return .adapter(
      NewAdapter(
        stream: input.stream, parentVersion: input.parent?.record.version,
        baseFingerprint: model.fingerprint,
        configuration: try JSONDecoder().decode(JSONValue.self, from: description),
        weights: try PEFTFolder.encode(result.adapter),
        trainedThrough: set.trainedThrough > 0 ? input.history[set.trainedThrough - 1].ordinal : 0,
        training: [
          "examples": .number(Double(training.count)),
          "replayed": .number(Double(set.training.filter(\.isReplay).count)),
          "epochs": .number(Double(configuration.epochs)),
          "steps": .number(Double(result.report.steps)),
          "tokens": .number(Double(result.report.tokens)),
          "seconds": .number(Date().timeIntervalSince(begin)),
          "loss_first_epoch": .number(result.report.lossFirstEpoch),
          "loss_last_epoch": .number(result.report.lossLastEpoch),
          "seed": .string(String(input.seed)),
        ], gate: gate))
  }

  private func trainingSet(_ input: TrainingInput, prompts: PromptBuilder) throws -> TrainingSet {
    var chosen = TrainingSetSettings()
    chosen.replay = settings.replayEvents
    chosen.seed = input.seed
    let learnt = input.parent.map { parent in
      input.history.prefix { $0.ordinal <= parent.record.trainedThrough }.count
    }
    let change = input.changeOrdinal.flatMap { ordinal in
      input.history.firstIndex { $0.ordinal >= ordinal }
    }
    return try TrainingSetBuilder(prompts: prompts, settings: chosen).build(
      history: input.history.map(\.item), trainedThrough: learnt ?? 0, changedAt: change)
  }

  /// Epochs within the job's budget of tokens; a long history needs fewer of them anyway.
  private func affordableEpochs(_ examples: [TrainingExample]) -> Int {
    let tokens = examples.reduce(0) { $0 + $1.tokenCount }
    return max(1, min(settings.epochs, settings.maximumTokens / max(1, tokens)))
  }
}

extension WorkerConfiguration.Train {
  /// What the trainer is told; the epochs depend on the history.
  public func trainingConfiguration(seed: UInt64) -> TrainingConfiguration {
    var configuration = TrainingConfiguration()
    configuration.rank = rank
    configuration.alpha = Float(alpha)
    configuration.targets = targets
    configuration.batchSize = batchSize
    configuration.learningRate = Float(learningRate)
    configuration.weightDecay = Float(weightDecay)
    configuration.clip = Float(clip)
    configuration.warmup = warmup
    configuration.cutoff = cutoff
    configuration.seed = seed
    return configuration
  }
}
