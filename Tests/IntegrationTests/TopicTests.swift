// What topics do on Apache Kafka that they do not on the stand-in: they expire, are compacted, get partitions, have times
// and limits of their own, and other tools work on them. Tried where OPPU_TEST_KAFKA is set.

import DevelopmentServers
import Foundation
import JSON
import KafkaClient
import Personalization
import Storage
import Testing
import Worker

extension IntegrationTests {
  @Suite(.serialized, .enabled(if: OutsideServers.kafka != nil, "OPPU_TEST_KAFKA is not set"))
  struct Topics {
    private func events(
      _ range: Range<Int>, text: String = "", user: String = "kim"
    ) -> [String] {
      range.map {
        JSONValue.object([
          "event_id": .string("\($0)"), "user_id": .string(user), "task": "film_tag",
          "input": ["film": .string("F\(text)"), "n": .number(Double($0 + 1))], "output": "funny",
        ]).canonical
      }
    }

    private func run(_ tool: String, _ arguments: [String], input: URL? = nil) async throws {
      try await Servers.sharedBroker().run(tool, arguments, input: input)
    }

    /// Changes settings of a topic: values, or nil for what its broker has.
    private func configure(_ topic: String, _ settings: [String: String?]) async throws {
      let added = settings.compactMap { name, value in value.map { "\(name)=\($0)" } }
      let deleted = settings.filter { $0.value == nil }.keys
      try await run(
        "configs",
        ["--alter", "--entity-type", "topics", "--entity-name", topic]
          + (added.isEmpty ? [] : ["--add-config", added.joined(separator: ",")])
          + (deleted.isEmpty ? [] : ["--delete-config", deleted.joined(separator: ",")]))
    }

    private func stored(_ rig: Rig) async throws -> Int {
      try await rig.client.number("SELECT count(*) FROM behavior_events")
    }

