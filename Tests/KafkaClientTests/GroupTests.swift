import DevelopmentServers
import Foundation
import Synchronization
import Testing

@testable import KafkaClient

@Suite("Groups and failures", .timeLimit(.minutes(5)))
struct GroupTests {
  /// What members of a group saw, and the offsets that stand for PostgreSQL's.
  private final class Ledger: Sendable {
    struct State {
      var values: [String] = []
      var next: [TopicPartition: Int64] = [:]
      var assignments: [String: [Int]] = [:]
      var revocations: [String: Int] = [:]
    }
    let state = Mutex(State())
  }

  private func member(
    _ name: String, topic: String, group: String, properties: [String: String], ledger: Ledger,
    until total: Int
  ) async throws {
    let consumer = try await Broker.consumer(topic, group: group, properties: properties)
    while ledger.state.withLock({ $0.values.count < total }) {
      switch try await consumer.next(maximumMessages: 10, timeout: .milliseconds(200)) {
      case .assigned(let partitions):
        let offsets = ledger.state.withLock { state in
          state.assignments[name, default: []].append(partitions.count)
          return Dictionary(
            uniqueKeysWithValues: partitions.map { ($0, state.next[$0] ?? 0) })
        }
        try await consumer.assign(offsets)
      case .revoked(let partitions, _):
        ledger.state.withLock { $0.revocations[name, default: 0] += 1 }
        try await consumer.unassign(partitions)
      case .messages(let batch):
        // Compare and set, as the transaction on the real offsets does.
        let offsets = ledger.state.withLock { state -> [TopicPartition: Int64] in
          for message in batch where state.next[message.topicPartition] ?? 0 == message.offset {
            state.values.append(String(decoding: message.value ?? Data(), as: UTF8.self))
            state.next[message.topicPartition] = message.offset + 1
          }
          return state.next
        }
        do {
          let own = Set(batch.map(\.topicPartition))
          try await consumer.commit(offsets.filter { own.contains($0.key) })
        } catch let error as KafkaError where error.isRebalance {}
      case .idle, .halted: continue
      }
    }
    await consumer.close()
  }

  /// How a group may agree on partitions, as far as the broker and librdkafka at hand can.
  enum Agreement: String, CaseIterable {
    case eager, cooperative, consumer

    static var possible: [Agreement] {
      let isStandIn = DevelopmentBroker.isStandIn(Broker.executable)
      return allCases.filter { agreement in
        switch agreement {
        case .eager: true
        case .cooperative: !isStandIn && KafkaLibrary.current.supportsIncrementalRebalances
        case .consumer:
          OutsideServers.kafkaHasConsumerProtocol
            && KafkaLibrary.current.supportsConsumerProtocol
        }
      }
    }

    var properties: [String: String] {
      switch self {
      case .eager: [:]
      case .cooperative: ["partition.assignment.strategy": "cooperative-sticky"]
      case .consumer: ["group.protocol": "consumer"]
      }
    }
  }

