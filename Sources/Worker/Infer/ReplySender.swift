// A reply on its way: sent until it is acknowledged, or else the request becomes a dead letter. Where the worker's own
// reply topic cannot be written to, that is the operator's to mend, and no request's fault: replies wait for it.

import Foundation
import KafkaClient
import Services
import StructuredLogging
import Synchronization

struct ReplySender: Sendable {
  private let producer: KafkaProducer
  private let topics: ReplyTopics
  private let patience: Duration
  private let directory = TopicDirectory()
  /// Whether it was said that the standard topic cannot be written to.
  private let isShut = Flag()
  private let logger: Logger

  /// How long a broker may take to say whether a topic exists.
  private static let metadataTimeout = Duration.seconds(5)
  /// How often a topic or partition that is not there is looked for: within a second.
  private static let sightings = 3

  /// - Parameter patience: how long a reply is tried while the broker does not take it.
  init(producer: KafkaProducer, topics: ReplyTopics, patience: Duration, logger: Logger) {
    self.producer = producer
    self.topics = topics
    self.patience = patience
    self.logger = logger
  }

  /// - Returns: whether the reply or the dead letter is acknowledged; false where the worker stops before.
  func send(
    _ reply: PersonalizationReply, to message: KafkaMessage, at address: ReplyAddress
  ) async -> Bool {
    do {
      try await deliver(reply, to: message, at: address)
      return true
    } catch is CancellationError {
      return false
    } catch  where Task.isShuttingDownGracefully && (error as? KafkaError)?.isRetriable == true {
      return false
    } catch {
      // A reply address that cannot be written to: the request itself becomes a dead letter.
      let reason = MessageError(
        (error as? KafkaError)?.isRetriable == true ? .unavailable : .invalidReplyAddress,
        "the reply could not be sent to \(address.topic): \(error)")
      logger.warning("\(reason.message)", metadata: ["request": "\(reply.requestID)"])
      return await bury(DeadLetter(message: message, error: reason, stage: "reply"))
    }
  }

  private func deliver(
    _ reply: PersonalizationReply, to message: KafkaMessage, at address: ReplyAddress
  ) async throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let value = try encoder.encode(reply)
    let headers =
      address.echoed + [KafkaHeader(key: "content-type", value: Data("application/json".utf8))]
    let key = reply.userID.map { Data($0.utf8) } ?? message.key
    var backoff = Backoff()
    let giveUp = ContinuousClock.now + patience
    var sightings = 0
    while true {
      do {
        if address.topic != topics.standard || address.partition != nil || sightings > 0 {
          try await look(for: address)
        }
        try await producer.send(
          topic: address.topic, partition: address.partition, key: key, value: value,
          headers: headers)
        if address.topic == topics.standard, isShut.lower() {
          logger.notice("replies go to \(address.topic) again")
        }
        return
      } catch let error as UnknownReplyPlace {
        // A broker that makes topics when they are first asked for needs a moment.
        sightings += 1
        if sightings >= Self.sightings {
          guard address.topic == topics.standard, error.partition == nil else { throw error }
          try wait(for: address.topic, after: error)
        }
      } catch let error as KafkaError where error.isUnknownTopic {
        // librdkafka has not heard of it; the broker may have, for partitions are added and topics made.
        directory.forget(address.topic)
        sightings += 1
        guard sightings < Self.sightings else { throw error }
      } catch let error as KafkaError where error.isForbidden && address.topic == topics.standard {
        try wait(for: address.topic, after: error)
      } catch let error as KafkaError
        where error.isRetriable && ContinuousClock.now < giveUp && !Task.isShuttingDownGracefully
      {
        logger.warning("reply not sent: \(error); trying again")
      }
      try await backoff.wait()
    }
  }

  /// Says once that replies wait for the worker's own topic.
  /// - Throws: `CancellationError` where the worker stops.
  private func wait(for topic: String, after error: any Error) throws {
    if Task.isShuttingDownGracefully || Task.isCancelled { throw CancellationError() }
    guard isShut.raise() else { return }
    logger.error(
      "replies cannot be written to \(topic): \(error). Their requests' partitions wait until they can"
    )
  }

  /// Asks the broker for the topic, unless it was seen lately.
  /// - Throws: ``UnknownReplyPlace``; `KafkaError` where no broker answers.
  private func look(for address: ReplyAddress) async throws {
    let partition = Int(address.partition ?? 0)
    if let known = directory.partitionCount(of: address.topic), partition < known { return }
    let count = try await producer.partitionCount(
      of: address.topic, timeout: Self.metadataTimeout)
    guard let count else { throw UnknownReplyPlace(topic: address.topic, partition: nil, count: 0) }
    directory.note(address.topic, partitionCount: count)
    guard partition < count else {
      throw UnknownReplyPlace(topic: address.topic, partition: partition, count: count)
    }
  }

  /// Until the dead letter is acknowledged; false where the worker stops before.
  private func bury(_ letter: DeadLetter) async -> Bool {
    var backoff = Backoff()
    var isSaid = false
    repeat {
      do {
        try await letter.send(by: producer)
        return true
      } catch {
        if !isSaid { logger.error("dead letter not sent: \(error); trying again until it is") }
        isSaid = true
        try? await backoff.wait()
      }
    } while !Task.isCancelled && !Task.isShuttingDownGracefully
    return false
  }
}

/// A flag that several tasks raise and lower.
private final class Flag: Sendable {
  private let isRaised = Atomic(false)
  /// Returns whether it was down before.
  func raise() -> Bool { !isRaised.exchange(true, ordering: .relaxed) }
  /// Returns whether it was up before.
  func lower() -> Bool {
    isRaised.load(ordering: .relaxed) && isRaised.exchange(false, ordering: .relaxed)
  }
}

/// There is no such topic or partition, as the broker says.
struct UnknownReplyPlace: Error, CustomStringConvertible {
  let topic: String
  let partition: Int?
  let count: Int
  var description: String {
    guard let partition else {
      return "there is no topic \(topic), or none that this worker may see"
    }
    return "the topic \(topic) has \(count) partitions, so none with the number \(partition)"
  }
}

/// Topics that were seen lately, so that not every reply asks for its topic.
private final class TopicDirectory: Sendable {
  private static let age = Duration.seconds(10)
  private static let maximumCount = 1_000
  private let topics = Mutex<[String: (partitions: Int, seen: ContinuousClock.Instant)]>([:])

  func partitionCount(of topic: String) -> Int? {
    topics.withLock { topics in
      topics[topic].flatMap { ContinuousClock.now - $0.seen < Self.age ? $0.partitions : nil }
    }
  }

  func note(_ topic: String, partitionCount: Int) {
    topics.withLock { topics in
      if topics.count >= Self.maximumCount { topics = [:] }
      topics[topic] = (partitionCount, .now)
    }
  }

  func forget(_ topic: String) { topics.withLock { $0[topic] = nil } }
}
