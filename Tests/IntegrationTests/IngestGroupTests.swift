// Ingest in a group: partitions that move, eagerly or one by one, and a database that keeps everybody waiting.

import DevelopmentServers
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
        try await expectAll(4_800, of: rig)
      }
    }

    /// The ways in which a group may agree on partitions, as far as the broker and librdkafka at hand have them.
    private static var agreements: [[String: String]] {
      let library = KafkaLibrary.current
      var all = [["partition.assignment.strategy": "range,roundrobin"]]
      if OutsideServers.kafka != nil, library.supportsIncrementalRebalances {
        all.append(["partition.assignment.strategy": "cooperative-sticky"])
      }
      if canUseConsumerProtocol { all.append(consumerProtocol) }
      return all
    }

    private static let consumerProtocol = ["group.protocol": "consumer"]
    private static var canUseConsumerProtocol: Bool {
      OutsideServers.kafkaHasConsumerProtocol && KafkaLibrary.current.supportsConsumerProtocol
    }

    /// An ingest service that is a member of the group until it is told to leave.
    private struct Member {
      private let task: Task<Void, any Error>
      private let end: AsyncStream<Never>.Continuation

      init(of rig: Rig, _ properties: [String: String]) {
        let (stream, end) = AsyncStream<Never>.makeStream()
        self.end = end
        task = Task {
          try await rig.withIngest(properties: properties) { for await _ in stream {} }
        }
      }

      func leave() async throws {
        end.finish()
        try await task.value
      }
    }

    /// Every partition has a user of its own, whose events are numbered as they were sent.
    private func expectAll(_ total: Int, of rig: Rig) async throws {
      #expect(try await rig.client.number("SELECT count(*) FROM behavior_events") == total)
      #expect(
        try await rig.client.number(
          "SELECT count(*) FROM behavior_events WHERE (input->>'n')::bigint <> ordinal") == 0)
      #expect(
        try await rig.client.number("SELECT sum(duplicates)::bigint FROM ingest_partitions") == 0)
      try await Ingest.checkOrdinals(rig.client)
    }

    @Test(
      "members that come and go at random lose no event, double none and keep the order",
      arguments: agreements)
    func comingAndGoing(_ properties: [String: String]) async throws {
      // A thousand for a night.
      let moves =
        ProcessInfo.processInfo.environment["OPPU_TEST_REBALANCES"].flatMap { Int($0) } ?? 12
      let partitions = 8
      var generator = Seeded()
      try await Rig.with(partitions: Int32(partitions)) { rig in
        var sent = [Int](repeating: 0, count: partitions)
        var members: [Member] = []
        var joined = 0
        for _ in 0..<moves {
          let joins = members.count < 2 || (members.count < 4 && Bool.random(using: &generator))
          if joins {
            joined += 1
            members.append(Member(of: rig, properties))
          } else {
            let index = Int.random(in: 0..<members.count, using: &generator)
            try await members.remove(at: index).leave()
          }
          for partition in 0..<partitions {
            let more = Int.random(in: 0..<20, using: &generator)
            let range = sent[partition]..<sent[partition] + more
            try await rig.produce(
              values(range, user: "u\(partition)"), key: "u\(partition)",
              partition: Int32(partition))
            sent[partition] += more
          }
          // Now and then the next comes while the group is still at this one, which the stand-in does not finish.
          if OutsideServers.kafka == nil || Int.random(in: 0..<4, using: &generator) > 0 {
            try await rig.waitForIngest(messages: sent.reduce(0, +))
          }
        }
        try await rig.waitForIngest(messages: sent.reduce(0, +))
        for member in members { try await member.leave() }
        try await expectAll(sent.reduce(0, +), of: rig)
        let claims = try await rig.client.number("SELECT sum(epoch)::bigint FROM ingest_partitions")
        print(
          "\(moves) moves, \(joined) joins, \(claims) claims by \(properties): seed \(generator.seed)"
        )
      }
    }

    @Test(
      "a group changes to the protocol of Kafka 4 member by member, and loses nothing",
      .enabled(if: canUseConsumerProtocol, "needs Apache Kafka 4 and librdkafka 2.12"))
    func rollingChange() async throws {
      try await Rig.with(partitions: 4) { rig in
        var sent = 0
        func produce() async throws {
          for partition in 0..<4 {
            try await rig.produce(
              values(sent..<sent + 50, user: "u\(partition)"), key: "u\(partition)",
              partition: Int32(partition))
          }
          sent += 50
          try await rig.waitForIngest(messages: 4 * sent)
        }
        var members = [Member(of: rig, [:]), Member(of: rig, [:])]
        try await produce()
        for _ in 0..<2 {
          members.append(Member(of: rig, Self.consumerProtocol))
          try await produce()
          try await members.removeFirst().leave()
          try await produce()
        }
        for member in members { try await member.leave() }
        try await expectAll(4 * sent, of: rig)
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
