// The inference role: requests from Kafka, answered in batches over users, each row with its own adapter.
//
// Each request is a task of its own, from loading to the acknowledged reply: one that takes long holds up no
// other. Offsets are committed, in order, after the replies are acknowledged, so a request is never lost; after a
// crash the last few may be answered once more, with the same request and correlation id.

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
  private let client: PostgresClient
  private let catalogue: TaskCatalogue
  private let topics: ReplyTopics
  private let sender: ReplySender
  private let slot: WorkerSlot
  private let open = OpenRequests()
  private let logger: Logger

  /// How long partitions that are taken away, and a stop, wait for the replies that are under way.
  private static let drain = Duration.seconds(20)
  /// How long reading waits for a free place before it is paused.
  private static let patience = Duration.seconds(1)

  init(
    configuration: WorkerConfiguration, catalogue: TaskCatalogue, model: ServedModel,
    client: PostgresClient, producer: KafkaProducer, slot: WorkerSlot, logger: Logger
  ) {
    self.slot = slot
    self.configuration = configuration
    self.catalogue = catalogue
    self.client = client
    self.logger = logger
    topics = ReplyTopics(configuration.kafka, patterns: configuration.infer.replyTopics)
    sender = ReplySender(
      producer: producer, topics: topics, patience: configuration.infer.defaultDeadline,
      logger: logger)
    answerer = Answerer(
      configuration: configuration, model: model, client: client,
      answers: AnswerRepository(client, key: configuration.receiptKey), logger: logger)
  }

  public func run() async throws {
    let kafka = configuration.kafka
    try await withThrowingDiscardingTaskGroup { group in
      group.addTask { await followChanges() }
      // Requests that are under way outlive a consumer that is made anew.
      try await kafka.asMember(slot, logger: logger) {
        let consumer = try KafkaConsumer(
          configuration: kafka.client, group: "\(kafka.groupPrefix)-infer",
          topics: [kafka.requestTopic], properties: kafka.membership(slot), logger: logger)
        do {
          var intake = Intake()
          while !Task.isShuttingDownGracefully {
            for message in try await next(consumer, &intake) {
              let place = open.begin(message)
              group.addTask {
                open.finish(place, isDone: await process(message))
              }
            }
          }
          try? await within(Self.drain) { [open] in await open.wait(untilAtMost: 0) }
          await commit(consumer)
        } catch {
          open.lose(nil)
          await consumer.close()
          throw error
        }
        await consumer.close()
      }
      group.cancelAll()
    }
    logger.info("infer stopped")
  }

  /// What a consumer reads.
  private struct Intake {
    var assigned: Set<TopicPartition> = []
    var isPaused = false
  }

  /// Answers what the group says, commits what is done, and returns new requests: about as many as may be under
  /// way.
  private func next(
    _ consumer: KafkaConsumer, _ intake: inout Intake
  ) async throws -> [KafkaMessage] {
    await commit(consumer)
    let limit = 4 * configuration.infer.batchSize
    try await makeRoom(limit, consumer, &intake)
    let event = try await consumer.next(
      maximumMessages: max(1, limit - open.count), timeout: .milliseconds(open.count > 0 ? 50 : 500)
    )
    switch event {
    case .assigned(let partitions):
      intake.assigned.formUnion(partitions)
      try await consumer.assign(await starts(of: partitions, consumer))
      if intake.isPaused { try await consumer.pause(partitions) }
      logger.info("infer assigned", metadata: ["partitions": "\(partitions.count)"])
    case .revoked(let partitions, let lost):
      intake.assigned.subtract(partitions)
      if lost {
        open.lose(partitions)
      } else {
        try? await within(Self.drain) { [open] in await open.wait(untilDone: partitions) }
        await commit(consumer)
        open.forget(partitions)
      }
      try await consumer.unassign(partitions)
    case .messages(let messages): return messages
    case .idle, .halted: break
    }
    return []
  }

  /// Waits a little for a free place where enough is under way; where none comes, fetching stops but not polling:
  /// a member that does not poll is put out of its group, however long the computation takes that it waits for.
  private func makeRoom(
    _ limit: Int, _ consumer: KafkaConsumer, _ intake: inout Intake
  ) async throws {
    if open.count >= limit, !intake.isPaused {
      try? await within(Self.patience) { [open] in await open.wait(untilAtMost: limit - 1) }
      if open.count >= limit {
        try await consumer.pause(Array(intake.assigned))
        intake.isPaused = true
      }
    }
    if intake.isPaused, open.count < limit {
      try await consumer.resume(Array(intake.assigned))
      intake.isPaused = false
    }
  }

  /// Where partitions begin: where the group stands, but for those that this process has lost in between.
  private func starts(
    of partitions: [TopicPartition], _ consumer: KafkaConsumer
  ) async -> [TopicPartition: Int64] {
    var starts = Dictionary(
      partitions.map { ($0, KafkaOffset.stored) }, uniquingKeysWith: { $1 })
    let lost = open.lost(among: partitions)
    guard !lost.isEmpty else { return starts }
    do {
      let committed = try await consumer.committed(lost)
      for partition in lost {
        starts[partition] =
          open.regain(partition, committed: committed[partition]) ?? KafkaOffset.stored
      }
    } catch {
      logger.warning("requests that are under way may be answered twice: \(error)")
      open.forget(lost)
    }
    return starts
  }

  private func commit(_ consumer: KafkaConsumer) async {
    let offsets = open.uncommitted()
    guard !offsets.isEmpty else { return }
    do {
      try await consumer.commit(offsets)
      open.committed(offsets)
    } catch {
      // The partition moved on: its new owner answers these once more. Or the broker is away: later.
      logger.warning("offsets of answered requests not committed: \(error)")
    }
  }

  /// From a message to its acknowledged reply or dead letter.
  private func process(_ message: KafkaMessage) async -> Bool {
    let address = ReplyAddress(message, allowed: topics)
    for note in address.notes {
      logger.warning(
        "\(note)",
        metadata: ["partition": "\(message.partition)", "offset": "\(message.offset)"])
    }
    let reply: PersonalizationReply
    do {
      if let refusal = address.refusal { throw refusal }
      let request = try PersonalizationRequest(
        message, catalogue: catalogue, maximumTokens: configuration.infer.maximumTokens)
      reply = await answerer.answer(request, receivedAt: message.timestamp ?? Date())
    } catch {
      reply = answerer.failure(message, error)
    }
    // A worker that gives up leaves the request to the next one: what it has by then may be no answer.
    guard !Task.isCancelled else { return false }
    return await sender.send(reply, to: message, at: address)
  }

  /// Drops what is kept of a stream when it changes. Which version is active is read with each request, so a
  /// notification that was missed costs memory, not correctness; but what was erased must not stay, so whenever
  /// some may have been missed all goes.
  private func followChanges() async {
    var backoff = Backoff()
    while !Task.isCancelled {
      do {
        let changes = try await client.listen([AdapterRepository.changeChannel])
        await answerer.evictAll()
        for try await notification in changes {
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
