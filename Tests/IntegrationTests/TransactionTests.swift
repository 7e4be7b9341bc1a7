// What of a log waits where producers use transactions.

import CRDKafka
import Foundation
import KafkaClient
import Testing
import Worker

extension IntegrationTests {
  @Suite(.serialized) struct Transactions {
    /// librdkafka's transactional producer; blocks.
    private final class Producer {
      private let client: OpaquePointer
      private let topic: OpaquePointer

      init(_ servers: String, topic: String) throws {
        let configuration = rd_kafka_conf_new()
        rd_kafka_conf_set(configuration, "bootstrap.servers", servers, nil, 0)
        rd_kafka_conf_set(configuration, "transactional.id", UUID().uuidString, nil, 0)
        client = try #require(rd_kafka_new(RD_KAFKA_PRODUCER, configuration, nil, 0))
        self.topic = try #require(rd_kafka_topic_new(client, topic, nil))
        try Self.check(rd_kafka_init_transactions(client, 30_000))
      }

      deinit {
        rd_kafka_topic_destroy(topic)
        rd_kafka_destroy(client)
      }

      private static func check(_ error: OpaquePointer?) throws {
        guard let error else { return }
        defer { rd_kafka_error_destroy(error) }
        throw Timeout(description: String(cString: rd_kafka_error_string(error)))
      }

      func begin(_ count: Int) throws {
        try Self.check(rd_kafka_begin_transaction(client))
        for _ in 0..<count {
          var value: UInt8 = 0x7B
          _ = rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, &value, 1, nil, 0, nil)
        }
        rd_kafka_flush(client, 30_000)
      }

      func commit() throws { try Self.check(rd_kafka_commit_transaction(client, 30_000)) }
      func abort() throws { try Self.check(rd_kafka_abort_transaction(client, 30_000)) }
    }

    @Test("the ends of transactions and aborted messages do not wait; what an open one holds does")
    func backlog() async throws {
      try await Rig.with(partitions: 1) { rig in
        let partition = TopicPartition(topic: rig.kafka.behaviorTopic, partition: 0)
        func backlog(at next: Int64?) async throws -> Backlog {
          try #require(
            try await Backlog.all([partition: next], kafka: rig.kafka, group: "g")[partition])
        }
        let producer = try Producer(rig.kafka.bootstrapServers, topic: partition.topic)
        try producer.begin(3)
        try producer.commit()
        var found = try await backlog(at: nil)
        print("committed: \(found)")
        #expect(found.next == 0 && found.count >= 3)
        found = try await backlog(at: 3)
        #expect(found.high > 3, "the end of a transaction has an offset")
        #expect(found.count == 0)
        try producer.begin(5)
        try producer.abort()
        found = try await backlog(at: 3)
        print("aborted: \(found)")
        #expect(found.high > 8)
        #expect(found.count == 0)
        try producer.begin(4)
        found = try await backlog(at: 3)
        print("open: \(found)")
        #expect(found.held == 4 && found.count == 4)
        try producer.commit()
        found = try await backlog(at: 3)
        print("ended: \(found)")
        #expect(found.held == 0)
        #expect((4...5).contains(found.count))
      }
    }
  }
}
