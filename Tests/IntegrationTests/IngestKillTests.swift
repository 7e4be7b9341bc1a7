// Ingest under everything that ends processes and connections: the real binary, a real broker, a real PostgreSQL.

import DevelopmentServers
import Foundation
import KafkaClient
import PostgresClient
import RandomNumbers
import TestSupport
import Testing
import Worker

@testable import Storage

extension IntegrationTests {
  @Suite(.serialized) struct IngestKills {
    private static let partitions: Int32 = 4
    private static let events = 100_000
    private static let repeats = 1_000
    private static let users = 400
    private static let workers = 3

    /// The settings of a worker that only ingests; there is no model where it is said to be.
    private static let settings = [
      "OPPU_ROLES": "ingest", "OPPU_MODEL": "/nowhere/model.gguf",
      "OPPU_INGEST_BATCH_MESSAGES": "750", "OPPU_INGEST_LINGER_MS": "20",
    ]

    // MARK: The stream

    /// What is sent to each partition: every user's events are numbered 1, 2, 3 …; some are sent twice.
    private static func messages(
      topic: String, _ generator: inout Seeded
    ) -> [[OutgoingMessage]] {
      var next = [Int](repeating: 1, count: users)
      var lists = [[OutgoingMessage]](repeating: [], count: Int(partitions))
      for _ in 0..<events {
        let user = Int.random(in: 0..<users, using: &generator)
        let number = next[user]
        next[user] += 1
        let value =
          #"{"event_id":"u\#(user)-\#(number)","user_id":"u\#(user)","task":"film_tag","#
          + #""occurred_at":"2026-01-31T09:30:00Z","input":{"film":"Film \#(number)","n":\#(number)},"#
          + #""output":"funny"}"#
        lists[user % Int(partitions)].append(
          OutgoingMessage(
            topic: topic, partition: Int32(user % Int(partitions)), key: Data("u\(user)".utf8),
            value: Data(value.utf8)))
      }
      // A producer that sends again what it has sent before.
      for _ in 0..<repeats {
        let partition = Int.random(in: 0..<Int(partitions), using: &generator)
        let place = Int.random(in: 1..<lists[partition].count, using: &generator)
        let earlier = lists[partition][Int.random(in: 0..<place, using: &generator)]
        lists[partition].insert(earlier, at: place)
      }
      return lists
    }

    /// What happens when so many messages are stored.
    private enum Blow: Sendable, Equatable {
      case killWorker(Int)
      case killBroker
      case terminate(CommitProxy.Fault)
    }

    /// Each worker three times, the broker once, six COMMITs; from 20 % on, in an order that the seed gives.
    private static func blows(total: Int, _ generator: inout Seeded) -> [(at: Int, blow: Blow)] {
      var blows: [Blow] = (0..<workers).flatMap { Array(repeating: .killWorker($0), count: 3) }
      blows += Array(repeating: .terminate(.terminateBefore), count: 3)
      blows += Array(repeating: .terminate(.terminateAfter), count: 3)
      blows.shuffle(using: &generator)
      blows.insert(.killBroker, at: blows.count / 2)
      return blows.enumerated().map { index, blow in
        (total * 20 / 100 + total * 70 / 100 * index / blows.count, blow)
      }
    }

    // MARK: The test

