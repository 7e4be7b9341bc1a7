// Topics that the worker may not write to: what waits, what goes on, and what becomes a dead letter.

import CRDKafka
import DevelopmentServers
import Foundation
import KafkaClient
import PostgresClient
import Testing

extension IntegrationTests {
  @Suite(.serialized) struct ForbiddenTopics {
    private let request =
      #"{"request_id":"r","user_id":"kim","task":"film_tag","input":{"film":"F"}}"#
    private let event =
      #"{"user_id":"kim","task":"film_tag","input":{"film":"F"},"output":"funny"}"#

    @Test(
      "replies wait for the worker's own topic until it may be written to; a topic that a client names makes a dead letter"
    )
    func replyTopic() async throws {
      try await Rig.withMock { rig, mock in
        let named = "named-replies"
        mock.make([NewTopic(name: named, partitions: 1, replication: 1)])
        try await rig.produce(request, key: "kim", to: rig.kafka.requestTopic)
        mock.fail(.produce, 3, with: RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        let worker = try await rig.startWorker(["OPPU_ROLES": "infer"])
        let reply = try #require(try await rig.read(rig.kafka.replyTopic, count: 1).first)
        #expect(try reply.json()["status"] == "ok")
        #expect(rig.count("replies cannot be written to \(rig.kafka.replyTopic)") == 1)
        #expect(rig.count("replies go to \(rig.kafka.replyTopic) again") == 1)
        let letters = "\(rig.kafka.requestTopic)-dlt"
        #expect(try await rig.messageCount(letters) == 0)

        // It answers once it is forbidden to.
        worker.signal(SIGSTOP)
        try await rig.produce(
          request, key: "kim", to: rig.kafka.requestTopic,
          headers: [KafkaHeader(key: "reply-to", value: named)])
        mock.fail(.produce, 1, with: RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        worker.signal(SIGCONT)
        let letter = try #require(try await rig.read(letters, count: 1).first)
        #expect(letter.text("__connect.errors.stage") == "reply")
        #expect(letter.text("__connect.errors.exception.message")?.contains(named) == true)
        await rig.stop(worker)
        #expect(try await rig.messageCount(rig.kafka.replyTopic) == 1)
      }
    }

    @Test(
      "a partition whose dead letters may not be written waits, says so once and holds up no other; then it goes on"
    )
    func deadLetterTopic() async throws {
      try await Rig.withMock(partitions: 2) { rig, mock in
        let topic = rig.kafka.behaviorTopic
        try await rig.produce("no JSON", key: "kim", partition: 0)
        try await rig.produce(event, key: "kim", partition: 0)
        try await rig.produce(event, key: "mara", partition: 1)
        mock.fail(.produce, 1_000, with: RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        let worker = try await rig.startWorker([
          "OPPU_ROLES": "ingest", "OPPU_INGEST_WRITERS": "1",
        ])
        let said = "\(topic)-0: dead letter not sent"
        try await eventually("partition 0 waits", state: rig.log()) {
          rig.count(said) > 0
        }
        try await eventually("partition 1 goes on", state: rig.log()) {
          try await rig.client.number(
            "SELECT next_offset FROM ingest_partitions WHERE partition = 1") == 1
        }
        #expect(worker.isRunning)
        #expect(try await rig.messageCount("\(topic)-dlt") == 0)
        mock.mend(.produce)
        try await rig.waitForIngest(messages: 3)
        #expect(try await rig.messageCount("\(topic)-dlt") == 1)
        #expect(rig.count(said) == 1)
        #expect(rig.log().contains("\(topic)-0: dead letters are taken again"))
        await rig.stop(worker)
        #expect(try await rig.client.number("SELECT count(*) FROM behavior_events") == 2)
      }
    }
  }
}
