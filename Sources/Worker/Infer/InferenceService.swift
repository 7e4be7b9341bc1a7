// The inference role: requests from Kafka, answered in batches over users, each row with its own adapter.
//
// Offsets are committed after the replies are acknowledged, so a request is never lost; after a crash the last
// few may be answered once more, with the same request and correlation id.

import Foundation
import KafkaClient
import LanguageModel
import Personalization
import PostgresClient
import Services
import Storage
import StructuredLogging

public struct InferenceService: Service {
  private let configuration: WorkerConfiguration
  private let answerer: Answerer
  private let answers: AnswerRepository
  private let client: PostgresClient
  private let catalogue: TaskCatalogue
  private let producer: KafkaProducer
  private let slot: WorkerSlot
  private let logger: Logger

  init(
    configuration: WorkerConfiguration, catalogue: TaskCatalogue, model: ServedModel,
    client: PostgresClient, producer: KafkaProducer, slot: WorkerSlot, logger: Logger
  ) {
    self.slot = slot
    self.configuration = configuration
    self.catalogue = catalogue
    self.client = client
    self.producer = producer
    self.logger = logger
    answers = AnswerRepository(client)
    answerer = Answerer(
      settings: configuration.infer, model: model, client: client, logger: logger)
  }

  public func run() async throws {
    let kafka = configuration.kafka
    let consumer = try KafkaConsumer(
      configuration: kafka.client, group: "\(kafka.groupPrefix)-infer",
      topics: [kafka.requestTopic],
      properties: kafka.membership(slot), logger: logger)
    do {
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { await followChanges() }
        try await consume(consumer)
        group.cancelAll()
      }
    } catch {
      await consumer.close()
      throw error
    }
    await consumer.close()
    logger.info("infer stopped")
  }

  private func consume(_ consumer: KafkaConsumer) async throws {
    while !Task.isShuttingDownGracefully {
      let event = try await consumer.next(
        maximumMessages: configuration.infer.batchSize, timeout: .milliseconds(500))
      switch event {
      case .assigned(let partitions):
        try await consumer.assign(
          Dictionary(uniqueKeysWithValues: partitions.map { ($0, KafkaOffset.stored) }))
        logger.info("infer assigned", metadata: ["partitions": "\(partitions.count)"])
      case .revoked(let partitions, _):
        try await consumer.unassign(partitions)
      case .messages(let messages):
        try await answer(messages)
        var offsets: [TopicPartition: Int64] = [:]
        for message in messages {
          let partition = TopicPartition(topic: message.topic, partition: message.partition)
          offsets[partition] = max(offsets[partition] ?? 0, message.offset + 1)
        }
        do {
          try await consumer.commit(offsets)
        } catch let error as KafkaError where !error.isFatal {
          // The partition moved on: its new owner answers these once more.
          logger.warning("offsets of answered requests not committed: \(error)")
        }
      case .idle, .halted:
        break
      }
    }
  }

  private func answer(_ messages: [KafkaMessage]) async throws {
    var accepted: [(KafkaMessage, PersonalizationRequest)] = []
    var replies: [(KafkaMessage, PersonalizationReply)] = []
    for message in messages {
      do {
        accepted.append((message, try PersonalizationRequest(message, catalogue: catalogue)))
      } catch {
        replies.append((message, answerer.failure(message, error)))
      }
    }
    let requests = accepted.map(\.1)
    let marks = await marks(of: requests)
    let answered = await answerer.answer(
      accepted.map { Answerer.Job(request: $0.1, receivedAt: $0.0.timestamp ?? Date()) })
    // Before the replies are sent: feedback to one finds it.
    await record(answered, to: requests, since: marks)
    for (index, reply) in answered.enumerated() { replies.append((accepted[index].0, reply)) }
    // All at once: each waits for its own acknowledgement.
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (message, reply) in replies {
        group.addTask { try await send(reply, to: message) }
      }
      try await group.waitForAll()
    }
  }

  private func marks(of requests: [PersonalizationRequest]) async -> ErasureMarks? {
    guard configuration.infer.answerDays > 0, !requests.isEmpty else { return nil }
    do { return try await answers.marks(of: requests.map(\.userID)) } catch {
      logger.warning("answers will not be recorded: \(error)")
      return nil
    }
  }

  /// Keeps what was answered for feedback. A reply is not held up by a database that is away: feedback that names
  /// only the request is then a dead letter.
  private func record(
    _ replies: [PersonalizationReply], to requests: [PersonalizationRequest],
    since marks: ErasureMarks?
  ) async {
    guard let marks else { return }
    let records = zip(replies, requests).compactMap { reply, request -> RecordedAnswer? in
      guard reply.status == .ok, let output = reply.output else { return nil }
      return RecordedAnswer(
        requestID: request.requestID, stream: request.stream,
        input: JSONText(.object(request.input)), output: output,
        adapterVersion: reply.personalization?.adapterVersion)
    }
    do { try await answers.record(records, since: marks) } catch {
      logger.warning("answers not recorded: \(error)")
    }
  }

  private func send(_ reply: PersonalizationReply, to message: KafkaMessage) async throws {
    let address = ReplyAddress(message, defaultTopic: configuration.kafka.replyTopic)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let value = try encoder.encode(reply)
    let headers =
      address.echoed + [KafkaHeader(key: "content-type", value: Data("application/json".utf8))]
    let key = reply.userID.map { Data($0.utf8) } ?? message.key
    var backoff = Backoff()
    let giveUp = Date().addingTimeInterval(configuration.infer.defaultDeadline.seconds)
    while true {
      do {
        try await producer.send(
          topic: address.topic, partition: address.partition, key: key, value: value,
          headers: headers)
        return
      } catch let error as KafkaError
        where error.isRetriable && !error.isUnknownTopic && Date() < giveUp
        && !Task.isShuttingDownGracefully
      {
        logger.warning("reply not sent: \(error); trying again")
        try await backoff.wait()
      } catch let error as KafkaError where !error.isFatal && !Task.isShuttingDownGracefully {
        // A reply address that cannot be written to: the request itself becomes a dead letter.
        let reason = MessageError(
          .invalidMessage, "the reply could not be sent to \(address.topic): \(error)")
        logger.warning("\(reason.message)", metadata: ["request": "\(reply.requestID)"])
        try await DeadLetter(message: message, error: reason, stage: "reply").send(by: producer)
        return
      }
    }
  }

  /// Drops cached adapters when their stream changes. Which version is active is read with each request, so a
  /// notification that was missed costs memory, not correctness.
  private func followChanges() async {
    var backoff = Backoff()
    while !Task.isCancelled {
      do {
        for try await notification in try await client.listen([AdapterRepository.changeChannel]) {
          let stream = try? JSONDecoder().decode(
            Storage.Stream.self, from: Data(notification.payload.utf8))
          if let stream { await answerer.evict(stream) }
        }
      } catch {
        logger.warning("lost the notifications of adapter changes: \(error); listening again")
      }
      try? await backoff.wait()
    }
  }
}
