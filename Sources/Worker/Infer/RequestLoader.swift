// What the model needs for a request: its user's adapter and history from PostgreSQL, and the prompt.

import Foundation
import LanguageModel
import OPPU
import Personalization
import PostgresClient
import Storage
import StructuredLogging

/// A request that can be computed.
struct PreparedRequest: Sendable {
  let request: PersonalizationRequest
  var question: Question
  var personalization: PersonalizationReply.Personalization
  /// The user's adapter in the question, by its record.
  var adapter: AdapterRecord?
  /// From before the user's rows were read; nil where the answer is not recorded.
  let marks: ErasureMarks?
  /// Milliseconds until it was taken up, and for loading.
  let queue: Double
  let load: Double
  /// From then on it is not worth computing.
  let deadline: Date
  /// Since when it waits for the model.
  let ready = ContinuousClock.now
}

struct RequestLoader: Sendable {
  private let settings: WorkerConfiguration.Infer
  /// Of training: a prompt is what the model has learnt to answer.
  private let method: MethodSettings
  private let variant: PromptVariant
  private let model: ServedModel
  private let history: HistoryRepository
  private let adapters: AdapterRepository
  private let answers: AnswerRepository
  private let cache: AdapterCache
  private let patience: DatabasePatience
  /// Retrieval from a long history takes a while; what a user asks at once takes its turns, so that neither memory
  /// nor the others' time goes to it.
  private let compute = ComputeQueue("prompts", isConcurrent: true)
  private let turns = UserTurns()
  private let logger: Logger

  /// What a request waits for the database at most; half of the time that it has where that is less.
  private static let maximumWait = Duration.seconds(5)

  init(
    configuration: WorkerConfiguration, model: ServedModel, cache: AdapterCache,
    patience: DatabasePatience, client: PostgresClient, answers: AnswerRepository, logger: Logger
  ) {
    settings = configuration.infer
    method = configuration.train.method
    variant = configuration.prompt.variant
    self.model = model
    self.cache = cache
    self.patience = patience
    history = HistoryRepository(client)
    adapters = AdapterRepository(client)
    self.answers = answers
    self.logger = logger
  }

  /// - Throws: ``MessageError`` for the error reply; `PostgresError`, ``TimeIsOver``, `PromptError`.
  func load(_ request: PersonalizationRequest, receivedAt: Date) async throws -> PreparedRequest {
    let begin = Date()
    let limit = request.options.deadline ?? settings.defaultDeadline
    let deadline = receivedAt + limit / .seconds(1)
    let left = deadline.timeIntervalSince(begin)
    guard left > 0 else { throw MessageError.deadlineExceeded(limit) }
    do {
      return try await within(.seconds(left)) {
        guard variant(of: request) != .plain else {
          return try await loadNow(request, receivedAt, begin, deadline)
        }
        return try await turns.run(request.userID) {
          try await loadNow(request, receivedAt, begin, deadline)
        }
      }
    } catch let error as TimeIsOver where deadline <= Date() {
      logger.debug("a request's time was over while it was loaded: \(error)")
      throw MessageError.deadlineExceeded(limit)
    }
  }

  private func loadNow(
    _ request: PersonalizationRequest, _ receivedAt: Date, _ begin: Date, _ deadline: Date
  ) async throws -> PreparedRequest {
    let left = max(deadline.timeIntervalSinceNow, 0)
    let stored = try await patience.within(
      min(Self.maximumWait, .seconds(min(left, 60) / 2))
    ) { try await read(request) }
    return try await compute.run {
      try prepare(request, stored, receivedAt: receivedAt, begin: begin, deadline: deadline)
    }
  }

  private func variant(of request: PersonalizationRequest) -> PromptVariant {
    PromptVariant(
      retrieve: request.options.retrieve ?? variant.retrieve,
      profile: request.options.profile ?? variant.profile)
  }

  // MARK: From the database

  private struct Stored: Sendable {
    var marks: ErasureMarks?
    var adapter: Adapter?
    var record: AdapterRecord?
    var personalization = PersonalizationReply.Personalization()
    var items: [HistoryItem] = []
  }

