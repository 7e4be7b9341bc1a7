// Forgetting a user because an operator says so: at once in PostgreSQL, and in the topic as soon as a broker is there.

import Foundation
import KafkaClient
import PostgresClient
import Storage

/// Erases a user for an operator.
public struct UserErasure: Sendable {
  private let client: PostgresClient
  private let kafka: WorkerConfiguration.Kafka
  private let key: ReceiptKey

  public init(client: PostgresClient, kafka: WorkerConfiguration.Kafka, key: ReceiptKey = .stored) {
    self.client = client
    self.kafka = kafka
    self.key = key
  }

  /// What an erasure did.
  public struct Outcome: Sendable {
    /// What was removed.
    public let removed: ErasureCounts
    public let found: Erasure.Finding
    /// How many of the topic's partitions were told, or why none could be: then the leader of the role `schedule`
    /// tells them as soon as it can.
    public let told: Result<Int, any Error>
  }

  /// Rows of the user in each table.
  public func plan(_ userID: String) async throws -> [(table: String, rows: Int)] {
    try await ErasureRepository.rows(of: userID, in: client)
  }

  /// Removes the user's rows and notes, in the same transaction, that the topic is to be told; then tells it.
  /// - Throws: `MessageError` for what is no user id; `PostgresError`.
  public func execute(_ userID: String) async throws -> Outcome {
    guard (1...BehaviorEvent.maximumUserBytes).contains(userID.utf8.count) else {
      throw MessageError(
        .invalidMessage,
        "a user id has 1 to \(BehaviorEvent.maximumUserBytes) bytes, this one \(userID.utf8.count)")
    }
    try await key.settle(in: client)
    let erasure = try await client.withTransaction {
      try await ErasureRepository($0, key: key).order(userID: userID)
    }
    // Nobody waits at a terminal for longer; what is not told now is told later.
    let producer = try KafkaProducer(configuration: kafka.operatorClient)
    let told: Result<Int, any Error>
    do {
      told = .success(
        try await ErasureTeller(kafka: kafka, producer: producer).tell(in: client))
    } catch let error where error is KafkaError || error is StartError {
      told = .failure(error)
    }
    await producer.close()
    return Outcome(removed: erasure.counts, found: erasure.found, told: told)
  }
}

/// Tells the topic of operators' erasures: a message without a value into every partition, behind whatever of the
/// user waits there, for which of them has those is the producers' choice. It names the time of the erasure, so that
/// events which came since are left alone when it is read.
struct ErasureTeller: Sendable {
  let kafka: WorkerConfiguration.Kafka
  let producer: KafkaProducer

  /// For so long who ordered an erasure may be telling of it.
  static let patience = Duration.seconds(15)

  /// Tells what waits to be told.
  /// - Parameter age: how long it has waited at least.
  /// - Returns: the topic's partitions; 0 where nothing was to be told.
  /// - Throws: `KafkaError` where it stays to be told; `PostgresError`.
  @discardableResult
  func tell(in database: any Database, since age: Duration = .zero) async throws -> Int {
    let waiting = try await ErasureRepository.toTell(in: database, since: age)
    guard !waiting.isEmpty else { return 0 }
    let admin = try KafkaAdmin(configuration: kafka.client)
    let topics: [TopicDescription]
    do {
      topics = try await admin.listTopics(timeout: .seconds(5))
    } catch {
      await admin.close()
      throw error
    }
    await admin.close()
    guard let topic = topics.first(where: { $0.name == kafka.behaviorTopic }) else {
      throw StartError.missingTopics([kafka.behaviorTopic])
    }
    let partitions = 0..<Int32(clamping: topic.partitionCount)
    for erasure in waiting {
      let time = Int64((erasure.erasedBefore.timeIntervalSince1970 * 1000).rounded())
      let failures = await producer.send(
        partitions.map {
          OutgoingMessage(
            topic: topic.name, partition: $0, key: Data(erasure.userID.utf8), value: nil,
            headers: [KafkaHeader(key: BehaviorEvent.orderHeader, value: String(time))])
        })
      if let failure = failures.first { throw failure.value }
      try await ErasureRepository.told(erasure, in: database)
    }
    return partitions.count
  }
}
