// Dead letters of one partition: each sent once, however often its batch is tried.

import Foundation
import KafkaClient
import Services
import StructuredLogging

struct DeadLetterOffice: Sendable {
  private let producer: KafkaProducer
  private let logger: Logger
  /// Offsets whose letters the broker has, of the batch in hand.
  private var sent: Set<Int64> = []

  init(producer: KafkaProducer, logger: Logger) {
    self.producer = producer
    self.logger = logger
  }

  /// Returns once the broker has acknowledged all of them; for a topic that may not be written to it waits until it
  /// may.
  /// - Throws: `KafkaError` where waiting does not help; `CancellationError`.
  mutating func send(_ letters: [DeadLetter]) async throws {
    let fresh = letters.filter { !sent.contains($0.message.offset) }
    guard !fresh.isEmpty else { return }
    for letter in fresh {
      logger.warning(
        "dead letter: \(letter.error.message)",
        metadata: [
          "topic": "\(letter.message.topic)", "partition": "\(letter.message.partition)",
          "offset": "\(letter.message.offset)",
        ])
    }
    let failures = await producer.send(fresh.map(\.outgoing))
    for (index, letter) in fresh.enumerated() {
      if let failure = failures[index] {
        try await sendAgain(letter, after: failure)
      }
      sent.insert(letter.message.offset)
    }
  }

  private func sendAgain(_ letter: DeadLetter, after failure: any Error) async throws {
    var failure = failure
    var backoff = Backoff()
    var isForbidden = false
    while true {
      guard let error = failure as? KafkaError else { throw failure }
      if letter.outgoing(after: error, of: letter.outgoing) == nil {
        guard error.isRetriable || error.isForbidden, !Task.isShuttingDownGracefully else {
          throw error
        }
        if !error.isForbidden {
          logger.warning("dead letter not sent: \(error); trying again")
        } else if !isForbidden {
          logger.error(
            "\(letter.message.topicPartition): dead letter not sent: \(error). The partition waits until it can be written"
          )
        }
        isForbidden = isForbidden || error.isForbidden
        try await backoff.wait()
      }
      do {
        try await letter.send(by: producer)
        if isForbidden {
          logger.notice("\(letter.message.topicPartition): dead letters are taken again")
        }
        return
      } catch { failure = error }
    }
  }

  /// Forgets what was sent: its batch is written.
  mutating func forget() { sent = [] }
}
