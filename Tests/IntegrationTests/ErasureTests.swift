// Forgetting a user while everything is at work on them: no byte stays but the receipt.

import Cryptography
import DevelopmentServers
import Foundation
import JSON
import KafkaClient
import Personalization
import PostgresClient
import TestSupport
import Testing

@testable import Storage
@testable import Worker

extension IntegrationTests {
  @Suite(.serialized) struct Erasures {
    /// Every row of the database as text. (pg_dump would do, were it not for servers newer than it is.)
    private static func dump(_ rig: Rig) async throws -> String {
      var dump = ""
      for row in try await rig.client.query(
        "SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = current_schema()")
      {
        let table = try row.decode("name", as: String.self)
        for row in try await rig.client.query(
          "SELECT row::text AS text FROM \(unsafeSQL: table) AS row")
        {
          dump += try row.decode("text", as: String.self) + "\n"
        }
      }
      return dump
    }

    @Test("erased in the middle of a training, a user leaves a receipt and no byte more")
    func duringTraining() async throws {
      try await Rig.with { rig in
        let user = "user-to-forget"
        let marker = "Zyzzogeton"
        func produce(_ count: Int, _ user: String, _ word: String) async throws {
          try await rig.produce(
            (0..<count).map { number in
              JSONValue.object([
                "event_id": .string("\(user)-\(number)"), "user_id": .string(user),
                "task": "film_tag", "input": ["film": .string("\(word) \(number)")],
                "output": number % 2 == 0 ? "funny" : "nineties", "note": .string(word),
              ]).canonical
            }, key: user, partition: 0)
        }
        // So many that an epoch takes longer than it takes to notice that it has begun, and to erase.
        let events = 200
        let settings = [
          "OPPU_SCHEDULE_FIRST_ADAPTER_EVENTS": "\(events)",
          "OPPU_SCHEDULE_POLL_INTERVAL_MS": "100",
          "OPPU_SCHEDULE_LOSS_SIGNAL": "false", "OPPU_TRAIN_POLL_INTERVAL_MS": "100",
          "OPPU_TRAIN_RANK": "4", "OPPU_TRAIN_TARGETS": "q_proj,v_proj",
          "OPPU_TRAIN_EPOCHS": "1000", "OPPU_TRAIN_MAXIMUM_TOKENS": "1000000",
          "OPPU_MODEL": Paths.model,
        ]
        let worker = try await rig.startWorker(settings)
        try await produce(20, "user-to-keep", "Ordinary")
        // An answer and feedback to it, too.
        let request: JSONValue = .object([
          "request_id": "r-1", "user_id": .string(user), "task": "film_tag",
          "input": .object(["film": .string(marker)]),
        ])
        try await rig.produce(request.canonical, key: user, to: rig.kafka.requestTopic)
        try await eventually("the answer is on record", state: rig.log()) {
          try await rig.client.number("SELECT count(*) FROM answers WHERE user_id = \(user)") == 1
        }
        #expect(try await Self.dump(rig).contains(marker))
        try await produce(events, user, marker)
        try await eventually("a training of the user is under way", state: rig.log()) {
          try await rig.client.number(
            "SELECT count(*) FROM training_jobs WHERE state = 'running' AND user_id = \(user)") == 1
        }

        let outcome = try await UserErasure(client: rig.client, kafka: rig.kafka).execute(user)
        let removed = outcome.removed
        #expect(removed.events == events && removed.answers == 1 && removed.jobs >= 1)
        #expect(try outcome.told.get() == 2 && outcome.found == .something)
        // The tombstones are read, the trainer notices, and what there is to tell is told.
        try await rig.waitForIngest(messages: 20 + events + 2)
        try await eventually("the trainer has given up", state: rig.log()) {
          rig.log().contains("the lease was lost")
        }
        try await eventually("the outbox is empty") {
          try await rig.client.number("SELECT count(*) FROM outbox") == 0
        }
        await rig.stop(worker)
        let dump = try await Self.dump(rig)
        #expect(!dump.contains(user))
        #expect(!dump.contains(marker))
        #expect(dump.contains("user-to-keep"))
        #expect(!dump.contains(SHA256.hash(data: Data(user.utf8)).hexadecimal))
        #expect(dump.contains(try await ReceiptKey.stored.hash(on: rig.client)(user)))
        #expect(
          try await rig.client.number("SELECT count(*) FROM adapters WHERE user_id = \(user)") == 0)
        #expect(try await rig.client.number("SELECT count(*) FROM erasure_receipts") == 1)
      }
    }

    private func produce(_ count: Int, _ user: String, _ name: String, _ rig: Rig) async throws {
      try await rig.produce(
        (0..<count).map { number in
          JSONValue.object([
            "event_id": .string("\(name)-\(number)"), "user_id": .string(user),
            "task": "film_tag", "input": ["film": .string("\(name) \(number)")],
            "output": "funny",
          ]).canonical
        }, key: user, partition: 0)
    }

    private func events(of user: String, _ rig: Rig) async throws -> Int {
      try await rig.client.number("SELECT count(*) FROM behavior_events WHERE user_id = \(user)")
    }