    @Test("100,000 events: processes, backends and the broker killed, none lost, none doubled")
    func everythingKilled() async throws {
      var generator = Seeded()
      let begin = ContinuousClock.now
      // A broker of its own, for it is killed.
      let folder = Servers.folder("killed-broker")
      var broker = try await DevelopmentBroker.start(
        executable: Paths.broker, folder: folder, logger: Servers.logger)
      try await Rig.with(partitions: Self.partitions, broker: broker.bootstrapServers) { rig in
        let lists = Self.messages(topic: rig.kafka.behaviorTopic, &generator)
        let total = lists.reduce(0) { $0 + $1.count }
        for list in lists { try await rig.produce(list) }
        // The development broker acknowledges before it has written: killed within some 0.2 s of a message it
        // loses it. It is killed in mid-stream, long after the last message came.
        let proxy = try CommitProxy(
          to: try rig.databasePort, admin: rig.client, delay: 400_000)
        var settings = Self.settings
        // Broker and workers killed within a second, the development broker can keep a JoinGroup for good. A
        // client gives one up after max.poll.interval.ms, which is five minutes unless said.
        settings["OPPU_KAFKA_PROPERTIES"] =
          "session.timeout.ms=6000,heartbeat.interval.ms=300,max.poll.interval.ms=12000"
        settings["OPPU_DATABASE_URL"] = try rig.database(by: proxy.port)
        var workers: [ChildProcess] = []
        for number in 0..<Self.workers {
          workers.append(try await rig.startWorker(settings, log: "worker-\(number).log"))
        }
        var kills = [Int](repeating: 0, count: Self.workers)
        // How often each worker had been given partitions when it, or the broker, was last killed.
        var assignments = [Int](repeating: 0, count: Self.workers)
        for (at, blow) in Self.blows(total: total, &generator) {
          try await eventually(
            "\(at) messages taken", every: .milliseconds(5),
            state: await Self.state(of: rig)
          ) { try await Self.taken(rig.client) >= at }
          switch blow {
          case .killWorker(let number):
            // The development broker has no rebalance timeout: a member that dies while the group forms would
            // keep the others waiting for good.
            try await eventually(
              "every worker has its partitions", state: await Self.state(of: rig)
            ) {
              (0..<Self.workers).allSatisfy { Self.assignments(rig, $0, since: assignments[$0]) }
            }
            await workers[number].stop(SIGKILL)
            assignments[number] = Self.assignments(rig, number)
            kills[number] += 1
            workers[number] = try await rig.startWorker(settings, log: "worker-\(number).log")
          case .terminate(let fault): proxy.inject([fault])
          case .killBroker:
            #expect(try await Self.taken(rig.client) < total)
            await broker.kill()
            assignments = (0..<Self.workers).map { Self.assignments(rig, $0) }
            broker = try await DevelopmentBroker.start(
              executable: Paths.broker, folder: folder, port: broker.port, logger: Servers.logger)
            try await Self.produceWhatIsMissing(lists, rig)
          }
        }
        #expect(
          try await Self.taken(rig.client) < total, "the stream was under way to the last blow")
        try await rig.waitForIngest(messages: total)
        for worker in workers {
          await rig.stop(worker)
        }
        proxy.stop()
        #expect(kills == [3, 3, 3])
        #expect(proxy.done.filter { $0 == .terminateBefore }.count == 3)
        #expect(proxy.done.filter { $0 == .terminateAfter }.count == 3)
        try await Self.check(rig, total: total)
        print(
          "ingest kill test: seed \(generator.seed); \(total) messages in batches of 750 by "
            + "\(Self.workers) workers, 9 SIGKILLs, 3 backends terminated before and 3 after COMMIT, "
            + "the broker killed once; \(ContinuousClock.now - begin)")
      }
      await broker.stop()
    }

    private static func assignments(_ rig: Rig, _ worker: Int) -> Int {
      rig.log("worker-\(worker).log").split(
        separator: "ingest assigned", omittingEmptySubsequences: false
      ).count - 1
    }

    /// Whether a worker has been given partitions again and has them still.
    private static func assignments(_ rig: Rig, _ worker: Int, since: Int) -> Bool {
      let parts = rig.log("worker-\(worker).log").split(
        separator: "ingest assigned", omittingEmptySubsequences: false)
      return parts.count - 1 > since && !(parts.last?.contains("ingest revoked") ?? true)
    }

    /// Where ingest stands, and what every worker said last, for a test that fails.
    private static func state(of rig: Rig) async -> String {
      let rows = try? await rig.client.query(
        """
        SELECT string_agg("partition" || ' at ' || next_offset || ' epoch ' || epoch, ', ') AS places
        FROM ingest_partitions
        """)
      let places = (try? rows?.first?.decode("places", as: String?.self)) ?? "?"
      let logs = (0..<workers).map { number in
        let lines = rig.log("worker-\(number).log").split(separator: "\n").filter {
          !$0.contains("CONFWARN")
        }
        return "worker \(number):\n" + lines.suffix(12).joined(separator: "\n")
      }
      return "\npartitions: \(places)\n" + logs.joined(separator: "\n")
    }

    private static func taken(_ client: PostgresClient) async throws -> Int {
      try await client.number(
        "SELECT coalesce(sum(greatest(next_offset, 0)), 0)::bigint FROM ingest_partitions")
    }

    /// A broker that lost acknowledged messages is given them again, as a producer with a record would.
    private static func produceWhatIsMissing(_ lists: [[OutgoingMessage]], _ rig: Rig) async throws
    {
      let admin = try KafkaAdmin(configuration: rig.kafka.client, logger: Servers.logger)
      for (partition, list) in lists.enumerated() {
        let marks = try await admin.watermarks(
          of: TopicPartition(topic: rig.kafka.behaviorTopic, partition: Int32(partition)))
        if marks.high < list.count {
          print(
            "the broker lost \(list.count - Int(marks.high)) messages of partition \(partition)")
          try await rig.produce(Array(list[Int(marks.high)...]))
        }
      }
      await admin.close()
    }

