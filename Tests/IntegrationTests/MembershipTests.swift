// Consumers that Kafka puts out of their group although they work: fenced under a name that is their own, or busy
// for longer than a member may stay away from its polls. With the real binary.

import CRDKafka
import DevelopmentServers
import Foundation
import KafkaClient
import Personalization
import PostgresClient
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

    private func count(_ text: String, in rig: Rig) -> Int {
      rig.log().components(separatedBy: text).count - 1
    }

    private func waitForAssignment(_ roles: [String], _ rig: Rig) async throws {
      try await eventually("assigned", seconds: 90, state: rig.log()) {
        roles.allSatisfy { rig.log().contains("\($0) assigned") }
      }
    }

    private func stop(_ worker: ChildProcess) async {
      await worker.stop(SIGTERM, grace: .seconds(90))
      #expect(worker.endStatus.map(ChildProcess.describe) == "exit code 0")
    }

    @Test(
      "a consumer that is fenced while its number is this process's own is made anew; nothing is lost and no request answered twice"
    )
    func fenced() async throws {
      let mock = try MockBroker()
      try await Rig.with(
        partitions: 1, broker: mock.bootstrapServers, makeTopics: mock.make
      ) { rig in
        let worker = try await rig.startWorker(["OPPU_ROLES": "ingest,infer"])
        try await waitForAssignment(["ingest", "infer"], rig)
        try await rig.produce((0..<50).map(event), key: "kim", partition: 0)
        // Some are answered and some under way when both consumers are fenced.
        for number in 0..<24 {
          try await rig.produce(
            request("\(number)", tokens: 150), key: "kim", to: rig.kafka.requestTopic, partition: 0)
        }
        _ = try await rig.read(rig.kafka.replyTopic, count: 1)
        mock.fail(.heartbeat, 2, with: RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID)
        try await eventually("both are made anew", seconds: 60, state: rig.log()) {
          count("it is made anew", in: rig) == 2
        }
        try await rig.produce((50..<100).map(event), key: "kim", partition: 0)
        for number in 24..<32 {
          try await rig.produce(
            request("\(number)", tokens: 4), key: "kim", to: rig.kafka.requestTopic, partition: 0)
        }
        try await rig.waitForIngest(messages: 100, seconds: 90)
        let replies = try await rig.read(rig.kafka.replyTopic, count: 32, seconds: 180)
        #expect(worker.isRunning)
        await stop(worker)
        #expect(try await rig.messageCount(rig.kafka.replyTopic, partitions: 1) == 32)
        #expect(Set(try replies.compactMap { try $0.json()["request_id"]?.string }).count == 32)
        #expect(try await rig.client.number("SELECT count(*) FROM behavior_events") == 100)
        let admin = try KafkaAdmin(configuration: rig.kafka.client, logger: Servers.logger)
        let offsets = try await admin.committedOffsets(
          group: "\(rig.kafka.groupPrefix)-infer",
          of: [TopicPartition(topic: rig.kafka.requestTopic, partition: 0)])
        await admin.close()
        #expect(offsets.values.map(\.next) == [32])
      }
    }

    @Test("a consumer that is fenced by a process that has its number ends its process")
    func replaced() async throws {
      let mock = try MockBroker()
      try await Rig.with(
        partitions: 1, broker: mock.bootstrapServers, makeTopics: mock.make
      ) { rig in
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
          try await eventually("the worker has ended", seconds: 60, state: rig.log()) {
            !worker.isRunning
          }
        }
        #expect(worker.endStatus.map(ChildProcess.describe) == "exit code 1")
        #expect(rig.log().split(separator: "\n").last?.contains("FENCED_INSTANCE_ID") == true)
      }
    }

    @Test(
      "a member whose computation takes longer than max.poll.interval.ms keeps its partitions, and answers once"
    )
    func longComputation() async throws {
      let mock = try MockBroker()
      try await Rig.with(
        partitions: 1, broker: mock.bootstrapServers, makeTopics: mock.make
      ) { rig in
        // Four may be under way, one is computed at a time: the others wait for the first one.
        for number in 0..<6 {
          try await rig.produce(
            request("\(number)", tokens: number == 0 ? 2_000 : 4), key: "kim",
            to: rig.kafka.requestTopic, partition: 0)
        }
        let worker = try await rig.startWorker([
          "OPPU_ROLES": "infer", "OPPU_INFER_BATCH_SIZE": "1",
          "OPPU_KAFKA_PROPERTIES":
            "session.timeout.ms=6000,heartbeat.interval.ms=1000,max.poll.interval.ms=6000",
        ])
        _ = try await rig.read(rig.kafka.replyTopic, count: 6, seconds: 180)
        await stop(worker)
        #expect(!rig.log().contains("MAX_POLL"), "\(rig.log())")
        #expect(try await rig.messageCount(rig.kafka.replyTopic, partitions: 1) == 6)
      }
    }
  }
}
