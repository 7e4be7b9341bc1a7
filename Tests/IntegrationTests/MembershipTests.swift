// Consumers that Kafka puts out of their group although they work: fenced under a name that is their own, or busy
// for longer than a member may stay away from its polls. With the real binary.

import CRDKafka
import DevelopmentServers
import Foundation
import JSON
import KafkaClient
import Personalization
import PostgresClient
import TestSupport
import Testing

extension IntegrationTests {
  @Suite(.serialized) struct Memberships {
    private func event(_ number: Int) -> String {
      JSONValue.object([
        "event_id": .string("e\(number)"), "user_id": "kim", "task": "film_tag",
        "input": ["film": .string("F \(number)")], "output": "funny",
      ]).canonical
    }

    /// One whose answer is long, for the likeliest token is not likely.
    private func request(_ id: String, tokens: Int) -> String {
      JSONValue.object([
        "request_id": .string(id), "user_id": .string("u\(id)"), "task": "email_subject",
        "input": ["message": "When do we meet?"],
        "options": [
          "max_tokens": .number(Double(tokens)), "temperature": 10, "deadline_ms": 3_600_000,
        ],
      ]).canonical
    }

    private func waitForAssignment(_ roles: [String], _ rig: Rig) async throws {
      try await eventually("assigned", state: rig.log()) {
        roles.allSatisfy { rig.log().contains("\($0) assigned") }
      }
    }

    @Test(
      "a consumer that is fenced while its number is this process's own is made anew; nothing is lost and no request answered twice"
    )
    func fenced() async throws {
      try await Rig.withMock { rig, mock in
        let worker = try await rig.startWorker(["OPPU_ROLES": "ingest,infer"])
        try await waitForAssignment(["ingest", "infer"], rig)
        try await rig.produce((0..<50).map(event), key: "kim", partition: 0)
        // Some are answered and some under way when both consumers are fenced.
        for number in 0..<24 {
          try await rig.produce(
            request("\(number)", tokens: 100), key: "kim", to: rig.kafka.requestTopic, partition: 0)
        }
        try await rig.waitForMessages(rig.kafka.replyTopic, count: 1)
        mock.fail(.heartbeat, 2, with: RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID)
        try await eventually("both are made anew", state: rig.log()) {
          rig.count("it is made anew") == 2
        }
        try await rig.produce((50..<100).map(event), key: "kim", partition: 0)
        for number in 24..<32 {
          try await rig.produce(
            request("\(number)", tokens: 4), key: "kim", to: rig.kafka.requestTopic, partition: 0)
        }
        try await rig.waitForIngest(messages: 100)
        let replies = try await rig.read(rig.kafka.replyTopic, count: 32)
        #expect(worker.isRunning)
        await rig.stop(worker)
        #expect(try await rig.messageCount(rig.kafka.replyTopic) == 32)
        #expect(Set(try replies.compactMap { try $0.json()["request_id"]?.string }).count == 32)
        #expect(try await rig.client.number("SELECT count(*) FROM behavior_events") == 100)
        #expect(try await rig.committedRequests() == 32)
      }
    }

    @Test(
      "a worker whose number another process has taken goes on under another, and loses nothing"
    )
    func replaced() async throws {
      try await Rig.withMock { rig, mock in
        let worker = try await rig.startWorker(["OPPU_ROLES": "ingest"])
        try await waitForAssignment(["ingest"], rig)
        let number = 0x6F70_7075_0001_0001
        try await rig.client.withConnection { connection in
          // Another takes the lock before the worker knows that its connection is gone.
          try await connection.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND objid = \(number & 0xFFFF_FFFF)::oid
            """)
          try await connection.execute("SELECT pg_advisory_lock(\(number))")
          mock.fail(.heartbeat, 1, with: RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID)
          try await rig.produce((0..<2).map(event), key: "kim", partition: 0)
          try await eventually("the worker goes on", state: rig.log()) {
            rig.log().contains("it is made anew as \"\(rig.kafka.groupPrefix)-2\"")
          }
          try await rig.waitForIngest(messages: 2)
        }
        await rig.stop(worker)
      }
    }

    @Test(
      "a member whose computation takes longer than max.poll.interval.ms keeps its partitions, and answers once"
    )
    func longComputation() async throws {
      try await Rig.withMock { rig, _ in
        // Four may be under way, one is computed at a time: the others wait for the first one.
        for number in 0..<6 {
          try await rig.produce(
            request("\(number)", tokens: number == 0 ? 1_200 : 4), key: "kim",
            to: rig.kafka.requestTopic, partition: 0)
        }
        let worker = try await rig.startWorker([
          "OPPU_ROLES": "infer", "OPPU_INFER_BATCH_SIZE": "1", "OPPU_MODEL": Paths.model,
          "OPPU_KAFKA_PROPERTIES":
            "session.timeout.ms=3000,heartbeat.interval.ms=300,max.poll.interval.ms=4000",
        ])
        try await rig.waitForMessages(rig.kafka.replyTopic, count: 6)
        await rig.stop(worker)
        #expect(!rig.log().contains("MAX_POLL"), "\(rig.log())")
        #expect(try await rig.messageCount(rig.kafka.replyTopic) == 6)
      }
    }

    @Test(
      "a member that waits for the database beyond max.poll.interval.ms while it claims partitions stays in its group"
    )
    func longClaim() async throws {
      try await Rig.withMock { rig, _ in
        try await rig.client.withConnection { locker in
          try await locker.execute("BEGIN")
          try await locker.execute("LOCK TABLE ingest_partitions IN ACCESS EXCLUSIVE MODE")
          let worker = try await rig.startWorker([
            "OPPU_ROLES": "ingest",
            "OPPU_KAFKA_PROPERTIES":
              "session.timeout.ms=3000,heartbeat.interval.ms=300,max.poll.interval.ms=4000",
          ])
          let waiting: PostgresQuery = """
            SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
              AND wait_event_type = 'Lock' AND query LIKE '%ingest_partitions%'
            """
          try await eventually("the worker claims its partition") {
            try await rig.client.number(waiting) > 0
          }
          // What is tested is a time.
          try await Task.sleep(for: .seconds(7))
          try await locker.execute("ROLLBACK")
          try await rig.produce(
            #"{"user_id":"kim","task":"film_tag","input":{"film":"x"},"output":"funny"}"#,
            key: "kim", partition: 0)
          try await rig.waitForIngest(messages: 1)
          await rig.stop(worker)
        }
        #expect(!rig.log().contains("MAX_POLL"), "\(rig.log())")
        #expect(rig.count("ingest assigned") == 1, "\(rig.log())")
      }
    }
  }
}
