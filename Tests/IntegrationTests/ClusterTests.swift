// Three brokers of Apache Kafka: what becomes of the work where one of them dies, hangs or is missing. Tried where
// OPPU_TEST_KAFKA is set, for the stand-in is one broker.

import DevelopmentServers
import Foundation
import KafkaClient
import Personalization
import Storage
import Synchronization
import Testing

extension IntegrationTests {
  @Suite(.serialized, .enabled(if: OutsideServers.kafka != nil, "OPPU_TEST_KAFKA is not set"))
  struct Clusters {
    private static func with(_ body: (KafkaCluster) async throws -> Void) async throws {
      let cluster = try await KafkaCluster.start(
        script: try #require(OutsideServers.kafka), folder: Servers.folder("cluster"),
        // A broker that hangs is noticed in seconds.
        settings: ["broker.session.timeout.ms": "6000", "replica.lag.time.max.ms": "6000"])
      let result: Result<Void, any Error>
      do { result = .success(try await body(cluster)) } catch { result = .failure(error) }
      await cluster.stop()
      try result.get()
    }

    private static func event(_ number: Int, of user: String) -> String {
      #"{"event_id":"\#(number)","user_id":"\#(user)","task":"film_tag","input":{"film":"F","n":\#(number)}}"#
    }

    private static func request(_ id: String) -> String {
      #"{"request_id":"\#(id)","user_id":"kim","task":"film_tag","input":{"film":"F"}}"#
    }

    /// What was sent while brokers came and went, until it is over.
    private final class Traffic: Sendable {
      private let isOver = Atomic(false)
      private let sent = Mutex((events: 0, requests: 0))

      var isFlowing: Bool { !isOver.load(ordering: .acquiring) }
      var counts: (events: Int, requests: Int) { sent.withLock { $0 } }
      func end() { isOver.store(true, ordering: .releasing) }
      func add(events: Int = 0, requests: Int = 0) {
        sent.withLock {
          $0.events += events
          $0.requests += requests
        }
      }
    }

    /// Two workers under a stream of events and requests while the body does what it does to the brokers; then each
    /// event has to be stored once and in order, and each request to have one reply.
    private static func withTraffic(
      on cluster: KafkaCluster, events rate: Int, requests: Int,
      _ body: (Rig, Traffic) async throws -> Void
    ) async throws {
      let users = 4
      try await Rig.with(partitions: 4, replication: 3, broker: cluster.bootstrapServers) { rig in
        var workers: [ChildProcess] = []
        for number in 0..<2 {
          workers.append(
            try await rig.startWorker(["OPPU_ROLES": "ingest,infer"], log: "worker-\(number).log"))
        }
        let traffic = Traffic()
        try await withThrowingTaskGroup(of: Void.self) { senders in
          for user in 0..<users {
            senders.addTask {
              let more = max(1, rate / users / 5)
              var count = 0
              while traffic.isFlowing {
                try await rig.produce(
                  (count + 1...count + more).map { Self.event($0, of: "u\(user)") },
                  key: "u\(user)", partition: Int32(user))
                count += more
                traffic.add(events: more)
                try await Task.sleep(for: .milliseconds(200))
              }
            }
          }
          senders.addTask {
            while traffic.isFlowing {
              let number = traffic.counts.requests
              try await rig.produce(
                Self.request("r\(number)"), key: "kim", to: rig.kafka.requestTopic,
                partition: Int32(number % 4))
              traffic.add(requests: 1)
              try await Task.sleep(for: .milliseconds(1_000 / requests))
            }
          }
          try await goesOn(rig, traffic)
          try await body(rig, traffic)
          traffic.end()
          while try await senders.next() != nil {}
        }
        let sent = traffic.counts
        try await rig.waitForIngest(messages: sent.events)
        let replies = try await rig.read(rig.kafka.replyTopic, count: sent.requests)
        for worker in workers { await rig.stop(worker) }
        #expect(try await stored(rig) == sent.events)
        #expect(
          try await rig.client.number(
            "SELECT count(*) FROM behavior_events WHERE (input->>'n')::bigint <> ordinal") == 0)
        #expect(try replies.allSatisfy { try $0.json()["status"] == "ok" })
        let answered = try replies.compactMap { try $0.json()["request_id"]?.string }
        #expect(answered.count == sent.requests)
        #expect(Set(answered) == Set((0..<sent.requests).map { "r\($0)" }))
        print("\(sent.events) events, \(sent.requests) requests")
      }
    }