  @Test(
    "When a second member joins, both share the partitions and no message is lost or doubled",
    arguments: Agreement.possible)
  func rebalance(_ agreement: Agreement) async throws {
    let properties = agreement.properties
    let topic = try await Broker.makeTopic(partitions: 4)
    let group = UUID().uuidString
    let producer = try await Broker.producer()
    let ledger = Ledger()
    let total = 400
    try await withThrowingTaskGroup(of: Void.self) { tasks in
      tasks.addTask {
        try await member(
          "first", topic: topic, group: group, properties: properties, ledger: ledger, until: total)
      }
      tasks.addTask {
        // The second joins once the first reads; the rest is sent once both have partitions.
        for number in 0..<total / 2 {
          try await producer.send(
            topic: topic, partition: Int32(number % 4), key: nil, value: Data("\(number)".utf8))
        }
        while ledger.state.withLock({ $0.values.isEmpty }) {
          try await Task.sleep(for: .milliseconds(20))
        }
        try await withThrowingTaskGroup(of: Void.self) { inner in
          inner.addTask {
            try await member(
              "second", topic: topic, group: group, properties: properties, ledger: ledger,
              until: total)
          }
          while ledger.state.withLock({ $0.assignments["second"]?.contains { $0 > 0 } != true }) {
            try await Task.sleep(for: .milliseconds(20))
          }
          for number in total / 2..<total {
            try await producer.send(
              topic: topic, partition: Int32(number % 4), key: nil, value: Data("\(number)".utf8))
          }
          try await inner.next()
        }
      }
      // One that fails ends the others, which would wait for it for ever.
      while try await tasks.next() != nil {}
    }
    await producer.close()
    let state = ledger.state.withLock { $0 }
    #expect(state.values.compactMap { Int($0) }.sorted() == Array(0..<total))
    #expect(state.assignments["first"]?.first { $0 > 0 } == 4)
    // One by one or all at once.
    let second = state.assignments["second"] ?? []
    #expect(agreement == .eager ? second.first == 2 : second.reduce(0, +) >= 2)
    #expect((state.revocations["first"] ?? 0) >= 1)
  }

