// Stored offsets that do not fit the topic any more: made anew, shortened, expired. Nothing is skipped and nothing
// read again without a word.

import DevelopmentServers
import Foundation
import JSON
import KafkaClient
import Personalization
import PostgresClient
import Storage
import Testing
import Worker

extension IntegrationTests {
  @Suite(.serialized) struct OffsetGaps {
    private func events(_ count: Int, _ name: String, withIDs: Bool = true) -> [String] {
      (0..<count).map { number in
        var fields: [String: JSONValue] = [
          "user_id": "kim", "task": "film_tag", "input": ["film": .string("\(name) \(number)")],
          "output": "funny",
        ]
        if withIDs { fields["event_id"] = .string("\(name)-\(number)") }
        return JSONValue.object(fields).canonical
      }
    }

    /// Produces with a client that knows nothing of the topic before.
    private func produceAnew(_ values: [String], _ rig: Rig) async throws {
      let producer = try KafkaProducer(configuration: rig.kafka.client, logger: Servers.logger)
      try await rig.produce(
        values.map {
          OutgoingMessage(
            topic: rig.kafka.behaviorTopic, partition: 0, key: Data("kim".utf8),
            value: Data($0.utf8))
        }, by: producer)
      await producer.close()
    }

    private func gap(_ rig: Rig, of partition: Int32 = 0) async throws -> LogGap? {
      try await IngestRepository(rig.client).partitions().first { $0.partition == partition }?.gap
    }

    private func waitForGap(_ kind: LogGap.Kind, _ rig: Rig) async throws -> LogGap {
      try await eventually("partition 0 waits: \(kind)") { try await gap(rig)?.kind == kind }
      return try #require(try await gap(rig))
    }

    private func stored(_ rig: Rig) async throws -> Int {
      try await rig.client.number("SELECT count(*) FROM behavior_events")
    }

    @Test(
      "a topic that is made anew while the worker runs stops its partition; reset, every event of it is read",
      arguments: [true, false], [Duration.zero, .milliseconds(100)])
    func madeAnewWhileRunning(_ isLonger: Bool, _ idleRest: Duration) async throws {
      try await Rig.with(partitions: 1) { rig in
        try await rig.withIngest(idleRest: idleRest) {
          try await rig.produce(events(50, "old"), key: "kim", partition: 0)
          try await rig.waitForIngest(messages: 50)
          try await rig.makeAnew(rig.kafka.behaviorTopic, partitions: 1)
          try await produceAnew(events(isLonger ? 70 : 10, "new"), rig)
          let gap = try await waitForGap(.replaced, rig)
          #expect(gap.next >= 50)
          try await produceAnew(events(5, "more"), rig)
          // No further event of the new topic is taken at the old one's offset.
          let before = try await stored(rig)
          let high = Int64(isLonger ? 75 : 15)
          try await IngestRepository(rig.client).reset(
            topic: rig.kafka.behaviorTopic, offsets: [0: 0], gaps: [0: gap])
          try await eventually("the new topic is read") {
            try await rig.client.number("SELECT next_offset FROM ingest_partitions") == Int(high)
          }
          #expect(before <= Int(50 + high))
        }
        #expect(try await stored(rig) == (isLonger ? 125 : 65))
        #expect(try await rig.client.number("SELECT log_number FROM ingest_partitions") == 1)
        #expect(try await gap(rig) == nil)
      }
    }

    @Test(
      "a topic that was made anew while no worker ran stops its partition, and only that one",
      arguments: [(70, 100), (100, 60)])
    func madeAnewMeanwhile(_ old: Int, _ new: Int) async throws {
      try await Rig.with(partitions: 2) { rig in
        try await rig.withIngest {
          // Without ids of their own.
          try await rig.produce(events(old, "old", withIDs: false), key: "kim", partition: 0)
          try await rig.waitForIngest(messages: old)
        }
        try await rig.makeAnew(rig.kafka.behaviorTopic, partitions: 2)
        try await produceAnew(events(new, "new", withIDs: false), rig)
        try await rig.withIngest {
          let gap = try await waitForGap(.replaced, rig)
          #expect(gap == LogGap(kind: .replaced, next: Int64(old), low: 0, high: Int64(new)))
          try await rig.produce(events(5, "beside"), key: "mara", partition: 1)
          try await eventually("the other partition goes on") {
            try await rig.client.number(
              "SELECT next_offset FROM ingest_partitions WHERE partition = 1") == 5
          }
          #expect(try await stored(rig) == old + 5)
          try await IngestRepository(rig.client).reset(
            topic: rig.kafka.behaviorTopic, offsets: [0: 0], gaps: [0: gap])
          try await eventually("the new topic is read") {
            try await rig.client.number(
              "SELECT next_offset FROM ingest_partitions WHERE partition = 0") == new
          }
        }
        #expect(try await stored(rig) == old + 5 + new)
      }
    }