    private static func stored(_ rig: Rig) async throws -> Int {
      try await rig.client.number("SELECT count(*) FROM behavior_events")
    }

    /// Waits until something sent from now on is done.
    private static func goesOn(_ rig: Rig, _ traffic: Traffic) async throws {
      let sent = traffic.counts
      try await eventually("events are stored, and requests answered") {
        let events = try await stored(rig)
        // A leader that hangs, or is one no more, is asked in vain.
        let replies = (try? await rig.messageCount(rig.kafka.replyTopic)) ?? 0
        return events > sent.events && replies > sent.requests
      }
    }

    private enum Trouble: CaseIterable { case killed, held, restarted }

    @Test(
      "a broker killed, one held and one restarted cost no event and no order, and every request has one reply"
    )
    func eachInTurn() async throws {
      var generator = Seeded()
      try await Self.with { cluster in
        try await Self.withTraffic(on: cluster, events: 200, requests: 3) { rig, traffic in
          let troubles = Trouble.allCases.shuffled(using: &generator)
          for (broker, trouble) in zip(cluster.brokers, troubles) {
            switch trouble {
            case .killed:
              try await cluster.signal(SIGKILL, broker: broker)
              try await Self.goesOn(rig, traffic)
              try await cluster.restart(broker: broker)
            case .held:
              // Longer than its session with the controller, and than the group's sessions.
              try await cluster.signal(SIGSTOP, broker: broker)
              try await Task.sleep(for: .seconds(15))
              try await cluster.signal(SIGCONT, broker: broker)
            case .restarted:
              try await cluster.signal(SIGTERM, broker: broker)
              try await Self.goesOn(rig, traffic)
              try await cluster.waitForEnd(broker: broker)
              try await cluster.restart(broker: broker)
            }
            try await Self.goesOn(rig, traffic)
          }
        }
      }
      print("brokers in trouble: seed \(generator.seed)")
    }

    @Test(
      "a rolling restart of all brokers under 500 events and 5 requests a second fails no request")
    func rollingRestart() async throws {
      try await Self.with { cluster in
        try await Self.withTraffic(on: cluster, events: 500, requests: 5) { rig, traffic in
          let watch = Task {
            // The longest time in which nothing was stored.
            var (longest, last, count) = (Duration.zero, ContinuousClock.now, 0)
            while !Task.isCancelled {
              if let now = try? await Self.stored(rig), now > count { (count, last) = (now, .now) }
              longest = max(longest, ContinuousClock.now - last)
              try? await Task.sleep(for: .milliseconds(50))
            }
            return longest
          }
          for broker in cluster.brokers {
            try await cluster.signal(SIGTERM, broker: broker)
            try await cluster.waitForEnd(broker: broker)
            try await cluster.restart(broker: broker)
            try await Self.goesOn(rig, traffic)
          }
          watch.cancel()
          print("the longest pause of ingest: \(await watch.value)")
        }
      }
    }

