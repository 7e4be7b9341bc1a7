// What of a log waits where producers use transactions.

import CRDKafka
import DevelopmentServers
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

      func begin(_ values: [String]) throws {
        try Self.check(rd_kafka_begin_transaction(client))
        for value in values {
          var bytes = Array(value.utf8)
          _ = rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, &bytes, bytes.count, nil, 0, nil)
        }
        rd_kafka_flush(client, 30_000)
      }

      func begin(_ count: Int) throws { try begin(Array(repeating: "{", count: count)) }

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

    @Test(
      "of transactions only what was committed is stored; an open one holds back what is behind it",
      .enabled(if: OutsideServers.kafka != nil, "OPPU_TEST_KAFKA is not set"))
    func ingest() async throws {
      try await Rig.with(partitions: 1) { rig in
        func events(_ range: Range<Int>) -> [String] {
          range.map {
            #"{"event_id":"\#($0)","user_id":"kim","task":"film_tag","input":{"film":"F"},"output":"funny"}"#
          }
        }
        func stored() async throws -> [Int] {
          try await rig.client.query(
            "SELECT event_id::bigint AS id FROM behavior_events ORDER BY ordinal"
          ).map { try $0.decode("id", as: Int.self) }
        }
        let producer = try Producer(
          rig.kafka.bootstrapServers, topic: rig.kafka.behaviorTopic)
        try producer.begin(events(0..<3))
        try producer.commit()
        try producer.begin(events(3..<8))
        try producer.abort()
        try producer.begin(events(8..<10))
        try await rig.produce(events(10..<11), key: "kim", partition: 0)
        try await rig.withIngest {
          try await eventually("what was committed is stored") { try await stored().count == 3 }
          // What does not happen has no sign to wait for.
          try await Task.sleep(for: .seconds(2))
          #expect(try await stored() == [0, 1, 2])
          try producer.commit()
          try await eventually("all is stored") { try await stored().count == 6 }
        }
        #expect(try await stored() == [0, 1, 2, 8, 9, 10])
      }
    }
  }
}
