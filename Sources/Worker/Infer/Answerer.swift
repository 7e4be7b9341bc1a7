// From accepted requests to replies: history and adapter are loaded, the prompt is built, and one batch goes
// through the model.

import Foundation
import KafkaClient
import LanguageModel
import OPPU
import Personalization
import PostgresClient
import Storage
import StructuredLogging

struct Answerer: Sendable {
  /// A request and when its message was written.
  struct Job: Sendable {
    let request: PersonalizationRequest
    let receivedAt: Date
  }

  private let settings: WorkerConfiguration.Infer
  private let model: ServedModel
  private let modelName: String
  private let history: HistoryRepository
  private let adapters: AdapterRepository
  private let cache: AdapterCache
  private let prefixes: PrefixCache
  private let compute = ComputeQueue("infer")
  private let logger: Logger

  init(
    settings: WorkerConfiguration.Infer, model: ServedModel, client: PostgresClient, logger: Logger
  ) {
    self.settings = settings
    self.model = model
    modelName = URL(fileURLWithPath: model.base.path).lastPathComponent
    history = HistoryRepository(client)
    adapters = AdapterRepository(client)
    cache = AdapterCache(
      model: model, repository: adapters, maximumBytes: settings.adapterCacheBytes, stacks: true)
    prefixes = PrefixCache(byteLimit: settings.prefixCacheBytes)
    self.logger = logger
  }

  func evict(_ stream: Storage.Stream) async { await cache.evict(stream) }

  /// One reply for each job, in their order.
  func answer(_ jobs: [Job]) async -> [PersonalizationReply] {
    let started = Date()
    let loaded = await withTaskGroup(of: (index: Int, row: Loaded).self) { group in
      for (index, job) in jobs.enumerated() {
        group.addTask { (index, await load(job, started: started)) }
      }
      var rows: [Int: Loaded] = [:]
      for await entry in group { rows[entry.index] = entry.row }
      return rows
    }
    var replies = [PersonalizationReply?](repeating: nil, count: jobs.count)
    var batch: [(index: Int, row: Prepared)] = []
    for (index, row) in loaded {
      switch row {
      case .ready(let row): batch.append((index, row))
      case .refused(let reply): replies[index] = reply
      }
    }
    batch.sort { $0.index < $1.index }
    let rows = batch.map(\.row)
    do {
      let outputs = try await compute.run { [model, prefixes] in
        try model.base.answer(rows.map(\.question), prefixes: prefixes)
      }
      for (entry, output) in zip(batch, outputs) {
        replies[entry.index] = reply(jobs[entry.index].request, entry.row, output)
      }
    } catch {
      for entry in batch { replies[entry.index] = failure(of: jobs[entry.index].request, error) }
    }
    return zip(replies, jobs).map { reply, job in
      reply ?? failure(of: job.request, MessageError(.failed, "the request was not computed"))
    }
  }

  // MARK: Loading

  /// A request with everything the model needs.
  private struct Prepared: Sendable {
    let question: Question
    let personalization: PersonalizationReply.Personalization
    let queue: Double
    let load: Double
  }

  /// A request that can be computed, or the reply that says why it cannot.
  private enum Loaded: Sendable {
    case ready(Prepared)
    case refused(PersonalizationReply)
  }

  private func load(_ job: Job, started: Date) async -> Loaded {
    do {
      return .ready(try await prepare(job, started: started))
    } catch {
      return .refused(failure(of: job.request, error))
    }
  }

  private func prepare(_ job: Job, started: Date) async throws -> Prepared {
    let request = job.request
    let deadline = request.options.deadline ?? settings.defaultDeadline
    if started.timeIntervalSince(job.receivedAt) > deadline.seconds {
      throw MessageError(
        .deadlineExceeded,
        "the request waited longer than its deadline of \(Int(deadline.seconds * 1000)) ms")
    }
    let begin = Date()
    var personalization = PersonalizationReply.Personalization()
    let (adapter, written) = try await loadAdapter(request, &personalization)
    let retrieve = request.options.retrieve ?? settings.retrieve
    let wantsProfile = request.options.profile ?? settings.profile
    var items: [HistoryItem] = []
    if retrieve > 0 || (wantsProfile && written == nil) {
      items = try await history.events(of: request.stream).map(\.item)
    }
    var profile: String?
    if wantsProfile {
      profile = written?.text ?? ComputedProfile.text(for: items, task: request.task)
      personalization.profileVersion = written?.version
    }
    let maximumTokens = min(
      request.options.maximumTokens ?? request.task.maximumTokens,
      max(1, model.base.configuration.contextLength / 2))
    let builder = PromptBuilder(
      task: request.task,
      maximumTokens: min(
        settings.promptTokens, model.base.configuration.contextLength - maximumTokens),
      countTokens: { [model] in model.base.tokenizer.encode($0).count })
    let built = try builder.build(
      input: request.input,
      retrieved: retrieve > 0
        ? HistoryRetriever(task: request.task, items: items).retrieve(request.input, k: retrieve)
        : [],
      profile: profile)
    personalization.retrieved = built.retrieved
    let question = Question(
      task: request.task, prompt: model.base.tokenizer.encode(built.text), adapter: adapter,
      maximumTokens: maximumTokens,
      sampling: SamplingOptions(
        temperature: Float(request.options.temperature), topP: Float(request.options.topP),
        seed: request.options.seed))
    return Prepared(
      question: question, personalization: personalization,
      queue: milliseconds(from: job.receivedAt, to: begin), load: milliseconds(since: begin))
  }