    @Test("while too few brokers have a copy replies wait; when they are back each comes once")
    func tooFewInSync() async throws {
      try await Self.with { cluster in
        try await Rig.with(
          partitions: 1, replication: 3, broker: cluster.bootstrapServers
        ) { rig in
          try await cluster.run(
            "configs",
            ["--alter", "--entity-type", "topics", "--entity-name", rig.kafka.replyTopic]
              + ["--add-config", "min.insync.replicas=3"])
          let worker = try await rig.startWorker(["OPPU_ROLES": "infer"])
          func ask(_ id: String) async throws {
            try await rig.produce(Self.request(id), key: "kim", to: rig.kafka.requestTopic)
          }
          try await ask("before")
          try await rig.waitForMessages(rig.kafka.replyTopic, count: 1)
          let broker = cluster.brokers.upperBound
          try await cluster.signal(SIGKILL, broker: broker)
          for id in ["one", "two", "three"] { try await ask(id) }
          // What does not happen has no sign to wait for.
          try await Task.sleep(for: .seconds(5))
          var count: Int?
          // A leader that has not caught up yet cannot be asked.
          try await eventually("the replies can be counted") {
            count = try? await rig.messageCount(rig.kafka.replyTopic)
            return count != nil
          }
          #expect(count == 1)
          #expect(try await rig.committedRequests() ?? 0 <= 1)
          try await cluster.restart(broker: broker)
          let replies = try await rig.read(rig.kafka.replyTopic, count: 4)
          await rig.stop(worker)
          #expect(
            try replies.compactMap { try $0.json()["request_id"]?.string }.sorted()
              == ["before", "one", "three", "two"])
          #expect(try await rig.committedRequests() == 4)
        }
      }
    }

    @Test(
      "an unclean election that loses events stops their partition; none behind them is skipped")
    func uncleanElection() async throws {
      try await Self.with { cluster in
        try await Rig.with(partitions: 1, broker: cluster.bootstrapServers) { rig in
          let topic = rig.kafka.behaviorTopic
          // The new leader knows nothing of what a producer's session has written last.
          let producer = try KafkaProducer(
            configuration: KafkaConfiguration(
              bootstrapServers: rig.kafka.bootstrapServers,
              properties: ["enable.idempotence": "false"]), logger: Servers.logger)
          func produce(_ range: ClosedRange<Int>) async throws {
            try await rig.produce(
              range.map {
                OutgoingMessage(
                  topic: topic, partition: 0, key: Data("kim".utf8),
                  value: Data(Self.event($0, of: "kim").utf8))
              }, by: producer)
          }
          // One copy on the leader, the other on a broker that will miss what comes last.
          let (leader, follower) = (1, 2)
          _ = try await rig.withAdmin { try await $0.deleteTopics([topic]) }
          try await cluster.run(
            "topics",
            ["--create", "--topic", topic, "--replica-assignment", "\(leader):\(follower)"]
              + ["--config", "unclean.leader.election.enable=true"])
          let worker = try await rig.startWorker(["OPPU_ROLES": "ingest"])
          try await produce(1...20)
          try await rig.waitForIngest(messages: 20)
          try await cluster.signal(SIGSTOP, broker: follower)
          // The answer to the fetch that it has open still reaches it; what comes after that does not.
          try await produce(21...25)
          try await produce(26...50)
          try await rig.waitForIngest(messages: 50)
          try await cluster.signal(SIGKILL, broker: leader)
          try await cluster.signal(SIGCONT, broker: follower)
          try await produce(51...55)
          let repository = IngestRepository(rig.client)
          func gap() async throws -> LogGap? { try await repository.partitions().first?.gap }
          try await eventually("the partition waits", state: rig.log()) {
            try await gap()?.kind == .truncated
          }
          let found = try #require(try await gap())
          #expect(found.next == 50 && found.low == 0 && found.high <= 30)
          #expect(rig.log().contains("the broker lost messages that had been read"))
          try await repository.reset(topic: topic, offsets: [0: 25], gaps: [0: found])
          try await eventually("what came after is read", state: rig.log()) {
            try await rig.client.number("SELECT count(*) FROM behavior_events") == 55
          }
          await rig.stop(worker)
          await producer.close()
        }
      }
    }
  }
}
