// Requests that are ready wait here for the model, which takes as many at a time as a pass may have.

import Foundation
import LanguageModel
import OPPU
import Personalization
import PostgresClient
import Storage
import StructuredLogging

/// Computes answers in batches over users, in the order in which they became ready: a request whose history takes
/// long to load holds up no other.
actor AnswerQueue {
  /// What became of a request.
  struct Outcome: Sendable {
    /// As it was computed in the end.
    var row: PreparedRequest
    var result: Result<Answer, any Error>
    /// Milliseconds it waited for the model.
    var waited: Double
  }

  private typealias Waiting = (row: PreparedRequest, done: CheckedContinuation<Outcome, Never>)

  private let model: ServedModel
  private let batchSize: Int
  private let defaultDeadline: Duration
  private let cache: AdapterCache
  private let prefixes: PrefixCache
  private let record: @Sendable ([Outcome]) async -> Void
  private let compute = ComputeQueue("infer")
  private let logger: Logger
  private var waiting: [Waiting] = []
  private var isRunning = false

  /// - Parameter record: keeps what was answered; called before the answers are given out.
  init(
    model: ServedModel, settings: WorkerConfiguration.Infer, cache: AdapterCache,
    prefixes: PrefixCache,
    logger: Logger, record: @escaping @Sendable ([Outcome]) async -> Void
  ) {
    self.model = model
    batchSize = settings.batchSize
    defaultDeadline = settings.defaultDeadline
    self.cache = cache
    self.prefixes = prefixes
    self.logger = logger
    self.record = record
  }

  func answer(_ row: PreparedRequest) async -> Outcome {
    await withCheckedContinuation { continuation in
      waiting.append((row, continuation))
      guard !isRunning else { return }
      isRunning = true
      Task { await run() }
    }
  }

  private func run() async {
    while !waiting.isEmpty {
      let now = Date()
      for late in waiting where late.row.deadline < now {
        let limit = late.row.request.options.deadline ?? defaultDeadline
        late.done.resume(
          returning: Outcome(
            row: late.row, result: .failure(MessageError.deadlineExceeded(limit)), waited: 0))
      }
      waiting.removeAll { $0.row.deadline < now }
      let batch = Array(waiting.prefix(batchSize))
      waiting.removeFirst(batch.count)
      guard !batch.isEmpty else { break }
      let outcomes = await answer(batch.map(\.row))
      // The next pass does not wait until these are on record.
      Task { [record] in
        await record(outcomes)
        for (entry, outcome) in zip(batch, outcomes) { entry.done.resume(returning: outcome) }
      }
    }
    isRunning = false
  }

  private func answer(_ rows: [PreparedRequest]) async -> [Outcome] {
    let begin = ContinuousClock.now
    var outcomes = zip(rows, await compute(rows)).map { row, result in
      Outcome(
        row: row, result: result, waited: milliseconds((begin - row.ready) / .seconds(1)))
    }
    // Rows that their user's adapter made useless, once more without it.
    var again: [Int] = []
    for (index, outcome) in outcomes.enumerated() {
      guard case .failure(let failure) = outcome.result, failure as? InferenceError == .notFinite,
        let adapter = outcome.row.adapter
      else { continue }
      let error = QuarantinedAdapterError(stream: adapter.stream, version: adapter.version)
      logger.error("adapter not usable: \(error)", metadata: ["stream": "\(adapter.stream)"])
      await cache.quarantine(adapter)
      guard outcome.row.request.options.adapter == .active else { continue }
      outcomes[index].row.withoutAdapter(
        taskAdapter: model.taskAdapter(adapter.task),
        note: "adapter version \(adapter.version) was not used: \(error)")
      again.append(index)
    }
    guard !again.isEmpty else { return outcomes }
    for (index, result) in zip(again, await compute(again.map { outcomes[$0].row })) {
      outcomes[index].result = result
    }
    return outcomes
  }

  private func compute(_ rows: [PreparedRequest]) async -> [Result<Answer, any Error>] {
    let questions = rows.map(\.question)
    do {
      return try await compute.run { [model, prefixes] in
        model.base.answerEach(questions, prefixes: prefixes).map { $0.mapError { $0 } }
      }
    } catch {
      return rows.map { _ in .failure(error) }
    }
  }
}

extension PreparedRequest {
  fileprivate mutating func withoutAdapter(taskAdapter: Adapter?, note: String) {
    question.adapter = taskAdapter
    adapter = nil
    personalization.adapterVersion = nil
    personalization.note = note
  }
}