    @Test("partitions that are added while a worker runs are read from their beginning")
    func addedPartitions() async throws {
      try await Rig.with(partitions: 1) { rig in
        let worker = try await rig.startWorker(["OPPU_ROLES": "ingest,infer"])
        try await rig.produce(events(0..<5), key: "kim", partition: 0)
        try await rig.waitForIngest(messages: 5)
        for topic in [rig.kafka.behaviorTopic, rig.kafka.requestTopic] {
          try await run("topics", ["--alter", "--topic", topic, "--partitions", "4"])
        }
        // A client that knows nothing of the topics before.
        let producer = try KafkaProducer(configuration: rig.kafka.client, logger: Servers.logger)
        try await rig.produce(
          events(5..<10, user: "mara").map {
            OutgoingMessage(
              topic: rig.kafka.behaviorTopic, partition: 3, key: Data("mara".utf8),
              value: Data($0.utf8))
          }, by: producer)
        try await producer.send(
          topic: rig.kafka.requestTopic, partition: 2, key: Data("kim".utf8),
          value: Data(
            #"{"request_id":"r","user_id":"kim","task":"film_tag","input":{"film":"F"}}"#.utf8))
        await producer.close()
        try await rig.waitForIngest(messages: 10)
        try await rig.waitForMessages(rig.kafka.replyTopic, count: 1)
        await rig.stop(worker)
      }
    }

    @Test(
      "what retention deleted while no worker ran is counted as missing, by time and by size",
      arguments: [
        ["retention.ms": "1"], ["retention.bytes": "1048576", "segment.bytes": "1048576"],
      ])
    func retention(_ limits: [String: String]) async throws {
      try await Rig.with(partitions: 1) { rig in
        let topic = rig.kafka.behaviorTopic
        try await configure(topic, ["segment.bytes": limits["segment.bytes"] ?? "1048576"])
        try await rig.withIngest {
          try await rig.produce(events(0..<20), key: "kim", partition: 0)
          try await rig.waitForIngest(messages: 20)
        }
        // One batch each, for a segment begins with a batch.
        let text = String(repeating: "x", count: 10_000)
        for number in 20..<420 {
          try await rig.produce(events(number..<number + 1, text: text), key: "kim", partition: 0)
        }
        try await configure(topic, limits)
        let partition = TopicPartition(topic: topic, partition: 0)
        func low() async throws -> Int64 {
          try await rig.withAdmin { try await $0.watermarks(of: partition).low }
        }
        try await eventually("the broker deletes") { try await low() > 20 }
        try await configure(topic, limits.mapValues { _ in nil })
        try await eventually("it deletes no more") {
          let before = try await low()
          try await Task.sleep(for: .seconds(3))
          return try await low() == before
        }
        let first = try await low()
        try await rig.withIngest {
          let repository = IngestRepository(rig.client)
          try await eventually("the partition waits") {
            try await repository.partitions().first?.gap?.kind == .expired
          }
          let gap = try #require(try await repository.partitions().first?.gap)
          #expect(gap == LogGap(kind: .expired, next: 20, low: first, high: 420))
          #expect(try await stored(rig) == 20)
          try await repository.reset(topic: topic, offsets: [0: first], gaps: [0: gap])
          try await rig.produce(events(420..<425), key: "kim", partition: 0)
          try await rig.waitForIngest(messages: 425)
        }
        #expect(try await stored(rig) == 425 - Int(first - 20))
        #expect(
          try await rig.client.number("SELECT missing FROM ingest_partitions") == Int(first) - 20)
      }
    }

    @Test("the holes of a compacted topic are no gap: what is left is stored, tombstones erase")
    func compaction() async throws {
      try await Rig.with(partitions: 1) { rig in
        let topic = rig.kafka.behaviorTopic
        try await configure(
          topic,
          [
            "cleanup.policy": "compact", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01",
            "min.compaction.lag.ms": "0", "delete.retention.ms": "600000",
          ])
        // One batch each, so that there are holes between batches, at several places.
        for round in 0..<5 {
          for user in 0..<4 {
            let number = round * 4 + user
            try await rig.produce(
              events(number..<number + 1, user: "u\(user)"), key: "u\(user)", partition: 0)
          }
          try await Task.sleep(for: .milliseconds(300))
        }
        try await rig.produce(nil, key: "u0", to: topic, partition: 0)
        try await eventually("the broker compacts") {
          // What closes the segment in hand.
          try await rig.produce(events(100..<101, user: "u9"), key: "u9", partition: 0)
          var left = 0
          try await KafkaTopicReader(
            configuration: KafkaConfiguration(bootstrapServers: rig.kafka.bootstrapServers),
            logger: Servers.logger
          ).read(topic) { _ in
            left += 1
            return true
          }
          let high = try await rig.withAdmin {
            try await $0.watermarks(of: TopicPartition(topic: topic, partition: 0)).high
          }
          return left < Int(high) - 12
        }
        let high = try await rig.withAdmin {
          try await $0.watermarks(of: TopicPartition(topic: topic, partition: 0)).high
        }
        try await rig.withIngest { try await rig.waitForIngest(messages: Int(high)) }
        let users = try await rig.client.query(
          "SELECT DISTINCT user_id FROM behavior_events ORDER BY 1"
        ).map { try $0.decode("user_id", as: String.self) }
        #expect(users == ["u1", "u2", "u3", "u9"])
        #expect(try await rig.client.number("SELECT missing FROM ingest_partitions") == 0)
        #expect(try await rig.client.number("SELECT count(*) FROM erasure_receipts") == 1)
      }
    }

    @Test("where the broker stamps messages, an event without a time of its own has the broker's")
    func appendTime() async throws {
      try await Rig.with(partitions: 1) { rig in
        try await configure(
          rig.kafka.behaviorTopic, ["message.timestamp.type": "LogAppendTime"])
        let begin = Date()
        let value =
          #"{"event_id":"e","user_id":"kim","task":"film_tag","input":{"film":"F"},"output":"funny"}"#
        try await rig.withIngest {
          try await rig.produce(
            value, key: "kim", timestamp: Date(timeIntervalSince1970: 1_000_000_000))
          try await rig.waitForIngest(messages: 1)
        }
        let time = try await rig.client.query(
          "SELECT extract(epoch FROM occurred_at)::float8 AS at FROM behavior_events"
        ).first?.decode("at", as: Double.self)
        #expect(try #require(time) >= begin.timeIntervalSince1970 - 1)
      }
    }

    @Test("messages as large as their topic takes are read, and a bad one becomes a dead letter")
    func largest() async throws {
      try await Rig.with(partitions: 1) { rig in
        let topic = rig.kafka.behaviorTopic
        try await configure(topic, ["max.message.bytes": "\(6 << 20)"])
        let text = String(repeating: "x", count: 6 << 20 - 2_000)
        // Its field is too long, and the topic of dead letters has the usual limit.
        try await rig.produce(events(0..<1, text: text), key: "kim", partition: 0)
        try await rig.produce(events(1..<2), key: "kim", partition: 0)
        try await rig.withIngest { try await rig.waitForIngest(messages: 2) }
        #expect(try await stored(rig) == 1)
        let letter = try #require(try await rig.read("\(topic)-dlt", count: 1).first)
        #expect(letter.text("__connect.errors.value.bytes").flatMap { Int($0) } ?? 0 > 6_000_000)
      }
    }

    @Test("headers that repeat, are null or are no text harm no request")
    func headers() async throws {
      try await Rig.with(partitions: 1) { rig in
        let correlation = KafkaHeader(key: "kafka_correlationId", value: Data([0, 0xFF, 0x80]))
        let odd = [
          KafkaHeader(key: "traceparent", value: "00-0af7-b7ad-01"),
          KafkaHeader(key: "traceparent", value: "00-0af7-b7ad-02"),
          KafkaHeader(key: "tracestate", value: nil as Data?),
          KafkaHeader(key: "", value: Data([0xC3, 0x28])), correlation,
        ]
        for id in ["a", "b"] {
          try await rig.produce(
            #"{"request_id":"\#(id)","user_id":"kim","task":"film_tag","input":{"film":"F"}}"#,
            key: "kim", to: rig.kafka.requestTopic, headers: odd)
        }
        try await rig.produce(events(0..<1)[0], key: "kim", headers: odd)
        let worker = try await rig.startWorker(["OPPU_ROLES": "ingest,infer"])
        try await rig.waitForIngest(messages: 1)
        let replies = try await rig.read(rig.kafka.replyTopic, count: 2)
        await rig.stop(worker)
        #expect(try replies.allSatisfy { try $0.json()["status"] == "ok" })
        #expect(replies.allSatisfy { $0.headers.contains(correlation) })
      }
    }

    @Test("a quota that throttles the worker slows it, and nothing else")
    func quota() async throws {
      try await Rig.with(partitions: 1) { rig in
        let quota = ["--alter", "--entity-type", "clients", "--entity-name", "oppu-worker"]
        let bytes = ["consumer_byte_rate", "producer_byte_rate"]
        // A client that the quota does not mean.
        // A batch that is more than the quota of its whole window (11 s) is never delivered, as Kafka has it.
        let configuration = KafkaConfiguration(
          bootstrapServers: rig.kafka.bootstrapServers,
          properties: ["client.id": "application", "batch.num.messages": "20"])
        let producer = try KafkaProducer(configuration: configuration, logger: Servers.logger)
        let text = String(repeating: "x", count: 1_000)
        try await rig.produce(
          events(0..<300, text: text).map {
            OutgoingMessage(
              topic: rig.kafka.behaviorTopic, partition: 0, key: Data("kim".utf8),
              value: Data($0.utf8))
          }, by: producer)
        await producer.close()
        try await run(
          "configs",
          quota + ["--add-config", bytes.map { "\($0)=20000" }.joined(separator: ",")])
        let worker = try await rig.startWorker([
          "OPPU_ROLES": "ingest,infer",
          "OPPU_KAFKA_PROPERTIES":
            "session.timeout.ms=6000,heartbeat.interval.ms=300,fetch.message.max.bytes=65536",
        ])
        try await rig.produce(
          #"{"request_id":"r","user_id":"kim","task":"film_tag","input":{"film":"F"}}"#,
          key: "kim", to: rig.kafka.requestTopic)
        try await rig.waitForIngest(messages: 300)
        try await rig.waitForMessages(rig.kafka.replyTopic, count: 1)
        try await run(
          "configs", quota + ["--delete-config", bytes.joined(separator: ",")])
        await rig.stop(worker)
        #expect(try await stored(rig) == 300)
        #expect(try await rig.client.number("SELECT max(epoch) FROM ingest_partitions") == 1)
        #expect(rig.count("ingest assigned") == 1, "\(rig.log())")
      }
    }

    @Test(
      "a group that another tool puts back is read again from there; events count once all the same"
    )
    func resetByAnotherTool() async throws {
      try await Rig.with(partitions: 1) { rig in
        func ask(_ id: String) async throws {
          try await rig.produce(
            #"{"request_id":"\#(id)","user_id":"kim","task":"film_tag","input":{"film":"F"}}"#,
            key: "kim", to: rig.kafka.requestTopic)
        }
        let settings = ["OPPU_ROLES": "ingest,infer"]
        let first = try await rig.startWorker(settings)
        try await rig.produce(events(0..<10), key: "kim", partition: 0)
        for id in ["a", "b"] { try await ask(id) }
        try await rig.waitForIngest(messages: 10)
        try await rig.waitForMessages(rig.kafka.replyTopic, count: 2)
        await rig.stop(first)
        // A static member leaves its group when its session is over.
        for (group, topic) in [
          ("ingest", rig.kafka.behaviorTopic), ("infer", rig.kafka.requestTopic),
        ] {
          try await eventually("the group is empty, and put back") {
            do {
              try await run(
                "groups",
                ["--reset-offsets", "--group", "\(rig.kafka.groupPrefix)-\(group)"]
                  + ["--topic", topic, "--to-earliest", "--execute"])
            } catch { return false }
            if group == "ingest" { return true }
            return try await rig.committedRequests() == 0
          }
        }
        let second = try await rig.startWorker(settings, log: "second.log")
        try await rig.produce(events(10..<15), key: "kim", partition: 0)
        try await ask("c")
        try await rig.waitForIngest(messages: 15)
        let replies = try await rig.read(rig.kafka.replyTopic, count: 5)
        await rig.stop(second)
        let answered = try replies.compactMap { try $0.json()["request_id"]?.string }
        #expect(answered.sorted() == ["a", "a", "b", "b", "c"])
        #expect(try await stored(rig) == 15)
        #expect(
          try await rig.client.number("SELECT sum(duplicates)::bigint FROM ingest_partitions") == 0)
      }
    }

    @Test(
      "batches that Kafka's own client compressed are read",
      .enabled(
        if: OutsideServers.kafkaHasConsumerProtocol, "the script's producer is Kafka 4's"),
      arguments: ["gzip", "snappy", "lz4", "zstd"])
    func compressedByKafka(_ codec: String) async throws {
      try await Rig.with(partitions: 1) { rig in
        let file = rig.folder.appendingPathComponent("events.jsonl")
        try Data(events(0..<500).joined(separator: "\n").utf8).write(to: file)
        try await run(
          "produce", ["--topic", rig.kafka.behaviorTopic, "--compression-codec", codec],
          input: file)
        try await rig.withIngest { try await rig.waitForIngest(messages: 500) }
        #expect(try await stored(rig) == 500)
        try await Ingest.checkOrdinals(rig.client)
      }
    }
  }
}
