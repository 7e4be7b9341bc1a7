// From accepted requests to replies: history and adapter are loaded, the prompt is built, and one batch goes
// through the model.

import Foundation
import JSON
import KafkaClient
import LanguageModel
import OPPU
import Personalization
import PostgresClient
import Storage
import StructuredLogging

struct Answerer: Sendable {
  private let modelName: String
  private let loader: RequestLoader
  private let queue: AnswerQueue
  private let cache: AdapterCache
  private let prefixes: PrefixCache
  private let logger: Logger

  init(
    configuration: WorkerConfiguration, model: ServedModel, client: PostgresClient,
    answers: AnswerRepository, logger: Logger
  ) {
    let settings = configuration.infer
    modelName = URL(fileURLWithPath: model.base.path).lastPathComponent
    let patience = DatabasePatience()
    let cache = AdapterCache(
      model: model, repository: AdapterRepository(client),
      maximumBytes: settings.adapterCacheBytes)
    self.cache = cache
    prefixes = PrefixCache(byteLimit: settings.prefixCacheBytes)
    loader = RequestLoader(
      configuration: configuration, model: model, cache: cache, patience: patience,
      client: client, answers: answers, logger: logger)
    let recorder = AnswerRecorder(
      answers: answers, patience: patience, logger: logger)
    queue = AnswerQueue(
      model: model, settings: settings, cache: cache, prefixes: prefixes, logger: logger
    ) { await recorder.record($0) }
    self.logger = logger
  }

  /// Drops what is kept of a stream, or of a whole user where the task is "*".
  func evict(_ stream: StreamID) async {
    await cache.evict(stream)
    if stream.task == "*" { prefixes.remove(owner: stream.userID) }
  }

  /// Drops all that is kept of users.
  func evictAll() async {
    await cache.evictAll()
    prefixes.removeAll()
  }

  /// The reply to a request, written at `receivedAt`.
  func answer(_ request: PersonalizationRequest, receivedAt: Date) async -> PersonalizationReply {
    do {
      return reply(await queue.answer(try await loader.load(request, receivedAt: receivedAt)))
    } catch {
      return failure(of: request, error)
    }
  }

  // MARK: Replies

  private func reply(_ outcome: AnswerQueue.Outcome) -> PersonalizationReply {
    let row = outcome.row
    let request = row.request
    let answer: Answer
    switch outcome.result {
    case .success(let found): answer = found
    case .failure(let error): return failure(of: request, error)
    }
    guard let text = answer.text else {
      return failure(
        of: request, MessageError(.failed, "the model gave no answer that the task can take"))
    }
    return PersonalizationReply(
      requestID: request.requestID, userID: request.userID, task: request.task.name, status: .ok,
      output: text, personalization: row.personalization, model: modelName,
      usage: .init(
        promptTokens: row.question.prompt.count, completionTokens: answer.completionTokens,
        cachedTokens: answer.cachedTokens),
      timing: .init(
        queue: row.queue + outcome.waited, load: row.load,
        prefill: milliseconds(answer.prefillSeconds), decode: milliseconds(answer.decodeSeconds)))
  }

  private func failure(
    of request: PersonalizationRequest, _ error: any Error
  ) -> PersonalizationReply {
    logger.warning(
      "request not answered: \(error)", metadata: ["request": "\(request.requestID)"])
    return PersonalizationReply(
      requestID: request.requestID, userID: request.userID, task: request.task.name,
      status: .error, model: modelName, error: Self.describe(error))
  }

  /// The error reply to a message that is no request, or that cannot be answered where it asks for it.
  func failure(_ message: KafkaMessage, _ error: any Error) -> PersonalizationReply {
    logger.warning(
      "request refused: \(error)",
      metadata: ["partition": "\(message.partition)", "offset": "\(message.offset)"])
    let envelope = try? Envelope(message)
    return PersonalizationReply(
      requestID: PersonalizationRequest.requestID(envelope, message),
      userID: (try? envelope?.text("user_id")) ?? message.keyText,
      task: try? envelope?.text("task"), status: .error, model: modelName,
      error: Self.describe(error))
  }

  /// What a client is told. Of the worker's inside, such as the database's address, only the log tells.
  static func describe(_ error: any Error) -> PersonalizationReply.Failure {
    switch error {
    case let error as MessageError: .init(code: error.code.rawValue, message: error.message)
    case let error as PostgresError where error.isRetryable:
      .init(
        code: MessageError.Code.unavailable.rawValue, message: "the database is not available")
    case is TimeIsOver:
      .init(
        code: MessageError.Code.unavailable.rawValue, message: "the database did not answer in time"
      )
    case is InferenceError, is PromptError:
      .init(code: MessageError.Code.failed.rawValue, message: "\(error)")
    case is QuarantinedAdapterError, is DamagedAdapterError, is ForeignAdapterError:
      .init(code: MessageError.Code.failed.rawValue, message: "\(error)")
    default:
      .init(
        code: MessageError.Code.failed.rawValue,
        message: "the request failed inside the worker, whose log says why")
    }
  }
}

/// Keeps what was answered for feedback.
struct AnswerRecorder: Sendable {
  let answers: AnswerRepository
  let patience: DatabasePatience
  let logger: Logger

  /// How long replies wait until they are on record. Feedback that comes to one that is not and names only the
  /// request becomes a dead letter.
  static let maximumWait = Duration.seconds(2)

  func record(_ outcomes: [AnswerQueue.Outcome]) async {
    let records = outcomes.compactMap { outcome -> (RecordedAnswer, ErasureMarks)? in
      guard let marks = outcome.row.marks, let output = try? outcome.result.get().text else {
        return nil
      }
      let request = outcome.row.request
      return (
        RecordedAnswer(
          requestID: request.requestID, stream: request.stream,
          input: JSONText(.object(request.input)), output: output,
          adapterVersion: outcome.row.personalization.adapterVersion), marks
      )
    }
    guard !records.isEmpty else { return }
    do {
      let refused = try await patience.within(Self.maximumWait) {
        try await answers.record(records.map { (answer: $0.0, marks: $0.1) })
      }
      for (answer, error) in refused {
        logger.warning(
          "answer not recorded: \(error)", metadata: ["request": "\(answer.requestID)"])
      }
    } catch {
      logger.warning("answers not recorded: \(error)")
    }
  }
}
