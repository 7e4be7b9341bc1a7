// Reads what the worker wrote, again and again: replies and dead letters, each message once.

import Foundation
import JSON
import KafkaClient
import Personalization
import Worker

actor ChaosReplies {
  private let reader: KafkaTopicReader
  private let topics: WorkerConfiguration.Kafka
  private let ledger: ChaosLedger
  /// Messages read of each partition.
  private var next: [TopicPartition: Int64] = [:]

  init(_ topics: WorkerConfiguration.Kafka, ledger: ChaosLedger) {
    self.topics = topics
    self.ledger = ledger
    reader = KafkaTopicReader(
      configuration: KafkaConfiguration(bootstrapServers: topics.bootstrapServers),
      logger: BenchDatabase.logger)
  }

  /// Reads what is new, and gives answers to the traffic for its feedback.
  ///
  /// - Throws: `KafkaError` where the broker does not answer.
  func read(partitions: Int32, for traffic: ChaosTraffic) async throws {
    for message in try await news(of: topics.replyTopic, partitions) {
      guard let id = message.header(ChaosMessages.replyHeader) else { continue }
      let value =
        (try? JSONDecoder().decode(JSONValue.self, from: message.value ?? Data())) ?? .null
      await ledger.add(
        ChaosLedger.Reply(
          status: value["status"]?.string ?? "none", code: value["error"]?["code"]?.string,
          output: value["output"]?.string, at: message.timestamp ?? .now),
        to: String(decoding: id, as: UTF8.self))
      if value["status"] == "ok" { await traffic.note(value) }
    }
    for message in try await news(of: "\(topics.requestTopic)-dlt", partitions) {
      guard let id = message.header(ChaosMessages.replyHeader) else { continue }
      await ledger.addLetter(String(decoding: id, as: UTF8.self))
    }
    for message in try await news(of: "\(topics.behaviorTopic)-dlt", partitions) {
      let text = String(decoding: message.value ?? Data(), as: UTF8.self)
      if let found = text.firstRange(of: /poison-[0-9]+/) {
        await ledger.addLetter(String(text[found]))
      } else {
        await ledger.addStrangeLetter(text)
      }
    }
  }

  private func news(of topic: String, _ partitions: Int32) async throws -> [KafkaMessage] {
    var messages: [KafkaMessage] = []
    for number in 0..<partitions {
      let partition = TopicPartition(topic: topic, partition: number)
      try await reader.read(topic, partition: number, from: next[partition] ?? 0) { message in
        messages.append(message)
        return true
      }
    }
    for message in messages {
      next[message.topicPartition] = max(next[message.topicPartition] ?? 0, message.offset + 1)
    }
    return messages
  }
}
