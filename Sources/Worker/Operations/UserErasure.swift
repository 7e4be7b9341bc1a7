// Forgetting a user because an operator says so: at once in PostgreSQL, and in the topic for what is under way.

import Foundation
import KafkaClient
import PostgresClient
import Storage

public struct UserErasure: Sendable {
  private let client: PostgresClient
  private let kafka: WorkerConfiguration.Kafka

  public init(client: PostgresClient, kafka: WorkerConfiguration.Kafka) {
    self.client = client
    self.kafka = kafka
  }

  /// Rows of the user in each table.
  public func plan(_ userID: String) async throws -> [(table: String, rows: Int)] {
    try await ErasureRepository.rows(of: userID, in: client)
  }

  /// Removes the user's rows, and then puts a message without a value behind the user's messages that wait to be
  /// read: into every partition, for which of them has those is the producers' choice.
  /// - Returns: what was removed, and how many partitions were told.
  public func execute(_ userID: String) async throws -> (removed: ErasureCounts, partitions: Int) {
    guard (1...BehaviorEvent.maximumUserBytes).contains(userID.utf8.count) else {
      throw MessageError(
        .invalidMessage,
        "a user id has 1 to \(BehaviorEvent.maximumUserBytes) bytes, this one \(userID.utf8.count)")
    }
    let counts = try await client.withTransaction {
      try await ErasureRepository($0).erase(userID: userID)
    }
    let admin = try KafkaAdmin(configuration: kafka.client)
    let topics = try await admin.listTopics()
    await admin.close()
    let partitions = topics.first { $0.name == kafka.behaviorTopic }?.partitionCount ?? 0
    let producer = try KafkaProducer(configuration: kafka.client)
    let failures = await producer.send(
      (0..<Int32(clamping: partitions)).map {
        OutgoingMessage(
          topic: kafka.behaviorTopic, partition: $0, key: Data(userID.utf8), value: nil)
      })
    await producer.close()
    if let failure = failures.first { throw failure.value }
    return (counts, partitions)
  }
}
