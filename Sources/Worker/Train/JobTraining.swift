// One training job's computation: examples from the history, fine-tuning from the active version, and the gate.
// Blocking; runs on a compute queue.

import FineTuning
import Foundation
import JSON
import LanguageModel
import OPPU
import Personalization
import Storage

/// What a job works on, all of it about exactly one user and task.
struct TrainingInput: Sendable {
  var stream: StreamID
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

struct JobTraining: Sendable {
  let model: ServedModel
  let settings: WorkerConfiguration.Train
  let variant: PromptVariant
  let profileKind: UserProfile.Kind
  let progress: ComputeProgress<JobProgress>

  func run(_ input: TrainingInput) throws -> TrainingOutcome {
    let learnt = input.parent.map { parent in
      input.history.prefix { $0.ordinal <= parent.record.trainedThrough }.count
    }
    let change = input.changeOrdinal.flatMap { ordinal in
      input.history.firstIndex { $0.ordinal >= ordinal }
    }
    let begin = ContinuousClock.now
    let history = input.history.map(\.item)
    var method = settings.method
    method.profile = profileKind
    let profile = try method.writtenProfile(
      of: history, task: input.task, variant: variant, model: model.base,
      since: change.map { history[$0].eventID }, after: input.parent?.record.profile)
    let trained = try PersonalTraining(
      model: model.base, task: input.task, settings: method, variant: variant,
      over: model.taskAdapter(input.task.name)
    ).train(
      history, from: input.parent?.adapter, trainedThrough: learnt ?? 0,
      changedAt: change, profile: profile?.text, seed: input.seed
    ) { step in
      progress.update(
        JobProgress(
          step: step.step, steps: step.steps, loss: step.loss,
          tokensPerSecond: step.tokensPerSecond))
      return !progress.isStopped
    }
    if progress.isStopped { throw TrainingStopped() }
    guard let result = trained else {
      return .nothing(reason: "no event to train on among \(input.history.count)")
    }
    let gate = PromotionGate(
      minimumGain: settings.minimumGain, confidence: settings.gateConfidence
    ).judge(
      parent: result.heldOut.parent, candidate: result.heldOut.candidate,
      base: input.parent == nil ? nil : result.heldOut.without)
    let description = try PEFTConfiguration(
      result.adapter, baseModel: URL(fileURLWithPath: model.base.path).lastPathComponent
    ).json()
    return .adapter(
      NewAdapter(
        stream: input.stream, parentVersion: input.parent?.record.version,
        baseFingerprint: model.fingerprint(for: input.task.name),
        configuration: try JSONValue(reading: description),
        weights: try PEFTFolder.encode(result.adapter),
        trainedThrough: result.trainedThrough > 0
          ? input.history[result.trainedThrough - 1].ordinal : 0,
        training: .trained(
          TrainingNumbers(
            examples: result.examples, replayed: result.replayed, epochs: result.epochs,
            steps: result.report.steps, tokens: result.report.tokens,
            seconds: (ContinuousClock.now - begin) / .seconds(1),
            lossFirstEpoch: result.report.lossFirstEpoch,
            lossLastEpoch: result.report.lossLastEpoch, seed: input.seed,
            retrievesFrom: method.examples.retrieveOnlyAfterShift ? input.changeOrdinal : nil)),
        gate: gate,
        profile: profile))
  }
}
