// Feedback that names a request becomes history by what was answered; what was rejected never does.

import Foundation
import JSON
import KafkaClient
import Personalization
import PostgresClient
import Testing

@testable import Storage
@testable import Worker

extension IntegrationTests {
  @Suite(.serialized) struct FeedbackJoins {
    private func answer(_ request: String, user: String = "kim") -> RecordedAnswer {
      RecordedAnswer(
        requestID: request, stream: StreamID(userID: user, task: "film_tag"),
        input: JSONText(.object(["film": .string("Film of \(request)")])), output: "funny",
        adapterVersion: 3)
    }

    private func record(_ answers: [RecordedAnswer], in client: PostgresClient) async throws {
      let repository = AnswerRepository(client)
      let marks = try await repository.marks(of: answers.map(\.stream.userID))
      #expect(try await repository.record(answers.map { ($0, marks) }).isEmpty)
    }

    private func feedback(_ request: String, _ fields: [String: JSONValue]) -> String {
      var all: [String: JSONValue] = [
        "event_id": .string("f-\(request)"), "user_id": "kim", "kind": "feedback",
        "request_id": .string(request),
      ]
      all.merge(fields) { $1 }
      return JSONValue.object(all).canonical
    }

    @Test(
      "accepted and edited answers become history, rejected ones teach nothing, unknown ones return"
    )
    func verdicts() async throws {
      try await Rig.with { rig in
        let requests = [
          "accepted", "edited", "rejected", "same", "other", "whole", "misfit", "task",
        ]
        try await record(requests.map { answer($0) }, in: rig.client)
        // The same request id of another user is another request.
        try await record([answer("hers", user: "mara")], in: rig.client)
        let messages = [
          feedback("accepted", ["feedback": "accepted"]),
          feedback("edited", ["feedback": "edited", "output": " Nineties "]),
          feedback("rejected", ["feedback": "rejected"]),
          feedback("same", ["output": "funny"]), feedback("other", ["output": "nineties"]),
          feedback(
            "none-needed",
            ["task": "film_tag", "input": ["film": "Own"], "output": "nineties"]),
          feedback("misfit", ["feedback": "edited", "output": "boring"]),
          feedback("task", ["feedback": "accepted", "task": "film_rating"]),
          feedback("hers", ["feedback": "accepted"]),
          feedback("whole", ["feedback": "accepted", "input": ["film": "Seen by the user"]]),
        ]
        for message in messages { try await rig.produce(message, key: "kim", partition: 0) }
        try await rig.withIngest { try await rig.waitForIngest(messages: messages.count) }

        let rows = try await rig.client.query(
          """
          SELECT request_id, verdict, output, input->>'film' AS film, task, kind
          FROM behavior_events ORDER BY ordinal
          """)
        let found = try rows.map { row in
          [
            try row.decode("request_id", as: String.self),
            try row.decode("verdict", as: String?.self) ?? "-",
            try row.decode("output", as: String?.self) ?? "-",
            try row.decode("film", as: String.self),
          ]
        }
        #expect(
          found == [
            ["accepted", "accepted", "funny", "Film of accepted"],
            ["edited", "edited", "nineties", "Film of edited"],
            ["rejected", "rejected", "-", "Film of rejected"],
            ["same", "accepted", "funny", "Film of same"],
            ["other", "edited", "nineties", "Film of other"],
            ["none-needed", "-", "nineties", "Own"],
            ["whole", "accepted", "funny", "Seen by the user"],
          ])
        // What training and retrieval read.
        let history = try await HistoryRepository(rig.client).events(
          of: StreamID(userID: "kim", task: "film_tag"))
        #expect(history.map(\.item.eventID).contains("f-rejected") == false)
        #expect(history.count == 6)
        let letters = try await rig.read("\(rig.kafka.behaviorTopic)-dlt", count: 3)
        #expect(
          Set(letters.compactMap { $0.text("__connect.errors.exception.class.name") })
            == ["invalid_input", "unknown_request"])
        #expect(try await rig.messageCount("\(rig.kafka.behaviorTopic)-dlt") == 3)
        try await Ingest.checkOrdinals(rig.client)
      }
    }

    @Test("an answer that was under way when its user was erased is not recorded")
    func erasedMeanwhile() async throws {
      try await withDatabase { client in
        let repository = AnswerRepository(client)
        try await record([answer("before")], in: client)
        let marks = try await repository.marks(of: ["kim", "mara"])
        for _ in 0..<2 {
          _ = try await client.withTransaction {
            try await ErasureRepository($0).erase(userID: "kim")
          }
        }
        _ = try await repository.record([
          (answer("late"), marks), (answer("hers", user: "mara"), marks),
        ])
        #expect(try await client.number("SELECT count(*) FROM answers") == 1)
        #expect(try await client.number("SELECT count(*) FROM answers WHERE user_id = 'mara'") == 1)
        // The next answer of the same user is a new one.
        try await record([answer("after")], in: client)
        #expect(try await client.number("SELECT count(*) FROM answers WHERE user_id = 'kim'") == 1)
        #expect(try await client.number("SELECT count(*) FROM erasure_receipts") == 1)
      }
    }

    @Test(
      "events and answers older than they may be are removed, a part at a time, and nothing else")
    func retention() async throws {
      try await withDatabase { client in
        let now = Date(timeIntervalSince1970: 1_770_000_000)
        let repository = IngestRepository(client)
        _ = try await repository.claim(topic: "t", partitions: [0])
        func event(_ user: String, _ days: Double, _ number: Int) -> IncomingEvent {
          IncomingEvent(
            eventID: "\(user)-\(number)", stream: StreamID(userID: user, task: "notes"),
            kind: "interaction", occurredAt: now.addingTimeInterval(-86_400 * days),
            input: ["text": "T"], output: "O", requestID: nil, extra: nil, offset: Int64(number))
        }
        // kim: 30 old ones, one old one that came late, 5 new ones; mara: new ones; noor: old ones only.
        let events =
          (0..<30).map { event("kim", 100, $0) } + (30..<35).map { event("kim", 1, $0) }
          + [event("kim", 50, 35)] + (0..<5).map { event("mara", 2, $0) }
          + (0..<7).map { event("noor", 40, $0) }
        _ = try await repository.write(
          IngestBatch(
            topic: "t", partition: 0, expectedOffset: -1, nextOffset: 50, epoch: 1,
            steps: [.events(events)], deadLetters: 0))
        let before = now.addingTimeInterval(-86_400 * 30)
        // In steps of ten events, until nothing is left to do.
        var removed: [Int] = []
        repeat {
          let step = try await client.withTransaction {
            try await Retention($0).removeEvents(task: "notes", before: before, events: 10)
          }
          removed.append(step.events)
          #expect(step.events <= 10)
        } while removed.last != 0
        #expect(removed.reduce(0, +) == 38)
        let left = try await client.query(
          "SELECT user_id, count(*) AS n, min(ordinal) AS first FROM behavior_events GROUP BY 1 ORDER BY 1"
        ).map {
          "\(try $0.decode("user_id", as: String.self)) \(try $0.decode("n", as: Int.self)) \(try $0.decode("first", as: Int.self))"
        }
        #expect(left == ["kim 5 31", "mara 5 1"])
        // The scheduler goes on where events are left.
        let seen = try await client.query(
          "SELECT scheduled_through FROM user_task_state ORDER BY user_id"
        ).map { try $0.decode("scheduled_through", as: Int.self) }
        #expect(seen == [30, 0, 7])
        // The next event of a stream is numbered on.
        _ = try await repository.write(
          IngestBatch(
            topic: "t", partition: 0, expectedOffset: 50, nextOffset: 51, epoch: 1,
            steps: [.events([event("noor", 0, 99)])], deadLetters: 0))
        #expect(
          try await client.number("SELECT ordinal FROM behavior_events WHERE user_id = 'noor'") == 8
        )
      }
    }
  }
}
