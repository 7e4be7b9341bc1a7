// Asks the worker over Kafka: a request with a correlation id, and the reply that carries it back.

import Foundation
import JSON
import KafkaClient
import Personalization

/// What came back to a question.
struct TourAnswer: Sendable {
  var isOK: Bool
  /// The answer, or the error in words.
  var output: String
  var adapterVersion: Int?
}

struct Requests: Sendable {
  let configuration: KafkaConfiguration
  let producer: KafkaProducer
  let console: Console

  private static let timeout: Duration = .seconds(240)

  /// Asks all questions at once and waits for the replies.
  ///
  /// - Parameter round: tells the requests of several rounds apart.
  /// - Returns: the answers in the order of the questions; nil where none came in time.
  /// - Throws: `KafkaError`, `CancellationError`.
  func ask(_ questions: [TourQuestion], round: String) async throws -> [TourAnswer?] {
    let consumer = try KafkaConsumer(
      configuration: configuration, group: "oppu-demo-\(round)", topics: [Topics.replies])
    do {
      let answers = try await ask(questions, round: round, consumer: consumer)
      await consumer.close()
      return answers
    } catch {
      await consumer.close()
      throw error
    }
  }

  private func ask(
    _ questions: [TourQuestion], round: String, consumer: KafkaConsumer
  ) async throws -> [TourAnswer?] {
    var open: [Data: Int] = [:]
    var answers = [TourAnswer?](repeating: nil, count: questions.count)
    let begin = ContinuousClock.now
    var isAsked = false
    while ContinuousClock.now - begin < Self.timeout, !isAsked || !open.isEmpty {
      switch try await consumer.next(timeout: .milliseconds(200)) {
      case .assigned(let partitions):
        // Replies of an earlier round have correlation ids that are not open any more.
        let offsets = partitions.map { ($0, KafkaOffset.beginning) }
        try await consumer.assign(Dictionary(uniqueKeysWithValues: offsets))
        if !isAsked { open = try await send(questions, round: round) }
        isAsked = true
      case .revoked(let partitions, _): try await consumer.unassign(partitions)
      case .messages(let messages):
        for message in messages {
          guard let correlation = message.header("kafka_correlationId"),
            let index = open.removeValue(forKey: correlation)
          else { continue }
          answers[index] = Self.answer(message)
        }
      case .idle, .halted: break
      }
      let count = questions.count - open.count
      if isAsked {
        console.progress(
          "\(count)/\(questions.count) replies",
          fraction: Double(count) / Double(max(1, questions.count)))
      }
    }
    console.endProgress()
    return answers
  }

  /// Returns the correlation ids and which question each belongs to.
  private func send(_ questions: [TourQuestion], round: String) async throws -> [Data: Int] {
    var open: [Data: Int] = [:]
    for (index, question) in questions.enumerated() {
      let id = "demo-\(round)-\(index + 1)"
      let correlation = Data(UUID().uuidString.utf8)
      let request: JSONValue = .object([
        "request_id": .string(id), "user_id": .string(question.stream.user),
        "task": .string(question.stream.task), "input": question.input,
        "options": ["temperature": 0, "deadline_ms": .number(Self.timeout / .milliseconds(1))],
      ])
      try await producer.send(
        topic: Topics.requests, key: Data(question.stream.user.utf8),
        value: Data(request.canonical.utf8),
        headers: [
          KafkaHeader(key: "content-type", value: Data("application/json".utf8)),
          KafkaHeader(key: "kafka_replyTopic", value: Data(Topics.replies.utf8)),
          KafkaHeader(key: "kafka_correlationId", value: correlation),
        ])
      open[correlation] = index
    }
    return open
  }

  private static func answer(_ message: KafkaMessage) -> TourAnswer {
    guard let value = message.value,
      let reply = try? JSONDecoder().decode(JSONValue.self, from: value)
    else { return TourAnswer(isOK: false, output: "a reply that is not JSON", adapterVersion: nil) }
    let version = reply["personalization"]?["adapter_version"]?.number.map { Int($0) }
    if reply["status"]?.string == "ok", let output = reply["output"]?.plainText {
      return TourAnswer(isOK: true, output: output, adapterVersion: version)
    }
    let code = reply["error"]?["code"]?.string ?? "error"
    let text = reply["error"]?["message"]?.string ?? "no message"
    return TourAnswer(isOK: false, output: "\(code): \(text)", adapterVersion: version)
  }
}