    @Test(
      "a user erased while no broker answers never comes back, and the topic is told when one does")
    func withoutBroker() async throws {
      try await Rig.with { rig in
        try await produce(5, "kim", "before", rig)
        try await produce(3, "mara", "other", rig)
        try await rig.withIngest { try await rig.waitForIngest(messages: 8) }
        // What waits unread is of the erased user too.
        try await produce(2, "kim", "unread", rig)
        var kafka = rig.kafka
        kafka.bootstrapServers = "127.0.0.1:1"
        let outcome = try await UserErasure(client: rig.client, kafka: kafka).execute("kim")
        #expect(outcome.found == .something && outcome.removed.events == 5)
        #expect(throws: KafkaError.self) { try outcome.told.get() }
        #expect(try await rig.client.number("SELECT count(*) FROM erasures_to_tell") == 1)

        // Read again before the topic knows.
        try await IngestRepository(rig.client).reset(
          topic: rig.kafka.behaviorTopic, offsets: [0: 0])
        try await rig.withIngest { try await rig.waitForIngest(messages: 10) }
        #expect(try await events(of: "kim", rig) == 0)
        #expect(try await events(of: "mara", rig) == 3)
        #expect(
          try await rig.client.number("SELECT forgotten FROM ingest_partitions WHERE partition = 0")
            == 7)

        // The user comes back before the topic is told; that is a new history.
        try await produce(4, "kim", "after", rig)
        let worker = try await rig.startWorker([
          "OPPU_ROLES": "schedule", "OPPU_SCHEDULE_LOSS_SIGNAL": "false",
          "OPPU_SCHEDULE_POLL_INTERVAL_MS": "100",
        ])
        try await eventually("the topic is told", state: rig.log()) {
          try await rig.client.number("SELECT count(*) FROM erasures_to_tell") == 0
        }
        await rig.stop(worker)
        try await rig.withIngest { try await rig.waitForIngest(messages: 16) }
        #expect(try await events(of: "kim", rig) == 4)
        // And read again once more, with the message behind them.
        try await IngestRepository(rig.client).reset(
          topic: rig.kafka.behaviorTopic, offsets: [0: 0])
        try await rig.withIngest { try await rig.waitForIngest(messages: 16) }
        #expect(try await events(of: "kim", rig) == 4)
        #expect(try await rig.client.number("SELECT count(*) FROM erasure_receipts") == 1)
      }
    }

    @Test("a database restored from before an operator's erasure is told of it by the topic")
    func restored() async throws {
      try await Rig.with { rig in
        try await produce(5, "kim", "before", rig)
        try await rig.withIngest { try await rig.waitForIngest(messages: 5) }
        let outcome = try await UserErasure(client: rig.client, kafka: rig.kafka).execute("kim")
        #expect(try outcome.told.get() == 2)
        // As a backup has it: nothing is known of the erasure.
        try await rig.client.execute("DELETE FROM erasure_receipts")
        try await IngestRepository(rig.client).reset(
          topic: rig.kafka.behaviorTopic, offsets: [0: 0])
        try await rig.withIngest { try await rig.waitForIngest(messages: 7) }
        #expect(try await events(of: "kim", rig) == 0)
        #expect(try await rig.client.number("SELECT events FROM erasure_receipts") == 5)
      }
    }

    @Test("an operator who mistypes a user is told so, with exit code 1 and without a receipt")
    func mistyped() async throws {
      try await Rig.with { rig in
        try await produce(2, "kim", "a", rig)
        try await rig.withIngest { try await rig.waitForIngest(messages: 2) }
        let (code, output) = try await rig.admin(["users", "erase", "KIM", "--execute"])
        #expect(code == 1)
        #expect(
          output.contains(
            #"nothing of a user "KIM" was found; there is "kim". There is no receipt"#))
        #expect(try await rig.client.number("SELECT count(*) FROM erasure_receipts") == 0)
        // Nor does one come by what the topic was told.
        try await rig.withIngest { try await rig.waitForIngest(messages: 4) }
        #expect(try await rig.client.number("SELECT count(*) FROM erasure_receipts") == 0)
        #expect(try await events(of: "kim", rig) == 2)

        #expect(try await rig.admin(["users", "erase", "kim", "--execute"]).code == 0)
        let receipts = try await rig.admin(["users", "receipts", "--user", "kim", "-o", "jsonl"])
        let hash = try await ReceiptKey.stored.hash(on: rig.client)
        #expect(receipts.output.contains(try hash("kim")))
        #expect(
          try await rig.admin(["users", "receipts", "--user", "KIM"]).output.contains("Nobody"))
      }
    }

    @Test(
      "a message whose key is nearly a user's id erases nobody, and its receipt and event say so")
    func nearlyTheKey() async throws {
      try await Rig.with { rig in
        try await produce(2, "kim", "a", rig)
        for key in [#""kim""#, "kim\n", "KIM"] {
          try await rig.produce(nil, key: key, partition: 0)
        }
        try await rig.withIngest { try await rig.waitForIngest(messages: 5) }
        #expect(try await events(of: "kim", rig) == 2)
        #expect(
          try await rig.client.number("SELECT sum(events)::bigint FROM erasure_receipts") == 0)
        #expect(
          try await rig.client.number(
            "SELECT count(*) FROM outbox WHERE message->'removed'->>'events' = '0'") == 3)
        for key in [#""kim""#, "kim\n", "KIM", " kim"] {
          #expect(ErasureRepository.nearMisses(of: key).contains("kim"))
        }
      }
    }

    @Test("every table that knows users is emptied by an erasure")
    func everyTable() async throws {
      try await withDatabase { client in
        let named = try await client.query(
          """
          SELECT c.relname AS name FROM pg_class c
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id' AND NOT a.attisdropped
          WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND c.relnamespace = 'public'::regnamespace
            -- Rows that go with the stream's row need no statement of their own.
            AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conrelid = c.oid
              AND k.contype = 'f' AND k.confdeltype = 'c'
              AND k.confrelid = 'user_task_state'::regclass)
          """
        ).map { try $0.decode("name", as: String.self) }
        #expect(Set(named) == Set(ErasureRepository.tables))
      }
    }
  }
}
