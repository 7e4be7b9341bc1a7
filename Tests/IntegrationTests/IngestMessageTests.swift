// Every kind of bad message becomes a dead letter once, its neighbours are stored; compressed batches are read.

import Cryptography
import Foundation
import JSON
import KafkaClient
import Personalization
import PostgresClient
import TestSupport
import Testing
import Worker

@testable import Storage

extension IntegrationTests {
  @Suite(.serialized) struct IngestMessages {
    private struct Bad: Sendable {
      let name: String
      var value: Data?
      var key: Data? = Data("kim".utf8)
      var headers: [KafkaHeader] = []
      /// In the dead letter's message.
      let reason: String
      var code = "invalid_message"
      var stage = "decode"

      init(_ name: String, _ text: String, _ reason: String) {
        self.name = name
        value = Data(text.utf8)
        self.reason = reason
      }
    }

    private static func event(_ changes: [String: JSONValue?]) -> String {
      var fields: [String: JSONValue] = [
        "event_id": "bad", "user_id": "kim", "task": "film_tag", "input": ["film": "A film"],
        "output": "funny", "occurred_at": "2026-01-31T09:30:00Z",
      ]
      for (name, value) in changes { fields[name] = value }
      return JSONValue.object(fields).canonical
    }

    private static func bad() -> [Bad] {
      let large = String(repeating: "x", count: 10_000_000)
      let deep = String(repeating: "[", count: 500) + String(repeating: "]", count: 500)
      var list = [
        Bad("empty", "", "an empty text"), Bad("not an object", "[1]", "an array"),
        Bad("truncated", #"{"user_id":"kim","#, "an unexpected end"),
        Bad("two values", event([:]) + event([:]), "after the end"),
        Bad("U+0000", event(["output": "a\u{0}b"]), "U+0000"),
        Bad("10 MB", event(["note": .string(large)]), "at most 1048576"),
        Bad("deep", #"{"user_id":"kim","x":\#(deep)}"#, "more than 32 deep"),
        Bad("wrong type of user", event(["user_id": ["a"]]), "\"user_id\" must be a string"),
        Bad("wrong type of input", event(["input": 7]), "\"input\" must be an object"),
        Bad("wrong type of time", event(["occurred_at": 1_769_851_800]), "RFC 3339"),
        Bad("no task", event(["task": nil]), "\"task\" is missing"),
        Bad("no input", event(["input": nil]), "\"input\""),
        Bad("a member twice", #"{"user_id":"kim","task":"a","task":"b"}"#, "a second time"),
        Bad("future", event(["occurred_at": "2999-01-01T00:00:00Z"]), "in the future"),
        Bad("ancient", event(["occurred_at": "0001-01-01T00:00:00Z"]), "before 1990"),
        Bad("no such day", event(["occurred_at": "2026-02-30T00:00:00Z"]), "RFC 3339"),
        Bad("1e999", #"{"user_id":"kim","x":1e999}"#, "beyond what a double holds"),
        Bad("half a surrogate", #"{"user_id":"\ud800"}"#, "surrogate"),
        Bad("unknown kind", event(["kind": "purchase"]), "purchase"),
        Bad("long id", event(["event_id": .string(String(repeating: "i", count: 129))]), "129"),
      ]
      var unknown = Bad("unknown task", event(["task": "nonsense"]), "nonsense")
      unknown.code = "unknown_task"
      var label = Bad("no such label", event(["output": "boring"]), "boring")
      label.code = "invalid_input"
      var feedback = Bad(
        "feedback to nothing",
        #"{"user_id":"kim","kind":"feedback","request_id":"r-0","feedback":"accepted"}"#, "\"r-0\"")
      feedback.code = "unknown_request"
      feedback.stage = "store"
      var bytes = Bad("invalid UTF-8", "", "not UTF-8")
      bytes.value = Data(#"{"user_id":""#.utf8) + Data([0xFF, 0xC0, 0x80]) + Data(#""}"#.utf8)
      var nobody = Bad("no user", event(["user_id": nil]), "\"user_id\" is missing")
      nobody.key = nil
      var tombstone = Bad("tombstone of nobody", "", "no user id")
      tombstone.value = nil
      tombstone.key = nil
      // Beyond what PostgreSQL's numeric holds.
      let number = Bad(
        "too many digits", event(["note": "?"]).replacing("\"?\"", with: "1e-200000"),
        "cannot tell from 0")
      var binary = Bad("CloudEvent without id", event([:]), "\"id\"")
      binary.headers = [
        KafkaHeader(key: "ce_specversion", value: "1.0"), KafkaHeader(key: "ce_type", value: "t"),
        KafkaHeader(key: "ce_source", value: "/s"),
      ]
      var structured = Bad(
        "CloudEvent without source",
        #"{"specversion":"1.0","id":"1","type":"t","data":{"user_id":"kim"}}"#, "\"source\"")
      structured.headers = [
        KafkaHeader(key: "content-type", value: "application/cloudevents+json")
      ]
      list += [
        unknown, label, feedback, bytes, nobody, tombstone, number, binary, structured,
      ]
      return list
    }

    @Test("every bad message becomes a dead letter once, unchanged, and its neighbours are stored")
    func badMessages() async throws {
      let bad = Self.bad()
      try await Rig.with { rig in
        var messages: [OutgoingMessage] = []
        func good(_ number: Int) -> OutgoingMessage {
          OutgoingMessage(
            topic: rig.kafka.behaviorTopic, partition: 1, key: Data("kim".utf8),
            value: Data(Self.event(["event_id": .string("good-\(number)")]).utf8))
        }
        for (index, bad) in bad.enumerated() {
          messages.append(good(index))
          messages.append(
            OutgoingMessage(
              topic: rig.kafka.behaviorTopic, partition: 1, key: bad.key, value: bad.value,
              headers: bad.headers + [KafkaHeader(key: "own", value: "kept")]))
        }
        messages.append(good(bad.count))
        // Compressed, 10 MB fit into what the broker takes.
        let producer = try KafkaProducer(
          configuration: KafkaConfiguration(
            bootstrapServers: rig.kafka.bootstrapServers,
            properties: ["compression.codec": "gzip"]), logger: Servers.logger)
        try await rig.produce(messages, by: producer)
        await producer.close()
        try await rig.withIngest { try await rig.waitForIngest(messages: messages.count) }

        let stored = try await rig.client.query(
          "SELECT event_id FROM behavior_events ORDER BY ordinal"
        ).map { try $0.decode("event_id", as: String.self) }
        #expect(stored == (0...bad.count).map { "good-\($0)" })
        #expect(
          try await rig.client.number("SELECT sum(dead_letters)::bigint FROM ingest_partitions")
            == bad.count)
        let topic = "\(rig.kafka.behaviorTopic)-dlt"
        #expect(try await rig.messageCount(topic) == bad.count)
        let letters = try await rig.read(topic, count: bad.count)
        let contract = try AsyncAPI(root: Paths.root)
        for letter in letters {
          #expect(try contract.findings(letter, in: "behaviorDeadLetters") == [])
        }
        let name = "__connect.errors."
        let byOffset = Dictionary(grouping: letters) { $0.text(name + "offset") ?? "" }
        for (index, bad) in bad.enumerated() {
          let found = byOffset["\(index * 2 + 1)"] ?? []
          #expect(found.count == 1, "\(bad.name): \(found.count) letters")
          guard let letter = found.first else { continue }
          let why = letter.text(name + "exception.message") ?? ""
          #expect(why.contains(bad.reason), "\(bad.name): \(why)")
          #expect(letter.text(name + "exception.class.name") == bad.code, "\(bad.name)")
          #expect(letter.text(name + "stage") == bad.stage, "\(bad.name)")
          #expect(letter.text(name + "topic") == rig.kafka.behaviorTopic)
          #expect(letter.text(name + "partition") == "1")
          #expect(letter.partition == 1)
          #expect(letter.text("own") == "kept")
          #expect(letter.key == bad.key)
          if bad.name == "10 MB" {
            // The dead letter topic does not take that much: its beginning, size and hash.
            let whole = try #require(bad.value)
            #expect(letter.value == whole.prefix(65_536))
            #expect(letter.text(name + "value.bytes") == "\(whole.count)")
            #expect(letter.text(name + "value.sha256") == SHA256.hash(data: whole).hexadecimal)
          } else {
            #expect(letter.value == bad.value, "\(bad.name)")
          }
        }
      }
    }

    @Test(
      "a message that PostgreSQL refuses costs some twenty transactions among a thousand others")
    func refused() async throws {
      try await Rig.with(partitions: 1) { rig in
        // No check at the border can know of this one. The sequence counts attempts, also those rolled back.
        for statement in [
          "ALTER TABLE behavior_events ADD CONSTRAINT poison CHECK (event_id <> '617')",
          "CREATE SEQUENCE attempts",
          """
          CREATE FUNCTION attempt() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM nextval('attempts'); RETURN NEW; END $$
          """,
          """
          CREATE TRIGGER attempt BEFORE UPDATE OF next_offset ON ingest_partitions
            FOR EACH ROW EXECUTE FUNCTION attempt()
          """,
        ] { try await rig.client.execute(PostgresQuery(unsafeSQL: statement)) }
        try await rig.produce(
          (0..<1_000).map { Self.event(["event_id": .string("\($0)")]) }, key: "kim", partition: 0)
        try await rig.withIngest { try await rig.waitForIngest(messages: 1_000) }
        #expect(try await rig.client.number("SELECT count(*) FROM behavior_events") == 999)
        let letter = try #require(
          try await rig.read("\(rig.kafka.behaviorTopic)-dlt", count: 1).first)
        #expect(letter.text("__connect.errors.stage") == "store")
        #expect(letter.text("__connect.errors.exception.message")?.contains("poison") == true)
        let attempts = try await rig.client.number("SELECT last_value FROM attempts")
        #expect(attempts <= 30, "\(attempts)")
      }
    }

    @Test("batches that a producer compressed are read, whichever way")
    func compressed() async throws {
      try await Rig.with { rig in
        let codecs = ["gzip", "snappy", "lz4", "zstd"]
        for codec in codecs {
          let producer = try KafkaProducer(
            configuration: KafkaConfiguration(
              bootstrapServers: rig.kafka.bootstrapServers,
              properties: ["compression.codec": codec, "linger.ms": "50"]), logger: Servers.logger)
          let values = (0..<500).map { Self.event(["event_id": .string("\(codec)-\($0)")]) }
          try await rig.produce(
            values.map {
              OutgoingMessage(
                topic: rig.kafka.behaviorTopic, partition: 0, key: Data("kim".utf8),
                value: Data($0.utf8))
            }, by: producer)
          await producer.close()
        }
        try await rig.withIngest { try await rig.waitForIngest(messages: 500 * codecs.count) }
        for codec in codecs {
          let events = try await rig.client.number(
            "SELECT count(DISTINCT event_id) FROM behavior_events WHERE event_id LIKE \(codec + "-%")"
          )
          #expect(events == 500, "\(codec)")
        }
      }
    }
  }
}
