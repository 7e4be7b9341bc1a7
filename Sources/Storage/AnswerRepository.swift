// What was answered to whom, kept for a while, so that feedback which names only the request becomes history.

import Foundation
import JSON
import Personalization
import PostgresClient

/// An answer as it was given.
public struct RecordedAnswer: Sendable {
  public var requestID: String
  public var stream: StreamID
  /// As the request had it.
  public var input: JSONText
  /// In the task's form.
  public var output: String
  /// Nil: the base model answered.
  public var adapterVersion: Int?
  public var answeredAt: Date

  public init(
    requestID: String, stream: StreamID, input: JSONText, output: String, adapterVersion: Int?,
    answeredAt: Date = Date()
  ) {
    self.requestID = requestID
    self.stream = stream
    self.input = input
    self.output = output
    self.adapterVersion = adapterVersion
    self.answeredAt = answeredAt
  }
}

/// The answers' table: what is recorded waits for feedback, for a while.
public struct AnswerRepository: Sendable {
  private let client: PostgresClient
  private let key: ReceiptKey

  /// - Parameter key: the one that erasures are recorded with.
  public init(_ client: PostgresClient, key: ReceiptKey = .stored) {
    self.client = client
    self.key = key
  }

  /// What to remember before work on a user's answer begins, for ``record(_:)``.
  public func marks(of users: [String]) async throws -> ErasureMarks {
    try await ErasureMarks.of(users, key: key, on: client)
  }

  /// Records answers, each with the marks from before the work on it began; a request that was answered twice
  /// keeps its newest answer. Of a user who was erased since then nothing is recorded.
  ///
  /// In one statement; where the server refuses what one of them holds, one by one.
  /// - Returns: those that were refused, and why.
  /// - Throws: `PostgresError` of another kind.
  public func record(
    _ answers: [(answer: RecordedAnswer, marks: ErasureMarks)]
  ) async throws -> [(answer: RecordedAnswer, error: PostgresError)] {
    do {
      try await store(answers)
      return []
    } catch let error as PostgresError where error.isDataError {
      guard answers.count > 1 else { return answers.map { ($0.answer, error) } }
    }
    var refused: [(answer: RecordedAnswer, error: PostgresError)] = []
    for answer in answers { refused += try await record([answer]) }
    return refused
  }

  private func store(_ answers: [(answer: RecordedAnswer, marks: ErasureMarks)]) async throws {
    guard !answers.isEmpty else { return }
    try await client.withTransaction { connection in
      let users = answers.map(\.answer.stream.userID)
      try await ErasureRepository.keepOut(users, on: connection)
      let now = try await ErasureMarks.of(users, key: key, on: connection)
      // One statement must not meet a row twice.
      let newest = Dictionary(
        answers.filter { now.isUnchanged($0.answer.stream.userID, since: $0.marks) }
          .map {
            (StreamID(userID: $0.answer.stream.userID, task: $0.answer.requestID), $0.answer)
          },
        uniquingKeysWith: { $1 }
      ).sorted { $0.key < $1.key }.map(\.value)
      guard !newest.isEmpty else { return }
      try await connection.execute(
        """
        INSERT INTO answers (user_id, request_id, task, input, output, adapter_version, answered_at)
        SELECT u, r, t, i::jsonb, o, nullif(v, -1)::integer, a
        FROM unnest(\(newest.map(\.stream.userID))::text[], \(newest.map(\.requestID))::text[],
          \(newest.map(\.stream.task))::text[],
          \(newest.map { String(decoding: $0.input.bytes, as: UTF8.self) })::text[],
          \(newest.map(\.output))::text[],
          \(newest.map { Int64($0.adapterVersion ?? -1) })::bigint[],
          \(newest.map(\.answeredAt))::timestamptz[]) AS x(u, r, t, i, o, v, a)
        ON CONFLICT (user_id, request_id) DO UPDATE SET task = excluded.task,
          input = excluded.input, output = excluded.output,
          adapter_version = excluded.adapter_version, answered_at = excluded.answered_at
        """)
    }
  }

  /// The events that feedback stands for, in its order. Holds the answers until the transaction ends, so that an
  /// erasure comes wholly before or wholly after.
  /// - Throws: ``UnmatchedFeedbackError`` naming all that fit no answer.
  static func join(
    _ feedback: [PendingFeedback], on connection: PostgresConnection
  ) async throws -> [IncomingEvent] {
    let rows = try await connection.query(
      """
      SELECT a.user_id, a.request_id, a.task, a.input::text AS input, a.output, a.adapter_version,
        a.answered_at
      FROM answers a
      WHERE (a.user_id, a.request_id) IN (
        SELECT u, r FROM unnest(\(feedback.map(\.userID))::text[],
          \(feedback.map(\.requestID))::text[]) AS x(u, r))
      ORDER BY a.user_id, a.request_id FOR KEY SHARE
      """)
    var answers: [StreamID: RecordedAnswer] = [:]
    for row in rows {
      let answer = RecordedAnswer(
        requestID: try row.decode("request_id"), stream: try row.stream(),
        input: JSONText(checked: Array(try row.decode("input", as: String.self).utf8)),
        output: try row.decode("output"), adapterVersion: try row.decode("adapter_version"),
        answeredAt: try row.decode("answered_at"))
      answers[StreamID(userID: answer.stream.userID, task: answer.requestID)] = answer
    }
    var events: [IncomingEvent] = []
    var reasons: [Int64: (any Error)?] = [:]
    for item in feedback {
      guard let answer = answers[StreamID(userID: item.userID, task: item.requestID)] else {
        reasons.updateValue(nil, forKey: item.offset)
        continue
      }
      do { events.append(try item.event(answer)) } catch {
        reasons.updateValue(error, forKey: item.offset)
      }
    }
    if !reasons.isEmpty { throw UnmatchedFeedbackError(reasons: reasons) }
    return events
  }
}