    @Test(
      "events that expired before they were read are counted, and stop the partition unless the policy says else",
      arguments: OffsetGapPolicy.allCases)
    func expired(_ policy: OffsetGapPolicy) async throws {
      try await Rig.with(partitions: 1) { rig in
        try await rig.withIngest {
          try await rig.produce(events(20, "a"), key: "kim", partition: 0)
          try await rig.waitForIngest(messages: 20)
        }
        try await rig.produce(events(30, "b"), key: "kim", partition: 0)
        try await deleteRecords(before: 40, rig)
        var settings = WorkerConfiguration.Ingest()
        settings.onOffsetGap = policy
        try await rig.withIngest(settings) {
          if policy == .stop {
            let gap = try await waitForGap(.expired, rig)
            #expect(gap.missing == 20)
            #expect(try await stored(rig) == 20)
            let shown = try await IngestRepository(rig.client).partitions().first
            #expect(shown?.missing == 20)
            try await IngestRepository(rig.client).reset(
              topic: rig.kafka.behaviorTopic, offsets: [0: 40], gaps: [0: gap])
          }
          try await rig.waitForIngest(messages: 50)
        }
        let missing = try await rig.client.number("SELECT missing FROM ingest_partitions")
        #expect(missing == (policy == .latest ? 30 : 20))
        #expect(try await stored(rig) == (policy == .latest ? 20 : 30))
        #expect(try await gap(rig) == nil)
      }
    }

    @Test(
      "by policy a topic made anew is read from its beginning; ids made of offsets do not clash")
    func earliest() async throws {
      try await Rig.with(partitions: 1) { rig in
        var settings = WorkerConfiguration.Ingest()
        settings.onOffsetGap = .earliest
        try await rig.withIngest(settings) {
          try await rig.produce(events(20, "old", withIDs: false), key: "kim", partition: 0)
          try await rig.waitForIngest(messages: 20)
          try await rig.makeAnew(rig.kafka.behaviorTopic, partitions: 1)
          try await produceAnew(events(10, "new", withIDs: false), rig)
          try await eventually("the new topic is read") {
            try await stored(rig) == 30
          }
        }
        #expect(
          try await rig.client.number("SELECT sum(duplicates)::bigint FROM ingest_partitions") == 0)
      }
    }

    @Test("an idle worker follows an operator who puts its partition back, in seconds")
    func resetWhenIdle() async throws {
      try await Rig.with(partitions: 1) { rig in
        try await rig.withIngest {
          try await rig.produce(events(10, "a"), key: "kim", partition: 0)
          try await rig.waitForIngest(messages: 10)
          try await IngestRepository(rig.client).reset(
            topic: rig.kafka.behaviorTopic, offsets: [0: 4])
          try await rig.waitForIngest(messages: 10)
        }
        #expect(
          try await rig.client.number("SELECT sum(duplicates)::bigint FROM ingest_partitions") == 6)
      }
    }

    @Test(
      "lag and offsets show a topic made anew, doctor fails, and the command they name resolves it")
    func commands() async throws {
      try await Rig.with(partitions: 1) { rig in
        try await rig.withIngest {
          try await rig.produce(events(30, "old"), key: "kim", partition: 0)
          try await rig.waitForIngest(messages: 30)
        }
        try await rig.makeAnew(rig.kafka.behaviorTopic, partitions: 1)
        try await produceAnew(events(10, "new"), rig)
        let command = "admin offsets reset --partition 0 --to beginning --execute"
        for arguments in [["lag"], ["offsets", "show"], ["doctor"]] {
          let (code, output) = try await rig.admin(arguments)
          #expect(output.contains("the topic was deleted and made anew"))
          #expect(output.contains(command))
          #expect(code == (arguments == ["doctor"] ? 3 : 0))
        }
        #expect(try await rig.admin(["lag"]).output.contains("10 messages wait."))
        let reset = command.split(separator: " ").dropFirst().map(String.init)
        #expect(try await rig.admin(reset).code == 0)
        let (_, output) = try await rig.admin(["offsets", "show"])
        #expect(output.contains("fits"))
        try await rig.withIngest { try await rig.waitForIngest(messages: 10) }
        #expect(try await stored(rig) == 40)
      }
    }

    @Test(
      "a byte that changes on the way is not stored: what came is refused and fetched again, all else once",
      arguments: [1, 3, 6])
    func damagedByte(_ times: Int) async throws {
      try await Rig.with(partitions: 1) { rig in
        // Batches of their own before and behind the one that is damaged.
        for name in ["a", "b", "DAMAGED", "c", "d"] {
          try await rig.produce(events(4, name), key: "kim", partition: 0)
        }
        let proxy = try FetchProxy(to: try rig.brokerPort, damaging: "DAMAGED", times: times)
        defer { proxy.stop() }
        try await rig.withIngest(broker: "127.0.0.1:\(proxy.port)") {
          try await rig.waitForIngest(messages: 20)
        }
        #expect(proxy.damaged == times)
        let ids = try await rig.client.query(
          "SELECT event_id FROM behavior_events ORDER BY \"offset\""
        ).map { try $0.decode("event_id", as: String.self) }
        #expect(
          ids
            == ["a", "b", "DAMAGED", "c", "d"].flatMap { name in (0..<4).map { "\(name)-\($0)" } })
        #expect(
          try await rig.client.number(
            "SELECT count(*) FROM behavior_events WHERE input->>'film' LIKE 'DAMAGED %'") == 4)
      }
    }

    private func deleteRecords(before offset: Int64, _ rig: Rig) async throws {
      try await rig.withAdmin {
        try await $0.deleteRecords(
          before: [TopicPartition(topic: rig.kafka.behaviorTopic, partition: 0): offset])
      }
    }
  }
}
