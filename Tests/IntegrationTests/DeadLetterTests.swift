// Dead letters that are sent again and deleted: once, under the ids and with the time that they should have.

import Foundation
import JSON
import KafkaClient
import Personalization
import PostgresClient
import Testing

@testable import Storage
@testable import Worker

extension IntegrationTests {
  @Suite(.serialized) struct DeadLetters {
    /// A dead letter as a worker leaves it.
    private func addLetter(
      _ rig: Rig, to topic: String, offset: Int64, value: String, timestamp: Date
    ) async throws {
      func header(_ name: String, _ value: String) -> KafkaHeader {
        KafkaHeader(key: "__connect.errors.\(name)", value: Data(value.utf8))
      }
      try await rig.produce(
        value, key: "kim", to: DeadLetter.topic(for: topic), partition: 0,
        headers: [
          header("topic", topic), header("partition", "0"), header("offset", "\(offset)"),
          header("stage", "decode"), header("exception.class.name", "deadline_exceeded"),
        ], timestamp: timestamp)
    }

    private func letters(_ rig: Rig, _ arguments: [String] = []) async throws -> [JSONValue] {
      let (_, output) = try await rig.admin(["dlq", "list", "-o", "jsonl"] + arguments)
      return try output.split(separator: "\n").filter { $0.hasPrefix("{") }
        .map { try JSONValue(text: String($0)) }
    }

    @Test("a replay twice sends once, and events without an id are known by where they stood first")
    func once() async throws {
      try await Rig.with { rig in
        // Feedback that comes before its answer is on record.
        let feedback =
          #"{"user_id":"kim","kind":"feedback","request_id":"r-1","feedback":"accepted"}"#
        try await rig.produce(feedback, key: "kim", partition: 1)
        try await rig.withIngest { try await rig.waitForIngest(messages: 1) }
        #expect(try await letters(rig).map { $0["letter"] } == ["1-0"])
        let answers = AnswerRepository(rig.client)
        let answer = RecordedAnswer(
          requestID: "r-1", stream: .init(userID: "kim", task: "film_tag"),
          input: JSONText(.object(["film": "A"])), output: "funny", adapterVersion: nil,
          answeredAt: Date())
        _ = try await answers.record([(answer, try await answers.marks(of: ["kim"]))])

        func replay(_ more: [String] = []) async throws -> String {
          try await rig.admin(["dlq", "replay", "--all", "--execute"] + more).output
        }
        #expect(try await replay().contains("1 messages sent."))
        #expect(try await letters(rig).first?["replayed_at"]?.string != nil)
        #expect(try await replay().contains("0 messages sent; 1 were replayed before"))
        #expect(try await rig.messageCount(rig.kafka.behaviorTopic) == 2)
        // Once more all the same: it is one event.
        #expect(try await replay(["--again"]).contains("1 messages sent."))
        try await rig.withIngest { try await rig.waitForIngest(messages: 3) }
        let ids = try await rig.client.query("SELECT event_id FROM behavior_events")
          .map { try $0.decode("event_id", as: String.self) }
        #expect(ids == ["\(rig.kafka.behaviorTopic)-1-0"])
        #expect(
          try await rig.client.number("SELECT sum(duplicates)::bigint FROM ingest_partitions") == 1)
      }
    }

    @Test("two replays at the same time send a letter once")
    func together() async throws {
      try await Rig.with { rig in
        for number in 0..<40 {
          try await addLetter(
            rig, to: rig.kafka.behaviorTopic, offset: Int64(number), value: "no JSON \(number)",
            timestamp: Date())
        }
        async let one = rig.admin(["dlq", "replay", "--all", "--execute"])
        async let two = rig.admin(["dlq", "replay", "--all", "--execute"])
        #expect(try await one.code == 0)
        #expect(try await two.code == 0)
        #expect(try await rig.messageCount(rig.kafka.behaviorTopic) == 40)
      }
    }

