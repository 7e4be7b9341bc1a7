// Behaviour events into a real PostgreSQL: exactly once, in order, and nothing lost on the way.

import DevelopmentServers
import Foundation
import JSON
import KafkaClient
import Personalization
import PostgresClient
import Testing
import Worker

@testable import Storage

extension IntegrationTests {
  @Suite(.serialized) struct Ingest {
    // MARK: The repository

    private func event(_ id: String, user: String = "kim", offset: Int64 = 0) -> IncomingEvent {
      IncomingEvent(
        eventID: id, stream: StreamID(userID: user, task: "film_tag"), kind: "interaction",
        occurredAt: Date(timeIntervalSince1970: 1_769_850_000), input: ["film": .string(id)],
        output: "funny", requestID: nil, extra: nil, offset: offset)
    }

    private func batch(
      _ events: [IncomingEvent], at expected: Int64 = -1, epoch: Int64 = 1
    ) -> IngestBatch {
      IngestBatch(
        topic: "t", partition: 0, expectedOffset: expected,
        nextOffset: max(0, expected) + Int64(events.count), epoch: epoch,
        steps: [.events(events)], deadLetters: 0)
    }

    /// Ordinals of every stream are 1, 2, 3 … and the state row knows the last.
    static func checkOrdinals(_ client: PostgresClient) async throws {
      let gaps = try await client.number(
        """
        SELECT count(*) FROM (
          SELECT s.user_id FROM user_task_state s LEFT JOIN behavior_events e USING (user_id, task)
          GROUP BY s.user_id, s.task, s.event_count
          HAVING count(e.ordinal) <> s.event_count OR min(e.ordinal) <> 1
            OR max(e.ordinal) <> s.event_count OR count(DISTINCT e.ordinal) <> s.event_count
        ) AS gaps
        """)
      #expect(gaps == 0)
    }

    @Test("rows and the partition's offset move together, and the same batch twice is refused")
    func sameBatchTwice() async throws {
      try await withDatabase { client in
        let repository = IngestRepository(client)
        let claim = try #require(try await repository.claim(topic: "t", partitions: [0]).first)
        #expect(claim.nextOffset == -1)
        let batch = batch([event("a"), event("b")], epoch: claim.epoch)
        #expect(try await repository.write(batch) == IngestResult(events: 2))
        await #expect(throws: ZombieConsumerError.self) { try await repository.write(batch) }
        #expect(try await client.number("SELECT count(*) FROM behavior_events") == 2)
        #expect(try await client.number("SELECT next_offset FROM ingest_partitions") == 2)
        #expect(try await repository.stands(batch))
      }
    }

    @Test("a batch that fails on the way leaves neither rows nor an offset")
    func failedBatch() async throws {
      try await withDatabase { client in
        let repository = IngestRepository(client)
        _ = try await repository.claim(topic: "t", partitions: [0])
        var wrong = event("b")
        wrong.eventID = String(repeating: "\u{0}", count: 1)
        await #expect(throws: PostgresError.self) {
          try await repository.write(batch([event("a"), wrong]))
        }
        #expect(try await client.number("SELECT count(*) FROM behavior_events") == 0)
        #expect(try await client.number("SELECT next_offset FROM ingest_partitions") == -1)
      }
    }

