// Reads what the worker could not take, to say which tasks it was of and why.

import Foundation
import JSON
import KafkaClient
import Personalization

/// A message of the dead-letter topic.
struct TourDeadLetter: Sendable {
  var task: String?
  var reason: String

  /// Reads up to `count` dead letters from the beginning.
  ///
  /// - Throws: `KafkaError`, `CancellationError`.
  static func read(_ count: Int, configuration: KafkaConfiguration) async throws -> [TourDeadLetter]
  {
    if count == 0 { return [] }
    let consumer = try KafkaConsumer(
      configuration: configuration, group: "oppu-demo-dead-letters", topics: [Topics.deadLetters])
    var letters: [TourDeadLetter] = []
    do {
      let begin = ContinuousClock.now
      while letters.count < count, ContinuousClock.now - begin < .seconds(20) {
        switch try await consumer.next(timeout: .milliseconds(200)) {
        case .assigned(let partitions):
          let offsets = partitions.map { ($0, KafkaOffset.beginning) }
          try await consumer.assign(Dictionary(uniqueKeysWithValues: offsets))
        case .revoked(let partitions, _): try await consumer.unassign(partitions)
        case .messages(let messages): letters += messages.map(TourDeadLetter.init)
        case .idle, .halted: break
        }
      }
    } catch {
      await consumer.close()
      throw error
    }
    await consumer.close()
    return letters
  }

  private init(_ message: KafkaMessage) {
    let value = message.value.flatMap { try? JSONDecoder().decode(JSONValue.self, from: $0) }
    task = value?["task"]?.string
    reason =
      message.header("__connect.errors.exception.message")
      .map { String(decoding: $0, as: UTF8.self) } ?? "no reason given"
  }
}
