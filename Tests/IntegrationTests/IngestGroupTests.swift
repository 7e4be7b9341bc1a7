// Ingest in a group: partitions that move, eagerly or one by one, and a database that keeps everybody waiting.

import Foundation
import KafkaClient
import PostgresClient
import Testing
import Worker

@testable import Storage

extension IntegrationTests {
  @Suite(.serialized) struct IngestGroups {
    private func values(_ range: Range<Int>, user: String) -> [String] {
      range.map {
        #"{"event_id":"\#($0)","user_id":"\#(user)","task":"film_tag","input":{"film":"F","n":\#($0 + 1)}}"#
      }
    }

    @Test(
      "partitions that move to another member and back lose no event and no order",
      arguments: KafkaLibrary.current.supportsIncrementalRebalances
        ? ["range,roundrobin", "cooperative-sticky"] : ["range,roundrobin"])
    func rebalance(_ strategy: String) async throws {
      // The mock broker waits nearly for a session's length for members that may still come.
      let properties = [
        "partition.assignment.strategy": strategy, "session.timeout.ms": "3000",
      ]
      let partitions: Int32 = 4
      // The development broker does not finish a cooperative rebalance: its second round is never answered.
      try await Rig.withMock(partitions: partitions) { rig, _ in
        func produce(_ range: Range<Int>) async throws {
          for partition in 0..<partitions {
            try await rig.produce(
              values(range, user: "u\(partition)"), key: "u\(partition)", partition: partition)
          }
        }
        try await rig.withIngest(properties: properties) {
          try await produce(0..<500)
          try await rig.waitForIngest(messages: 2_000)
          try await rig.withIngest(properties: properties) {
            async let more: Void = produce(500..<1_000)
            // Claims tell that partitions have moved.
            try await eventually("another member has partitions") {
              try await rig.client.number("SELECT sum(epoch)::bigint FROM ingest_partitions")
                > Int(partitions)
            }
            try await more
            try await rig.waitForIngest(messages: 4_000)
          }
          if strategy == "cooperative-sticky" {
            let untouched = try await rig.client.number(
              "SELECT count(*) FROM ingest_partitions WHERE epoch = 1")
            // Not so on the mock broker: every partition is claimed again, without loss. Why is open.
            withKnownIssue("what did not move is claimed again all the same", isIntermittent: true)
            {
              #expect(untouched >= 2)
            }
          }
          try await produce(1_000..<1_200)
          try await rig.waitForIngest(messages: 4_800)
        }
        #expect(try await rig.client.number("SELECT count(*) FROM behavior_events") == 4_800)
        #expect(
          try await rig.client.number(
            "SELECT count(*) FROM behavior_events WHERE (input->>'n')::bigint <> ordinal") == 0)
        #expect(
          try await rig.client.number("SELECT sum(duplicates)::bigint FROM ingest_partitions") == 0)
        try await Ingest.checkOrdinals(rig.client)
      }
    }

    @Test("a database that keeps a batch waiting past max.poll.interval.ms costs no partition")
    func backPressure() async throws {
      try await Rig.with { rig in
        var settings = WorkerConfiguration.Ingest()
        settings.batchMessages = 50
        let properties = ["max.poll.interval.ms": "6000"]
        try await rig.withIngest(settings, properties: properties) {
          try await rig.produce(values(0..<100, user: "kim"), key: "kim", partition: 0)
          try await rig.waitForIngest(messages: 100)
          try await rig.client.withTransaction { blocker in
            try await blocker.execute(
              "SELECT 1 FROM ingest_partitions WHERE partition = 0 FOR UPDATE")
            try await rig.produce(values(100..<3_000, user: "kim"), key: "kim", partition: 0)
            // The partition that is not blocked goes on meanwhile.
            try await rig.produce(values(0..<200, user: "mara"), key: "mara", partition: 1)
            try await eventually("the other partition goes on") {
              try await rig.client.number(
                "SELECT next_offset FROM ingest_partitions WHERE partition = 1") == 200
            }
            try await Task.sleep(for: .milliseconds(7_500))
          }
          try await rig.waitForIngest(messages: 3_200)
        }
        #expect(try await rig.client.number("SELECT max(epoch) FROM ingest_partitions") == 1)
        #expect(
          try await rig.client.number(
            "SELECT count(*) FROM behavior_events WHERE (input->>'n')::bigint <> ordinal") == 0)
        #expect(try await rig.client.number("SELECT count(*) FROM behavior_events") == 3_200)
      }
    }
  }
}
