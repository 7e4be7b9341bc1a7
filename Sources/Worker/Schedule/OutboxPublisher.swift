// Adapter events from the outbox to Kafka, in the order in which they were written for each user.

import Foundation
import KafkaClient
import PostgresClient
import Storage
import StructuredLogging

struct OutboxPublisher: Sendable {
  let topic: String
  let producer: KafkaProducer
  let logger: Logger

  /// Publishes what waits, up to some hundred events, and removes what the broker has acknowledged. What it did
  /// not acknowledge stays for the next time, and so does what comes after it for the same user.
  /// - Parameter trustedUntil: after this another process may lead and publish the same: nothing more is sent.
  func publish(
    on connection: PostgresConnection, until trustedUntil: ContinuousClock.Instant
  ) async throws {
    let outbox = OutboxRepository(connection)
    let waiting = try await outbox.waiting()
    guard !waiting.isEmpty else { return }
    let sent = await withTaskGroup(of: [Int64].self) { group in
      for messages in Dictionary(grouping: waiting, by: \.key).values {
        group.addTask { await send(messages, until: trustedUntil) }
      }
      return await group.reduce(into: []) { $0 += $1 }
    }
    try await outbox.remove(sent)
  }

  /// Sends one user's events, one after the other; returns those that were acknowledged.
  private func send(
    _ messages: [OutboxMessage], until trustedUntil: ContinuousClock.Instant
  ) async -> [Int64] {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var sent: [Int64] = []
    for message in messages.sorted(by: { $0.id < $1.id }) {
      guard ContinuousClock.now < trustedUntil else { break }
      do {
        try await producer.send(
          topic: topic, key: Data(message.key.utf8), value: try encoder.encode(message.event),
          headers: [KafkaHeader(key: "content-type", value: Data("application/json".utf8))])
      } catch {
        logger.warning("adapter event not published: \(error)")
        break
      }
      sent.append(message.id)
    }
    return sent
  }
}