    @Test("an owner that lost its partition can write nothing more")
    func staleEpoch() async throws {
      try await withDatabase { client in
        let repository = IngestRepository(client)
        let first = try #require(try await repository.claim(topic: "t", partitions: [0]).first)
        let second = try #require(try await repository.claim(topic: "t", partitions: [0]).first)
        #expect(second.epoch == first.epoch + 1)
        await #expect(throws: ZombieConsumerError.self) {
          try await repository.write(batch([event("a")], epoch: first.epoch))
        }
        #expect(
          try await repository.write(batch([event("a")], epoch: second.epoch)).events == 1)
      }
    }

    @Test("of two owners that write the same batch at once, one is taken")
    func concurrentOwners() async throws {
      try await withDatabase { client in
        let repository = IngestRepository(client)
        _ = try await repository.claim(topic: "t", partitions: [0])
        let batch = batch((0..<50).map { event("e\($0)") })
        let taken = try await withThrowingTaskGroup(of: Int.self) { group in
          for _ in 0..<4 {
            group.addTask {
              do {
                return try await repository.write(batch).events
              } catch is ZombieConsumerError {
                return 0
              }
            }
          }
          return try await group.reduce(0, +)
        }
        #expect(taken == 50)
        #expect(try await client.number("SELECT count(*) FROM behavior_events") == 50)
      }
    }

    @Test("a user's repeated event ids, in a batch and across batches, are dropped and counted")
    func repeatedIDs() async throws {
      try await withDatabase { client in
        let repository = IngestRepository(client)
        _ = try await repository.claim(topic: "t", partitions: [0])
        let first = try await repository.write(
          batch([event("a"), event("b"), event("a"), event("a", user: "mara")]))
        // The same id under another user is another event.
        #expect(first == IngestResult(events: 3, duplicates: 1))
        let second = try await repository.write(
          batch([event("b"), event("c"), event("d", user: "mara"), event("c")], at: 4))
        #expect(second == IngestResult(events: 2, duplicates: 2))
        let third = try await repository.write(batch([event("a"), event("c")], at: 8))
        #expect(third == IngestResult(events: 0, duplicates: 2))
        let status = try #require(try await repository.partitions().first)
        #expect(status.events == 5 && status.duplicates == 5 && status.nextOffset == 10)
        try await Self.checkOrdinals(client)
      }
    }

    @Test("partitions that write into the same streams at once leave no gap in the ordinals")
    func sharedStreams() async throws {
      try await withDatabase { client in
        let repository = IngestRepository(client)
        _ = try await repository.claim(topic: "t", partitions: [0, 1, 2, 3])
        try await withThrowingTaskGroup(of: Void.self) { group in
          for partition: Int32 in 0..<4 {
            group.addTask {
              var next: Int64 = -1
              for round in 0..<10 {
                // In another order of streams in every partition.
                let users = ["a", "b", "c", "d", "e"].shuffled()
                let events = users.map { user in
                  self.event("\(partition)-\(round)-\(user)", user: user)
                }
                let batch = IngestBatch(
                  topic: "t", partition: partition, expectedOffset: next,
                  nextOffset: max(0, next) + 5, epoch: 1, steps: [.events(events)], deadLetters: 0)
                next = batch.nextOffset
                _ = try await repository.write(batch)
              }
            }
          }
          try await group.waitForAll()
        }
        #expect(try await client.number("SELECT count(*) FROM behavior_events") == 200)
        try await Self.checkOrdinals(client)
      }
    }

    @Test("an erasure takes effect in its place among the events of a batch")
    func eraseInBatch() async throws {
      try await withDatabase { client in
        let repository = IngestRepository(client)
        _ = try await repository.claim(topic: "t", partitions: [0])
        let result = try await repository.write(
          IngestBatch(
            topic: "t", partition: 0, expectedOffset: -1, nextOffset: 6, epoch: 1,
            steps: [
              .events([event("a"), event("b"), event("m", user: "mara")]), .erase(userID: "kim"),
              .events([event("c"), event("a")]),
            ], deadLetters: 0))
        #expect(result == IngestResult(events: 5, duplicates: 0, erasures: 1))
        let left = try await client.query(
          "SELECT event_id FROM behavior_events ORDER BY user_id, ordinal"
        ).map { try $0.decode("event_id", as: String.self) }
        #expect(left == ["c", "a", "m"])
        try await Self.checkOrdinals(client)
      }
    }

    // MARK: The service

    private func value(_ id: String, user: String = "kim") -> String {
      JSONValue.object([
        "event_id": .string(id), "user_id": .string(user), "task": "film_tag",
        "input": ["film": .string(id)], "output": "funny",
      ]).canonical
    }

    @Test("ten thousand events come in, each once, in order")
    func tenThousand() async throws {
      try await Rig.with { rig in
        for (partition, user) in [(Int32(0), "kim"), (1, "mara")] {
          try await rig.produce(
            (0..<5_000).map { value("\(user)-\($0)", user: user) }, key: user,
            partition: partition)
        }
        let begin = ContinuousClock.now
        try await rig.withIngest { try await rig.waitForIngest(messages: 10_000) }
        print("ingest: 10000 events in \(ContinuousClock.now - begin)")
        let client = rig.client
        #expect(
          try await client.number("SELECT count(DISTINCT event_id) FROM behavior_events") == 10_000)
        #expect(try await client.number("SELECT count(*) FROM behavior_events") == 10_000)
        let disordered = try await client.number(
          """
          SELECT count(*) FROM behavior_events WHERE "offset" <> ordinal - 1
          """)
        #expect(disordered == 0)
        try await Self.checkOrdinals(client)
      }
    }

    @Test("what cannot be taken becomes a dead letter on its partition, and the rest is stored")
    func deadLetters() async throws {
      try await Rig.with { rig in
        let nul = KafkaHeader(key: "ce_id", value: Data([0x61, 0, 0x62]))
        let cloud = [KafkaHeader(key: "ce_specversion", value: "1.0"), nul]
        try await rig.produce(value("1"), key: "kim", partition: 1)
        try await rig.produce("{\"task\":", key: "kim", partition: 1)
        try await rig.produce(value("2"), key: "kim", partition: 1)
        try await rig.produce(
          #"{"user_id":"kim","task":"nonsense","input":{}}"#, key: "kim", partition: 1,
          headers: [KafkaHeader(key: "own", value: "kept")])
        try await rig.produce(
          #"{"user_id":"kim","task":"film_tag","input":{"film":"a\u0000b"}}"#, key: "kim",
          partition: 1)
        try await rig.produce(
          #"{"user_id":"kim","task":"film_tag","input":{"film":"a"}}"#, key: "kim", partition: 1,
          headers: cloud)
        try await rig.produce(value("3"), key: "kim", partition: 1)
        try await rig.withIngest { try await rig.waitForIngest(messages: 7) }

        let stored = try await rig.client.query(
          "SELECT event_id FROM behavior_events ORDER BY ordinal"
        ).map { try $0.decode("event_id", as: String.self) }
        #expect(stored == ["1", "2", "3"])
        let letters = try await rig.read("\(rig.kafka.behaviorTopic)-dlt", count: 4)
        #expect(letters.count == 4)
        #expect(letters.allSatisfy { $0.partition == 1 })
        #expect(letters.allSatisfy { $0.key == Data("kim".utf8) })
        let name = "__connect.errors."
        #expect(letters.map { $0.text(name + "offset") } == ["1", "3", "4", "5"])
        #expect(
          letters.map { $0.text(name + "exception.class.name") }
            == ["invalid_message", "unknown_task", "invalid_message", "invalid_message"])
        for letter in letters {
          #expect(letter.text(name + "topic") == rig.kafka.behaviorTopic)
          #expect(letter.text(name + "partition") == "1")
          #expect(letter.text(name + "stage") == "decode")
          #expect(letter.text(name + "exception.message")?.isEmpty == false)
        }
        #expect(letters[0].value == Data("{\"task\":".utf8))
        #expect(letters[1].text("own") == "kept")
        #expect(letters[3].header("ce_id") == Data([0x61, 0, 0x62]))
        #expect(
          try await rig.client.number("SELECT sum(dead_letters)::bigint FROM ingest_partitions")
            == 4)
      }
    }

    @Test("an event that the producer sent twice counts once")
    func sentTwice() async throws {
      try await Rig.with { rig in
        for id in ["1", "2", "1", "3", "2"] {
          try await rig.produce(value(id), key: "kim", partition: 0)
        }
        try await rig.withIngest { try await rig.waitForIngest(messages: 5) }
        #expect(try await rig.client.number("SELECT count(*) FROM behavior_events") == 3)
        #expect(
          try await rig.client.number("SELECT sum(duplicates)::bigint FROM ingest_partitions") == 2)
        try await Self.checkOrdinals(rig.client)
      }
    }

    @Test("a message without a value, and kind erase, forget the user and leave a receipt")
    func erasure() async throws {
      try await Rig.with { rig in
        for user in ["kim", "mara", "noor"] {
          for number in 1...3 {
            try await rig.produce(value("\(user)-\(number)", user: user), key: user, partition: 0)
          }
        }
        try await rig.produce(nil, key: "kim", partition: 0)
        try await rig.produce(#"{"user_id":"mara","kind":"erase"}"#, key: "mara", partition: 0)
        try await rig.withIngest { try await rig.waitForIngest(messages: 11) }
        for table in ["behavior_events", "user_task_state"] {
          let users = try await rig.client.query(
            PostgresQuery(unsafeSQL: "SELECT DISTINCT user_id FROM \(table)")
          ).map { try $0.decode("user_id", as: String.self) }
          #expect(users == ["noor"])
        }
        let receipts = try await rig.client.query(
          "SELECT user_hash, events FROM erasure_receipts ORDER BY receipt_id")
        let hash = try await ReceiptKey.stored.hash(on: rig.client)
        #expect(
          try receipts.map { try $0.decode("user_hash", as: String.self) }
            == [try hash("kim"), try hash("mara")])
        #expect(try receipts.map { try $0.decode("events", as: Int.self) } == [3, 3])
      }
    }

    @Test("a service that starts again goes on where PostgreSQL stands")
    func restartedService() async throws {
      try await Rig.with { rig in
        for round in 0..<3 {
          for number in 0..<5 {
            try await rig.produce(value("\(round)-\(number)"), key: "kim", partition: 0)
          }
          try await rig.withIngest { try await rig.waitForIngest(messages: (round + 1) * 5) }
        }
        #expect(try await rig.client.number("SELECT count(*) FROM behavior_events") == 15)
        #expect(
          try await rig.client.number("SELECT sum(duplicates)::bigint FROM ingest_partitions") == 0)
        #expect(try await rig.client.number("SELECT max(epoch) FROM ingest_partitions") == 3)
      }
    }

    @Test(
      "a running service follows an operator who puts its partition back; nothing comes twice")
    func offsetsPutBack() async throws {
      try await Rig.with(partitions: 1) { rig in
        try await rig.withIngest {
          try await rig.produce((0..<10).map { value("a\($0)") }, key: "kim", partition: 0)
          try await rig.waitForIngest(messages: 10)
          try await IngestRepository(rig.client).reset(
            topic: rig.kafka.behaviorTopic, offsets: [0: 4])
          // By its next batch the service learns that the partition is no longer its own.
          try await rig.produce((0..<3).map { value("b\($0)") }, key: "kim", partition: 0)
          try await rig.waitForIngest(messages: 13)
        }
        #expect(try await rig.client.number("SELECT count(*) FROM behavior_events") == 13)
        #expect(
          try await rig.client.number("SELECT sum(duplicates)::bigint FROM ingest_partitions") == 6)
      }
    }

    @Test("PostgreSQL that goes away and comes back costs no event")
    func databaseRestart() async throws {
      let folder = Servers.folder("restarted")
      let server = try await PrivatePostgres.start(
        folder: folder, isDurable: false, logger: Servers.logger)
      try await Rig.with(database: server.connectionString) { rig in
        var restarted: PrivatePostgres?
        try await rig.withIngest {
          try await rig.produce((0..<400).map { value("a\($0)") }, key: "kim", partition: 0)
          try await eventually("some events stored") {
            try await rig.client.number("SELECT count(*) FROM behavior_events") > 0
          }
          // While the service is writing.
          async let more: Void = rig.produce(
            (0..<2_000).map { value("b\($0)") }, key: "kim", partition: 0)
          await server.stop()
          try await more
          let again = try await PrivatePostgres.start(
            folder: folder, port: server.port, isDurable: false, logger: Servers.logger)
          restarted = again
          try await rig.produce((0..<100).map { value("c\($0)") }, key: "kim", partition: 1)
          try await rig.waitForIngest(messages: 2_500)
        }
        #expect(try await rig.client.number("SELECT count(*) FROM behavior_events") == 2_500)
        #expect(
          try await rig.client.number("SELECT count(DISTINCT event_id) FROM behavior_events")
            == 2_500)
        try await Self.checkOrdinals(rig.client)
        await rig.client.close()
        await restarted?.stop()
      }
    }
  }
}
