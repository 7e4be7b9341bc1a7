// The inference role: requests from Kafka. Texts are answered in batches over users, each row with its own adapter;
// labels and ratings are scored one request after the other.
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

/// The role `infer`: answers requests.
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
        let intake = try RequestIntake(
          kafka, slot: slot, limit: 4 * configuration.infer.batchSize, requests: open,
          logger: logger)
        let watching = Task { await intake.watch() }
        defer { watching.cancel() }
        do {
          while !Task.isShuttingDownGracefully {
            for message in try await intake.next() {
              let place = open.begin(message)
              group.addTask {
                open.finish(place, isDone: await process(message))
              }
            }
          }
          await intake.finish()
        } catch {
          open.lose(nil)
          await intake.close()
          throw error
        }
        await intake.close()
      }
      group.cancelAll()
    }
    logger.info("infer stopped")
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
            StreamID.self, from: Data(notification.payload.utf8))
          if let stream { await answerer.evict(stream) }
        }
      } catch {
        logger.warning("lost the notifications of adapter changes: \(error); listening again")
      }
      try? await backoff.wait()
    }
  }
}