  @Test("An unknown property is an error that names it")
  func unknownProperty() async throws {
    let configuration = KafkaConfiguration(
      bootstrapServers: "127.0.0.1:1", properties: ["no.such.thing": "1"])
    let error = #expect(throws: KafkaError.self) {
      try KafkaProducer(configuration: configuration)
    }
    #expect(error?.description.contains("\"no.such.thing\"") == true)
    #expect(throws: KafkaError.self) { try KafkaAdmin(configuration: configuration) }
    #expect(throws: KafkaError.self) {
      try KafkaConsumer(configuration: configuration, group: "g", topics: ["t"])
    }
    #expect(throws: KafkaError.self) {
      try KafkaConsumer(
        configuration: KafkaConfiguration(
          bootstrapServers: "127.0.0.1:1", properties: ["session.timeout.ms": "soon"]),
        group: "g", topics: ["t"])
    }
  }

  @Test("Without a broker, ping and send fail in bounded time; ping names the address")
  func missingBroker() async throws {
    let address = "127.0.0.1:\(try LocalPort.free())"
    let configuration = KafkaConfiguration(
      bootstrapServers: address, properties: ["delivery.timeout.ms": "1000"])
    let admin = try KafkaAdmin(
      configuration: KafkaConfiguration(bootstrapServers: address), logger: Broker.logger)
    let start = ContinuousClock.now
    let ping = await #expect(throws: KafkaError.self) { try await admin.ping(timeout: .seconds(1)) }
    #expect(ping?.description.contains(address) == true)
    #expect(ping?.isRetriable == true)
    let create = await #expect(throws: KafkaError.self) {
      try await admin.createTopics([NewTopic(name: "t", partitions: 1)], timeout: .seconds(1))
    }
    #expect(create?.description.contains(address) == true)
    let producer = try KafkaProducer(configuration: configuration, logger: Broker.logger)
    let send = await #expect(throws: KafkaError.self) {
      try await producer.send(topic: "t", key: nil, value: Data([1]))
    }
    #expect(send?.name == "_MSG_TIMED_OUT")
    #expect(send?.topic == "t")
    #expect(ContinuousClock.now - start < .seconds(60))
    await producer.close()
    await #expect(throws: KafkaError.self) {
      try await producer.send(topic: "t", key: nil, value: Data([1]))
    }
    await admin.close()
  }

  @Test("Closing a producer fails what could not be sent instead of leaving it waiting")
  func closeWithPending() async throws {
    let producer = try KafkaProducer(
      configuration: KafkaConfiguration(bootstrapServers: "127.0.0.1:\(try LocalPort.free())"),
      logger: Broker.logger)
    let pending = Task { try await producer.send(topic: "t", key: nil, value: Data([1])) }
    try await Task.sleep(for: .milliseconds(50))
    await producer.close(timeout: .milliseconds(200))
    await #expect(throws: KafkaError.self) { try await pending.value }
  }

  @Test("Topics are made once, listed, and deleted")
  func topics() async throws {
    let admin = try KafkaAdmin(
      configuration: try await Broker.configuration(), logger: Broker.logger)
    try await admin.ping()
    let (one, two) = ("one-\(UUID().uuidString)", "two-\(UUID().uuidString)")
    #expect(
      try await admin.createTopics([NewTopic(name: one, partitions: 3, replication: 1)])
        == [one: .created])
    let again = try await admin.createTopics([
      NewTopic(name: one, partitions: 3, replication: 1),
      NewTopic(name: two, partitions: 1, replication: 1),
    ])
    #expect(again == [one: .alreadyExists, two: .created])
    let topics = try await admin.listTopics()
    #expect(topics.first { $0.name == one }?.partitionCount == 3)
    #expect(try await admin.watermarks(of: TopicPartition(topic: two, partition: 0)).high == 0)
    #expect(try await admin.deleteTopics([one]).isEmpty)
    #expect(try await !admin.listTopics().contains { $0.name == one })
    await admin.close()
  }

  private func send(_ text: String, to topic: String, with producer: KafkaProducer) async throws {
    let deadline = ContinuousClock.now + .seconds(120)
    while true {
      do {
        try await producer.send(topic: topic, key: nil, value: Data(text.utf8))
        return
      } catch let error as KafkaError where error.isRetriable && ContinuousClock.now < deadline {
        try await Task.sleep(for: .milliseconds(100))
      }
    }
  }

  @Test("A producer whose idempotent session ended for good opens another")
  func endedSession() async throws {
    let topic = try await Broker.makeTopic()
    let producer = try await Broker.producer()
    #expect(try await producer.send(topic: topic, key: nil, value: Data([1])).offset == 0)
    producer.failSession()
    #expect(try await producer.send(topic: topic, key: nil, value: Data([2])).offset == 1)
    await producer.close()
  }

  @Test("A broker that is killed and restarted is picked up again by producer and consumer")
  func brokerRestart() async throws {
    let folder = Broker.folder()
    let first = try await Broker.start(folder: folder)
    let configuration = KafkaConfiguration(
      bootstrapServers: first.bootstrapServers, properties: ["reconnect.backoff.max.ms": "500"])
    let admin = try KafkaAdmin(configuration: configuration, logger: Broker.logger)
    let topic = "survivor"
    _ = try await admin.createTopics([NewTopic(name: topic, partitions: 1, replication: 1)])
    let producer = try KafkaProducer(configuration: configuration, logger: Broker.logger)
    let consumer = try KafkaConsumer(
      configuration: configuration, group: "g", topics: [topic],
      logger: Broker.logger)
    try await producer.send(topic: topic, key: nil, value: Data("before".utf8))
    var seen = try await consumer.read(1)
    // This broker acknowledges before it writes to its folder, which it does within a second.
    try await Task.sleep(for: .seconds(2))
    await first.kill()
    #expect(!first.isRunning)
    // Sent while the broker is gone. This broker forgets its producers, which may end the session:
    // then the error is retriable, and sending again works on the same producer.
    let during = Task { try await send("during", to: topic, with: producer) }
    let second = try await Broker.start(folder: folder, port: first.port)
    try await during.value
    try await send("after", to: topic, with: producer)
    while seen.count < 3 { seen += try await consumer.read(1, from: { _ in Int64(seen.count) }) }
    #expect(
      seen.map { String(decoding: $0.value ?? Data(), as: UTF8.self) }
        == ["before", "during", "after"])
    await consumer.close()
    await producer.close()
    await admin.close()
    await second.stop()
  }
}
