// A topic of requests whose log changes under its group: every request of the new one is answered.

import DevelopmentServers
import Foundation
import JSON
import KafkaClient
import Personalization
import Testing
import Worker

extension IntegrationTests {
  @Suite(.serialized) struct RequestLogs {
    private static let settings = ["OPPU_ROLES": "infer"]

    /// Requests that are answered without the model: of a task that there is not.
    private func send(_ count: Int, _ name: String, _ rig: Rig) async throws {
      // Another client: the rig's knows the topic before.
      let producer = try KafkaProducer(configuration: rig.kafka.client, logger: Servers.logger)
      try await rig.produce(
        (0..<count).map { number in
          OutgoingMessage(
            topic: rig.kafka.requestTopic, partition: 0, key: Data("kim".utf8),
            value: Data(
              JSONValue.object([
                "request_id": .string("\(name)-\(number)"), "user_id": "kim", "task": "nonsense",
                "input": ["film": "x"],
              ]).canonical.utf8))
        }, by: producer)
      await producer.close()
    }

    /// How often each request was answered, once there are so many replies.
    private func replies(_ count: Int, _ rig: Rig) async throws -> [String: Int] {
      var replies: [String: Int] = [:]
      for message in try await rig.read(rig.kafka.replyTopic, count: count) {
        replies[try message.json()["request_id"]?.string ?? "", default: 0] += 1
      }
      return replies
    }

    private func expect(_ replies: [String: Int], old: Int, new: Int) {
      let ids = (0..<old).map { "old-\($0)" } + (0..<new).map { "new-\($0)" }
      #expect(replies == Dictionary(uniqueKeysWithValues: ids.map { ($0, 1) }))
    }

    @Test(
      "a topic of requests that was made anew while no worker ran is read from its beginning, and lag says so",
      arguments: [(6, 10), (10, 6)])
    func madeAnewMeanwhile(_ old: Int, _ new: Int) async throws {
      try await Rig.with(partitions: 1) { rig in
        try await send(old, "old", rig)
        var worker = try await rig.startWorker(Self.settings)
        _ = try await replies(old, rig)
        await rig.stop(worker)
        #expect(try await rig.committedRequests() == Int64(old))
        try await rig.makeAnew(rig.kafka.requestTopic, partitions: 1)
        try await send(new, "new", rig)
        // A broker that forgets a topic forgets its groups' offsets with it; this one may or may not.
        if try await rig.committedRequests() != nil {
          let (_, output) = try await rig.admin(["lag"])
          #expect(output.contains("the topic was deleted and made anew"))
          #expect(output.contains("\(new) messages wait."))
        }
        worker = try await rig.startWorker(Self.settings)
        expect(try await replies(old + new, rig), old: old, new: new)
        await rig.stop(worker)
        #expect(try await rig.committedRequests() == Int64(new))
      }
    }

    @Test(
      "a topic of requests that is made anew while a worker runs is read from its beginning",
      arguments: [(6, 10), (10, 6)])
    func madeAnewWhileRunning(_ old: Int, _ new: Int) async throws {
      try await Rig.with(partitions: 1) { rig in
        try await send(old, "old", rig)
        let worker = try await rig.startWorker(Self.settings)
        _ = try await replies(old, rig)
        try await rig.makeAnew(rig.kafka.requestTopic, partitions: 1)
        try await send(new, "new", rig)
        // What is read before the change is seen may be answered once more.
        let expected = Set((0..<old).map { "old-\($0)" } + (0..<new).map { "new-\($0)" })
        try await eventually("every request is answered") {
          let count = try await rig.messageCount(rig.kafka.replyTopic)
          return try await Set(replies(count, rig).keys) == expected
        }
        await rig.stop(worker)
        #expect(try await rig.committedRequests() == Int64(new))
      }
    }

    @Test("requests that expired before they were read are told, and those behind them answered")
    func expired() async throws {
      try await Rig.with(partitions: 1) { rig in
        try await send(4, "old", rig)
        var worker = try await rig.startWorker(Self.settings)
        _ = try await replies(4, rig)
        await rig.stop(worker)
        try await send(3, "gone", rig)
        try await send(2, "new", rig)
        try await rig.withAdmin {
          try await $0.deleteRecords(
            before: [TopicPartition(topic: rig.kafka.requestTopic, partition: 0): 7])
        }
        worker = try await rig.startWorker(Self.settings, log: "second.log")
        expect(try await replies(6, rig), old: 4, new: 2)
        await rig.stop(worker)
        #expect(rig.log("second.log").contains("3 messages expired on the broker"))
      }
    }

    @Test(
      "a request with a byte that changes on the way is fetched again, and answered as it was sent")
    func damaged() async throws {
      try await Rig.with(partitions: 1) { rig in
        try await send(3, "old", rig)
        try await send(1, "DAMAGED", rig)
        try await send(3, "new", rig)
        let proxy = try FetchProxy(to: rig.brokerPort, damaging: "DAMAGED", times: 3)
        defer { proxy.stop() }
        let worker = try await rig.startWorker(
          Self.settings.merging([
            "OPPU_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:\(proxy.port)"
          ]) { $1 })
        var answered = try await replies(7, rig)
        #expect(answered.removeValue(forKey: "DAMAGED-0") == 1)
        expect(answered, old: 3, new: 3)
        #expect(proxy.damaged == 3)
        await rig.stop(worker)
      }
    }
  }
}