    /// 0 lost, 0 doubled, each user's events in their order.
    private static func check(_ rig: Rig, total: Int) async throws {
      let client = rig.client
      #expect(try await client.number("SELECT count(*) FROM behavior_events") == events)
      #expect(
        try await client.number("SELECT count(DISTINCT event_id) FROM behavior_events") == events)
      // The number that the producer gave is the place in the stream: nothing missing, nothing in between.
      #expect(
        try await client.number(
          """
          SELECT count(*) FROM behavior_events
          WHERE (input->>'n')::bigint <> ordinal OR event_id <> user_id || '-' || ordinal
          """) == 0)
      #expect(
        try await client.number(
          """
          SELECT count(*) FROM (
            SELECT "offset", lag("offset") OVER (PARTITION BY user_id, task ORDER BY ordinal) AS before
            FROM behavior_events) AS x WHERE "offset" <= before
          """) == 0)
      try await Ingest.checkOrdinals(client)
      #expect(
        try await client.number("SELECT sum(events)::bigint FROM ingest_partitions") == events)
      #expect(
        try await client.number("SELECT sum(duplicates)::bigint FROM ingest_partitions")
          == total - events)
      #expect(
        try await client.number("SELECT sum(dead_letters)::bigint FROM ingest_partitions") == 0)
    }

    // MARK: Zombie

    @Test("a worker that was stopped past its session writes nothing when it goes on")
    func zombie() async throws {
      try await Rig.with(partitions: 1) { rig in
        let values = (1...3_000).map {
          #"{"event_id":"\#($0)","user_id":"kim","task":"film_tag","input":{"film":"F","n":\#($0)}}"#
        }
        try await rig.produce(values, key: "kim", partition: 0)
        let proxy = try CommitProxy(to: try rig.databasePort, admin: rig.client, delay: 0)
        proxy.hold(true)
        var settings = Self.settings
        settings["OPPU_DATABASE_URL"] = try rig.database(by: proxy.port)
        // The development broker does not give a silent member's partitions away by itself, so the heir comes
        // under the same member name, as a worker that is started again does.
        settings["OPPU_KAFKA_PROPERTIES"] =
          "session.timeout.ms=6000,heartbeat.interval.ms=300,group.instance.id=\(rig.kafka.groupPrefix)-1"
        // Its first batch is on its way to PostgreSQL when it is stopped.
        let zombie = try await rig.startWorker(settings, log: "zombie.log")
        try await eventually("a batch in hand", state: rig.log("zombie.log")) {
          proxy.held > 0
        }
        zombie.signal(SIGSTOP)
        try await Task.sleep(for: .seconds(7))
        settings["OPPU_DATABASE_URL"] = rig.database
        let heir = try await rig.startWorker(settings, log: "heir.log")
        try await rig.waitForIngest(messages: values.count)
        #expect(try await rig.client.number("SELECT max(epoch) FROM ingest_partitions") == 2)

        // The batch arrives now, and its sender wakes up.
        proxy.hold(false)
        zombie.signal(SIGCONT)
        try await eventually("the zombie notices", state: rig.log("zombie.log")) {
          rig.log("zombie.log").contains("is no longer ours; its batch was dropped")
        }
        try await Task.sleep(for: .seconds(1))
        #expect(
          try await rig.client.number("SELECT count(*) FROM behavior_events") == values.count)
        #expect(
          try await rig.client.number(
            "SELECT count(*) FROM behavior_events WHERE (input->>'n')::bigint <> ordinal") == 0)
        #expect(
          try await rig.client.number("SELECT sum(events)::bigint FROM ingest_partitions")
            == values.count)
        #expect(
          try await rig.client.number("SELECT sum(duplicates)::bigint FROM ingest_partitions") == 0)
        await zombie.stop(SIGTERM)
        await heir.stop(SIGTERM)
        proxy.stop()
      }
    }
  }
}

/// Random numbers that a printed seed repeats: OPPU_TEST_SEED.
struct Seeded: RandomNumberGenerator {
  let seed: UInt64
  private var generator: SplitMix64

  init() {
    seed =
      ProcessInfo.processInfo.environment["OPPU_TEST_SEED"].flatMap { UInt64($0) }
      ?? UInt64.random(in: 0...UInt64.max)
    generator = SplitMix64(seed: seed)
    print("seed \(seed) (OPPU_TEST_SEED=\(seed) repeats it)")
  }

  mutating func next() -> UInt64 { generator.next() }
}