    @Test(
      "a replayed request has the time of its replay, an event its own; --since takes how long ago")
    func times() async throws {
      try await Rig.with { rig in
        let old = Date(timeIntervalSinceNow: -7_200)
        let (requests, events) = (rig.kafka.requestTopic, rig.kafka.behaviorTopic)
        try await addLetter(rig, to: requests, offset: 3, value: "{}", timestamp: old)
        try await addLetter(rig, to: events, offset: 3, value: "{}", timestamp: old)
        try await addLetter(rig, to: events, offset: 4, value: "{}", timestamp: Date())
        #expect(try await letters(rig, ["--since", "1h"]).map { $0["letter"] } == ["0-1"])
        #expect(try await letters(rig, ["--since", "3h"]).count == 2)
        #expect(try await rig.admin(["dlq", "list", "--since", "soon"]).code == 2)

        _ = try await rig.admin(["dlq", "replay", "0-0", "--execute"])
        _ = try await rig.admin(["dlq", "replay", "0-0", "--of", "requests", "--execute"])
        let event = try #require(try await rig.read(events, count: 1).first)
        let request = try #require(try await rig.read(requests, count: 1).first)
        #expect(abs(try #require(event.timestamp).timeIntervalSince(old)) < 1)
        #expect(try #require(request.timestamp).timeIntervalSinceNow > -600)
        #expect(event.text("oppu-original-place") == "\(events)-0-3")
      }
    }

    @Test("a letter of a topic that was made anew is another one, though it lies at the same place")
    func madeAnew() async throws {
      try await withDatabase { client in
        let marks = DeadLetterMarks(client, topic: "t-dlt")
        let first = DeadLetterMark(partition: 0, offset: 0, digest: 1)
        let second = DeadLetterMark(partition: 0, offset: 0, digest: 2)
        #expect(try await marks.add([first], again: false) == [first])
        #expect(try await marks.add([first, second], again: false) == [second])
        #expect(Set(try await marks.times([first, second]).keys) == [first, second])
        try await marks.forget(partition: 0, below: 1)
        #expect(try await marks.times([first, second]).isEmpty)
        let letter = DeadLetter(
          message: KafkaMessage(
            topic: "t", partition: 2, offset: 5, key: nil, value: nil, timestamp: nil),
          error: MessageError(.invalidMessage, "why"), stage: "decode", logNumber: 1)
        let record = DeadLetterRecord(
          KafkaMessage(
            topic: "t-dlt", partition: 2, offset: 0, key: nil, value: nil, headers: letter.headers,
            timestamp: nil), sourceTopic: "t")
        let place = record.restored(isRequest: false).headers.first {
          $0.key == "oppu-original-place"
        }
        #expect(place?.value == Data("t-2-5.1".utf8))
      }
    }

    @Test("a purge deletes from the beginning of each partition up to what is to stay")
    func purge() async throws {
      try await Rig.with { rig in
        let events = rig.kafka.behaviorTopic
        for (offset, age) in [7_200.0, 7_100, 0].enumerated() {
          try await addLetter(
            rig, to: events, offset: Int64(offset), value: "{}",
            timestamp: Date(timeIntervalSinceNow: -age))
        }
        let plan = try await rig.admin(["dlq", "purge", "--before", "1h", "-o", "jsonl"])
        #expect(plan.code == 0 && plan.output.contains(#""letters":2"#), "\(plan.output)")
        #expect(try await letters(rig).count == 3)
        // Of replayed ones only, the first that was not keeps those behind it.
        _ = try await rig.admin(["dlq", "replay", "0-0", "0-2", "--execute"])
        let replayed = try await rig.admin(["dlq", "purge", "--replayed", "-o", "jsonl"])
        #expect(replayed.output.contains(#""letters":1"#), "\(replayed.output)")
        let done = try await rig.admin(["dlq", "purge", "--before", "1h", "--execute"])
        #expect(done.code == 0, "\(done.output)")
        #expect(try await letters(rig).map { $0["letter"] } == ["0-2"])
        #expect(try await rig.admin(["dlq", "purge"]).code == 2)
      }
    }
  }
}
