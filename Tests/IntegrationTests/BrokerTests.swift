// Brokers that are slow, gone, or answer an empty fetch at once; topics that change under those who use them.

import CRDKafka
import DevelopmentServers
import Foundation
import JSON
import KafkaClient
import Personalization
import PostgresClient
import Testing

@testable import Worker

extension IntegrationTests {
  @Suite(.serialized) struct Brokers {
    private func request(_ id: String) -> String {
      #"{"request_id":"\#(id)","user_id":"kim","task":"film_tag","input":{"film":"F"}}"#
    }

    @Test("a consumer that rests after empty fetches waits for what is on its way, however long")
    func slowFetch() async throws {
      let mock = try MockBroker()
      let topic = NewTopic(name: "slow", partitions: 2, replication: 1)
      mock.make([topic])
      var kafka = KafkaConfiguration(
        bootstrapServers: mock.bootstrapServers, idleRest: .milliseconds(100))
      let producer = try KafkaProducer(configuration: kafka, logger: Servers.logger)
      // Longer than the consumer listens between two rests.
      mock.delay(milliseconds: 250)
      kafka.properties["fetch.wait.max.ms"] = "10"
      let consumer = try KafkaConsumer(
        configuration: kafka, group: "g", topics: ["slow"], logger: Servers.logger)
      var received = 0
      let deadline = ContinuousClock.now + .seconds(60)
      for partition in [Int32(0), 1, 0] {
        try await producer.send(topic: "slow", partition: partition, key: nil, value: Data([1]))
      }
      while received < 6, ContinuousClock.now < deadline {
        switch try await consumer.next(timeout: .milliseconds(500)) {
        case .assigned(let partitions):
          try await consumer.assign(
            Dictionary(partitions.map { ($0, KafkaOffset.beginning) }, uniquingKeysWith: { $1 }))
        case .revoked(let partitions, _): try await consumer.unassign(partitions)
        case .messages(let messages):
          received += messages.count
          // It has rested by then.
          if received == 3 {
            for partition in [Int32(1), 0, 1] {
              try await producer.send(
                topic: "slow", partition: partition, key: nil, value: Data([2]))
            }
          }
        case .idle, .halted: continue
        }
      }
      #expect(received == 6)
      await consumer.close()
      await producer.close()
    }

    @Test("large messages are read from a broker that answers empty fetches at once, as dev has it")
    func largeMessages() async throws {
      try await Rig.with(partitions: 2) { rig in
        let text = String(repeating: "a long note. ", count: 2_600)
        try await rig.withIngest(idleRest: .milliseconds(200)) {
          try await eventually("assigned") {
            try await rig.client.number("SELECT count(*) FROM ingest_partitions") == 2
          }
          for number in 0..<80 {
            try await rig.produce(
              JSONValue.object([
                "event_id": .string("e\(number)"), "user_id": "kim", "task": "film_tag",
                "input": ["film": "F", "note": .string(text)], "output": "funny",
              ]).canonical, key: "kim", partition: Int32(number % 2))
          }
          try await rig.waitForIngest(messages: 80)
        }
        #expect(try await rig.client.number("SELECT count(*) FROM behavior_events") == 80)
      }
    }

    @Test(
      "requests to a topic that is made anew are answered within a minute, with rests as in dev")
    func requestTopicAnew() async throws {
      try await Rig.with(partitions: 1) { rig in
        let worker = try await rig.startWorker([
          "OPPU_ROLES": "infer", "OPPU_KAFKA_IDLE_REST_MS": "200",
        ])
        for index in 0..<20 {
          try await rig.produce(request("old \(index)"), key: "kim", to: rig.kafka.requestTopic)
        }
        try await rig.waitForMessages(rig.kafka.replyTopic, count: 20)
        try await rig.makeAnew(rig.kafka.requestTopic, partitions: 1)
        let begin = ContinuousClock.now
        // A client that knows nothing of the topic before.
        let producer = try KafkaProducer(configuration: rig.kafka.client, logger: Servers.logger)
        for index in 0..<5 {
          try await producer.send(
            topic: rig.kafka.requestTopic, key: Data("kim".utf8),
            value: Data(request("new \(index)").utf8))
        }
        await producer.close()
        let replies = try await rig.read(rig.kafka.replyTopic, count: 25)
        #expect(ContinuousClock.now - begin < .seconds(60))
        #expect(
          Set(try replies.suffix(5).compactMap { try $0.json()["request_id"]?.string })
            == Set((0..<5).map { "new \($0)" }))
        await rig.stop(worker)
      }
    }

    @Test("a partition that is added to a reply topic is found at the next reply to it")
    func addedPartition() async throws {
      try await Rig.with(partitions: 1) { rig in
        let named = "\(UUID().uuidString.prefix(8))-replies"
        func ask(_ id: String, partition: String) async throws {
          try await rig.produce(
            request(id), key: "kim", to: rig.kafka.requestTopic,
            headers: [
              KafkaHeader(key: "kafka_replyTopic", value: named),
              KafkaHeader(key: "kafka_replyPartition", value: partition),
            ])
        }
        try await rig.make(named, partitions: 1)
        let worker = try await rig.startWorker(["OPPU_ROLES": "infer"])
        try await ask("first", partition: "0")
        try await rig.waitForMessages(named, count: 1)
        // The development broker adds none, but to its clients more partitions are more partitions.
        try await rig.makeAnew(named, partitions: 3)
        let begin = ContinuousClock.now
        try await ask("second", partition: "2")
        let replies = try await rig.read(named, count: 1)
        #expect(
          ContinuousClock.now - begin < .seconds(60), "librdkafka by itself looks after minutes")
        #expect(replies.map(\.partition) == [2])
        #expect(
          try await rig.messageCount("\(rig.kafka.requestTopic)-dlt") == 0)
        await rig.stop(worker)
      }
    }

    @Test("asking a broker that is gone where a log ends takes no longer than it may")
    func endsWithoutBroker() async throws {
      let mock = try MockBroker()
      mock.make([NewTopic(name: "t", partitions: 1, replication: 1)])
      let partition = TopicPartition(topic: "t", partition: 0)
      let admin = try KafkaAdmin(
        configuration: KafkaConfiguration(bootstrapServers: mock.bootstrapServers),
        logger: Servers.logger)
      #expect(try await admin.watermarks(of: partition).high == 0)
      mock.goDown()
      // A call that does not come back is left behind.
      let error = await #expect(throws: KafkaError.self) {
        try await within(.seconds(20)) {
          _ = try await admin.watermarks(of: partition, timeout: .seconds(1))
        }
      }
      #expect(error?.isRetriable == true)
      await admin.close()
    }

    @Test("SIGTERM drains though the broker is gone, also with rests between fetches")
    func stopWithoutBroker() async throws {
      try await Rig.withMock(partitions: 2) { rig, mock in
        let worker = try await rig.startWorker([
          "OPPU_ROLES": "ingest", "OPPU_KAFKA_IDLE_REST_MS": "50",
        ])
        try await rig.produce(
          #"{"user_id":"kim","task":"film_tag","input":{"film":"F"},"output":"funny"}"#, key: "kim")
        try await rig.waitForIngest(messages: 1)
        mock.goDown()
        try await eventually("the worker has noticed", state: rig.log()) {
          rig.log().contains("_ALL_BROKERS_DOWN") || rig.log().contains("_TRANSPORT")
        }
        worker.signal(SIGTERM)
        try await eventually("the worker has ended", state: rig.log()) {
          !worker.isRunning
        }
        #expect(worker.endStatus.map(ChildProcess.describe) == "exit code 0")
      }
    }
  }
}