  /// The adapter that the request asks for, over the task's; where a user has no active one, or it
  /// cannot be used, the task's alone and a note why. `none` is the base model. With it comes the
  /// profile that was written for its prompts.
  private func loadAdapter(
    _ request: PersonalizationRequest, _ personalization: inout PersonalizationReply.Personalization
  ) async throws -> (adapter: Adapter?, profile: UserProfile?) {
    let record: AdapterRecord
    switch request.options.adapter {
    case .none: return (nil, nil)
    case .active:
      personalization.taskAdapterVersion = model.taskAdapterVersion(request.task.name)
      guard let active = try await adapters.active(request.stream) else {
        personalization.note = "this user has no adapter for this task yet"
        return (model.taskAdapter(request.task.name), nil)
      }
      record = active
    case .version(let version):
      guard let found = try await adapters.get(request.stream, version: version) else {
        throw MessageError(
          .unknownAdapter, "\(request.stream) has no adapter version \(version)")
      }
      record = found
      personalization.taskAdapterVersion = model.taskAdapterVersion(request.task.name)
    }
    do {
      let adapter = try await cache.adapter(record)
      personalization.adapterVersion = record.version
      return (adapter, record.profile)
    } catch  where request.options.adapter == .active && !(error is PostgresError) {
      logger.error("adapter not usable: \(error)", metadata: ["stream": "\(record.stream)"])
      personalization.note = "adapter version \(record.version) was not used: \(error)"
      return (model.taskAdapter(request.task.name), nil)
    }
  }

  // MARK: Replies

  private func reply(
    _ request: PersonalizationRequest, _ row: Prepared, _ output: Answer
  ) -> PersonalizationReply {
    guard let text = output.text else {
      return failure(
        of: request, MessageError(.failed, "the model gave no answer that the task can take"))
    }
    return PersonalizationReply(
      requestID: request.requestID, userID: request.userID, task: request.task.name, status: .ok,
      output: text, personalization: row.personalization, model: modelName,
      usage: .init(
        promptTokens: row.question.prompt.count, completionTokens: output.completionTokens,
        cachedTokens: output.cachedTokens),
      timing: .init(
        queue: row.queue, load: row.load, prefill: rounded(output.prefillSeconds),
        decode: rounded(output.decodeSeconds)))
  }

  private func failure(
    of request: PersonalizationRequest, _ error: any Error
  ) -> PersonalizationReply {
    let failure = Self.describe(error)
    logger.warning(
      "request not answered: \(failure.message)", metadata: ["request": "\(request.requestID)"])
    return PersonalizationReply(
      requestID: request.requestID, userID: request.userID, task: request.task.name,
      status: .error, model: modelName, error: failure)
  }

  /// The error reply to a message that is no request.
  func failure(_ message: KafkaMessage, _ error: any Error) -> PersonalizationReply {
    let failure = Self.describe(error)
    logger.warning(
      "request refused: \(failure.message)",
      metadata: ["partition": "\(message.partition)", "offset": "\(message.offset)"])
    let envelope = try? Envelope(message)
    return PersonalizationReply(
      requestID: PersonalizationRequest.requestID(envelope, message),
      userID: (try? envelope?.text("user_id")) ?? message.keyText,
      task: try? envelope?.text("task"), status: .error, model: modelName, error: failure)
  }

  private static func describe(_ error: any Error) -> PersonalizationReply.Failure {
    switch error {
    case let error as MessageError: .init(code: error.code.rawValue, message: error.message)
    case let error as PostgresError where error.isRetryable:
      .init(
        code: MessageError.Code.unavailable.rawValue,
        message: "the database is not available: \(error.message)")
    default: .init(code: MessageError.Code.failed.rawValue, message: "\(error)")
    }
  }
}

private func milliseconds(since begin: Date) -> Double { milliseconds(from: begin, to: Date()) }

/// Seconds in milliseconds, rounded to microseconds.
private func rounded(_ seconds: Double) -> Double { (seconds * 1_000_000).rounded() / 1_000 }

/// Rounded to microseconds; clocks of other machines may be ahead, so never negative.
private func milliseconds(from begin: Date, to end: Date) -> Double {
  max(0, (end.timeIntervalSince(begin) * 1_000_000).rounded() / 1_000)
}