  private func read(_ request: PersonalizationRequest) async throws -> Stored {
    var stored = Stored()
    // First: what is read of the user is then not older than the marks.
    if settings.answerDays > 0 { stored.marks = try await answers.marks(of: [request.userID]) }
    try await loadAdapter(request, &stored)
    let variant = variant(of: request)
    if variant.retrieve > 0 || (variant.profile && stored.record?.profile == nil) {
      let events = try await history.events(of: request.stream)
      stored.items = (stored.record?.retrievable(events) ?? events).map(\.item)
    }
    return stored
  }

  /// The adapter that the request asks for, over the task's; where a user has no active one, or it
  /// cannot be used, the task's alone and a note why. `none` is the base model.
  private func loadAdapter(
    _ request: PersonalizationRequest, _ stored: inout Stored
  ) async throws {
    let record: AdapterRecord
    switch request.options.adapter {
    case .none: return
    case .active:
      stored.personalization.taskAdapterVersion = model.taskAdapterVersion(request.task.name)
      guard let active = try await adapters.active(request.stream) else {
        stored.personalization.note = "this user has no adapter for this task yet"
        stored.adapter = model.taskAdapter(request.task.name)
        return
      }
      record = active
    case .version(let version):
      guard let found = try await adapters.get(request.stream, version: version) else {
        throw MessageError(
          .unknownAdapter, "\(request.stream) has no adapter version \(version)")
      }
      record = found
      stored.personalization.taskAdapterVersion = model.taskAdapterVersion(request.task.name)
    }
    do {
      stored.adapter = try await cache.adapter(record)
      stored.record = record
      stored.personalization.adapterVersion = record.version
    } catch
      where request.options.adapter == .active && !(error is PostgresError)
      && !(error is CancellationError)
    {
      if !(error is QuarantinedAdapterError) {
        logger.error("adapter not usable: \(error)", metadata: ["stream": "\(record.stream)"])
      }
      stored.personalization.note = "adapter version \(record.version) was not used: \(error)"
      stored.adapter = model.taskAdapter(request.task.name)
    }
  }

  // MARK: The prompt

  /// Blocking.
  private func prepare(
    _ request: PersonalizationRequest, _ stored: Stored, receivedAt: Date, begin: Date,
    deadline: Date
  ) throws -> PreparedRequest {
    var personalization = stored.personalization
    let written = stored.record?.profile
    let variant = variant(of: request)
    personalization.profileVersion = variant.profile ? written?.version : nil
    let maximumTokens = min(
      request.options.maximumTokens ?? min(request.task.maximumTokens, settings.maximumTokens),
      max(1, model.base.configuration.contextLength / 2))
    let personal = PersonalPrompt(
      model: model.base, task: request.task, variant: variant, settings: method,
      longestPrompt: model.base.configuration.contextLength - maximumTokens)
    let built = try personal.texts.build(
      input: request.input, after: personal.retriever(stored.items), profile: written?.text)
    personalization.retrieved = built.retrieved
    let prompt = personal.encode(built.text)
    // What a user's own adapter computed is that user's, the task's words too.
    let shared =
      stored.record == nil
      ? zip(prompt, personal.encode(built.ownWords)).prefix { $0 == $1 }.count : 0
    let question = Question(
      task: request.task, prompt: prompt, adapter: stored.adapter, maximumTokens: maximumTokens,
      sampling: SamplingOptions(
        temperature: Float(request.options.temperature), topP: Float(request.options.topP),
        seed: request.options.seed),
      owner: .user(request.userID, sharedTokens: shared))
    return PreparedRequest(
      request: request, question: question, personalization: personalization,
      adapter: stored.record, marks: stored.marks,
      queue: milliseconds(begin.timeIntervalSince(receivedAt)),
      load: milliseconds(Date().timeIntervalSince(begin)), deadline: deadline)
  }
}

extension MessageError {
  static func deadlineExceeded(_ limit: Duration) -> MessageError {
    MessageError(
      .deadlineExceeded,
      "the request waited longer than its deadline of \(Int(limit / .milliseconds(1))) ms")
  }
}

/// Seconds in milliseconds, rounded to microseconds; clocks of other machines may be ahead, so never negative.
func milliseconds(_ seconds: Double) -> Double { max(0, (seconds * 1_000_000).rounded() / 1_000) }
