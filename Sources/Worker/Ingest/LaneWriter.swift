// Batches of one partition on their way into PostgreSQL.

import Foundation
import KafkaClient
import Personalization
import PostgresClient
import Services
import Storage
import StructuredLogging

/// Messages of one partition and what checking them came to.
struct CheckedBatch: Sendable {
  let messages: ArraySlice<KafkaMessage>
  /// Where the partition stands before them.
  let expected: Int64
  var steps: [IngestStep]
  var letters: [DeadLetter]

  /// Checks the messages.
  /// - Parameter refused: why some are refused that might be taken otherwise, by offset.
  init(
    _ messages: ArraySlice<KafkaMessage>, expected: Int64, decoder: inout EventDecoder,
    context: LaneContext, refused: [Int64: DeadLetter] = [:], now: Date = Date()
  ) {
    self.messages = messages
    self.expected = expected
    steps = []
    letters = []
    var events: [IncomingEvent] = []
    events.reserveCapacity(messages.count)
    var feedback: [PendingFeedback] = []
    func close() {
      if !events.isEmpty { steps.append(.events(events)) }
      if !feedback.isEmpty { steps.append(.feedback(feedback)) }
      events = []
      feedback = []
    }
    for message in messages {
      if let letter = refused[message.offset] {
        letters.append(letter)
        continue
      }
      do {
        switch try decoder.decode(message, now: now) {
        case .record(let event):
          if !feedback.isEmpty { close() }
          events.append(event)
        case .feedback(let item):
          if !events.isEmpty { close() }
          feedback.append(item.pending(in: context.catalogue))
        case .erase(let userID, let order):
          close()
          steps.append(.erase(userID: userID, order: order))
        }
      } catch {
        let reason = error as? MessageError ?? MessageError(.invalidMessage, "\(error)")
        letters.append(
          DeadLetter(
            message: message, error: reason, stage: "decode", logNumber: decoder.logNumber))
      }
    }
    close()
  }

  func ingestBatch(epoch: Int64) -> IngestBatch? {
    guard let last = messages.last else { return nil }
    return IngestBatch(
      topic: last.topic, partition: last.partition, expectedOffset: expected,
      nextOffset: last.offset + 1, epoch: epoch, steps: steps, deadLetters: letters.count,
      last: LogMark(last), sentFrom: messages.lazy.compactMap(\.timestamp).min())
  }
}

actor LaneWriter {
  private let context: LaneContext
  private let epoch: Int64
  private let logNumber: Int64
  private var office: DeadLetterOffice
  /// The last batch met repeated events, so the next one may well do so too.
  private var expectRepeats = false

  init(context: LaneContext, epoch: Int64, logNumber: Int64) {
    self.context = context
    self.epoch = epoch
    self.logNumber = logNumber
    office = DeadLetterOffice(producer: context.producer, logger: context.logger)
  }

  /// Writes a batch and its dead letters. Splits a batch that PostgreSQL refuses until the message at fault is
  /// alone, which then becomes a dead letter.
  /// - Throws: `ZombieConsumerError` where the partition is no longer ours.
  func write(_ batch: CheckedBatch) async throws {
    try await write(batch, refused: [:])
    office.forget()
  }

  private func write(_ batch: CheckedBatch, refused: [Int64: DeadLetter]) async throws {
    var office = office
    try await office.send(batch.letters)
    self.office = office
    guard let ingest = batch.ingestBatch(epoch: epoch), let last = batch.messages.last else {
      return
    }
    do {
      let prepared = try IngestRepository.Prepared(ingest)
      // A partition whose dead letters nobody takes holds no place that others could write in.
      try await context.slots.withSlot { try await write(prepared, of: ingest) }
    } catch let error as UnmatchedFeedbackError {
      var refused = refused
      for message in batch.messages {
        guard let reason = error.reasons[message.offset] else { continue }
        refused[message.offset] = DeadLetter(
          message: message,
          error: reason as? MessageError ?? self.unknownRequest(message), stage: "store",
          logNumber: logNumber)
      }
      try await write(check(batch.messages, batch.expected, refused), refused: refused)
    } catch let error as PostgresError where error.isDataError {
      if batch.messages.count > 1 {
        let middle = batch.messages.startIndex + batch.messages.count / 2
        let first = batch.messages[..<middle]
        try await write(check(first, batch.expected, refused), refused: refused)
        let between = (first.last?.offset ?? batch.expected - 1) + 1
        try await write(check(batch.messages[middle...], between, refused), refused: refused)
        return
      }
      var refused = refused
      refused[last.offset] = DeadLetter(
        message: last, error: MessageError(.invalidMessage, "PostgreSQL refused it: \(error)"),
        stage: "store", logNumber: logNumber)
      try await write(check(batch.messages, batch.expected, refused), refused: refused)
    }
  }

  private func check(
    _ messages: ArraySlice<KafkaMessage>, _ expected: Int64, _ refused: [Int64: DeadLetter]
  ) -> CheckedBatch {
    var decoder = context.decoder(logNumber)
    return CheckedBatch(
      messages, expected: expected, decoder: &decoder, context: context, refused: refused)
  }

  private func unknownRequest(_ message: KafkaMessage) -> MessageError {
    let requestID = (try? Envelope(message))?.fields["request_id"]?.plainText
    return .unknownRequest(requestID ?? "?")
  }

  /// Writes rows, waiting out a database that is away.
  ///
  /// A connection that broke at COMMIT leaves open whether the batch was taken. The next attempt then finds the
  /// partition moved on; if it stands exactly where this batch put it, under our epoch, the batch was taken.
  private func write(_ prepared: IngestRepository.Prepared, of batch: IngestBatch) async throws {
    var uncertain = false
    var backoff = Backoff()
    let logger = context.logger
    while true {
      do {
        let result = try await context.repository.write(prepared, expectRepeats: expectRepeats)
        expectRepeats = result.duplicates > 0
        if result.forgotten > 0 {
          logger.notice(
            "\(batch.topic)-\(batch.partition): \(result.forgotten) events were sent before their users were erased, and are not taken"
          )
        }
        for (user, similar) in result.notFound {
          let hint =
            similar.isEmpty
            ? "" : "; there is \(similar.map { "\"\($0)\"" }.joined(separator: ", "))"
          logger.warning(
            "\(batch.topic)-\(batch.partition): to be erased was \"\(user)\", of whom nothing is known\(hint). The key is the user id as it is: no quotes, no blanks, the same case"
          )
        }
        logger.debug(
          "ingested",
          metadata: [
            "partition": "\(batch.partition)", "events": "\(result.events)",
            "duplicates": "\(result.duplicates)", "next": "\(batch.nextOffset)",
          ])
        return
      } catch let error as ZombieConsumerError {
        let repository = context.repository
        let stands: @Sendable () async throws -> Bool = { try await repository.stands(batch) }
        if uncertain, try await retryingDatabase("ingest", logger: logger, stands) { return }
        throw error
      } catch let error as PostgresError
        where error.isRetryable && !Task.isShuttingDownGracefully
      {
        uncertain = true
        logger.warning("ingest: \(error); trying again")
        try await backoff.wait()
      }
    }
  }
}
