import Foundation
import KafkaClient
import Testing

@Suite("Produce and consume", .timeLimit(.minutes(5)))
struct ProduceConsumeTests {
  @Test("Keys, values, headers and time come back as they were sent, null apart from empty")
  func roundTrip() async throws {
    let topic = try await Broker.makeTopic()
    let producer = try await Broker.producer()
    let binary = Data((0...255).map { UInt8($0) })
    let headers = [
      KafkaHeader(key: "text", value: "é👍"), KafkaHeader(key: "binary", value: binary),
      KafkaHeader(key: "null", value: nil as Data?), KafkaHeader(key: "empty", value: Data()),
      KafkaHeader(key: "text", value: "again"),
    ]
    // Of the past, within what a broker keeps by default.
    let time = Date(timeIntervalSince1970: (Date().timeIntervalSince1970 - 3_600).rounded() + 0.123)
    let sent = try await producer.send(
      topic: topic, partition: 0, key: binary, value: binary, headers: headers, timestamp: time)
    #expect(sent.partition == 0)
    #expect(sent.offset == 0)
    try await producer.send(topic: topic, key: Data("erase me".utf8), value: nil)
    try await producer.send(topic: topic, key: nil, value: Data("no key".utf8))
    try await producer.send(topic: topic, key: Data(), value: Data())
    await producer.close()

    let consumer = try await Broker.consumer(topic)
    let messages = try await consumer.read(4)
    await consumer.close()
    #expect(messages.map(\.offset) == [0, 1, 2, 3])
    #expect(messages[0].key == binary)
    #expect(messages[0].value == binary)
    #expect(messages[0].headers == headers)
    #expect(messages[0].header("text") == Data("again".utf8))
    #expect(abs(try #require(messages[0].timestamp).timeIntervalSince(time)) < 0.001)
    #expect(messages[1].key == Data("erase me".utf8))
    #expect(messages[1].value == nil)
    #expect(messages[1].headers.isEmpty)
    #expect(messages[2].key == nil)
    #expect(messages[2].value == Data("no key".utf8))
    #expect(messages[3].key == Data())
    #expect(messages[3].value == Data())
  }

  @Test("A pause ends with the assignment: a partition that comes back is read again")
  func pauseEndsWithAssignment() async throws {
    let topic = try await Broker.makeTopic()
    let producer = try await Broker.producer()
    for number in 0..<10 {
      try await producer.send(topic: topic, key: nil, value: Data("\(number)".utf8))
    }
    await producer.close()
    let partition = TopicPartition(topic: topic, partition: 0)
    let consumer = try await Broker.consumer(topic)
    _ = try await consumer.read(10)
    try await consumer.pause([partition])
    try await consumer.unassign([partition])
    try await consumer.assign([partition: 4])
    #expect(try await consumer.read(6).map(\.offset) == Array(4..<10))
    await consumer.close()
  }

  @Test("Assigned offsets decide where reading starts; seek moves it; position follows")
  func offsets() async throws {
    let topic = try await Broker.makeTopic(partitions: 2)
    let producer = try await Broker.producer()
    for number in 0..<10 {
      for partition in [0, 1] as [Int32] {
        try await producer.send(
          topic: topic, partition: partition, key: nil, value: Data("\(number)".utf8))
      }
    }
    await producer.close()
    let first = TopicPartition(topic: topic, partition: 0)
    let second = TopicPartition(topic: topic, partition: 1)
    let consumer = try await Broker.consumer(topic)
    let messages = try await consumer.read(2 + 5, from: { $0 == first ? 8 : 5 })
    #expect(messages.filter { $0.partition == 0 }.map(\.offset) == [8, 9])
    #expect(messages.filter { $0.partition == 1 }.map(\.offset) == [5, 6, 7, 8, 9])
    #expect(try await consumer.position(of: [first, second]) == [first: 10, second: 10])
    let marks = try await consumer.watermarks(of: first)
    #expect(marks.low == 0)
    #expect(marks.high == 10)
    try await consumer.seek([second: 3])
    #expect(try await consumer.read(7).map(\.offset) == Array(3...9))
    try await consumer.pause([first])
    try await consumer.seek([first: 9])
    if case .messages = try await consumer.next(timeout: .milliseconds(700)) {
      Issue.record("a paused partition gave messages")
    }
    try await consumer.resume([first])
    #expect(try await consumer.read(1).map(\.offset) == [9])
    await consumer.close()
  }

  @Test("A thousand messages sent at once are all written, batches stay within the maximum")
  func manyMessages() async throws {
    let topic = try await Broker.makeTopic(partitions: 3)
    // A local queue of ten messages: send has to wait for room, not fail.
    let producer = try await Broker.producer(properties: ["queue.buffering.max.messages": "10"])
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<1000 {
        group.addTask {
          try await producer.send(
            topic: topic, key: Data("key \(number)".utf8), value: Data("\(number)".utf8))
        }
      }
      try await group.waitForAll()
    }
    await producer.close()
    let consumer = try await Broker.consumer(topic)
    var seen: [Int] = []
    while seen.count < 1000 {
      switch try await consumer.next(maximumMessages: 7, timeout: .seconds(60)) {
      case .assigned(let partitions):
        try await consumer.assign(
          Dictionary(uniqueKeysWithValues: partitions.map { ($0, KafkaOffset.beginning) }))
      case .revoked(let partitions, _): try await consumer.unassign(partitions)
      case .messages(let batch):
        #expect((1...7).contains(batch.count))
        seen += batch.compactMap { $0.value.flatMap { Int(String(decoding: $0, as: UTF8.self)) } }
      case .idle, .halted: throw Unexpected("only \(seen.count) messages")
      }
    }
    #expect(seen.sorted() == Array(0..<1000))
    await consumer.close()
  }

  @Test("Who looks at a log beside a group is not bound by its members' intervals")
  func besideGroup() async throws {
    let topic = try await Broker.makeTopic()
    var configuration = try await Broker.configuration()
    // Less than a session's length, which librdkafka refuses of a member that does not shorten that.
    configuration.properties["max.poll.interval.ms"] = "10000"
    let probe = try KafkaLogProbe(configuration: configuration, group: "members")
    let partition = TopicPartition(topic: topic, partition: 0)
    #expect(try await probe.ends(of: [partition])[partition]?.high == 0)
    probe.close()
    try await KafkaTopicReader(configuration: configuration).read(topic) { _ in true }
  }

  @Test("A commit is seen by the admin client and by the group's next member")
  func commit() async throws {
    let topic = try await Broker.makeTopic()
    let group = UUID().uuidString
    let producer = try await Broker.producer()
    for number in 0..<5 {
      try await producer.send(topic: topic, key: nil, value: Data("\(number)".utf8))
    }
    await producer.close()
    let partition = TopicPartition(topic: topic, partition: 0)
    let consumer = try await Broker.consumer(topic, group: group)
    _ = try await consumer.read(5)
    try await consumer.commit([partition: GroupOffset(next: 3, metadata: "ünï 3")])
    await consumer.close()
    let admin = try KafkaAdmin(
      configuration: try await Broker.configuration(), logger: Broker.logger)
    let expected = [partition: GroupOffset(next: 3, metadata: "ünï 3")]
    #expect(try await admin.committedOffsets(group: group, of: [partition]) == expected)
    #expect(try await admin.committedOffsets(group: group) == expected)
    await admin.close()
    let next = try await Broker.consumer(topic, group: group)
    let rest = try await next.read(2, from: { _ in KafkaOffset.stored })
    #expect(rest.map(\.offset) == [3, 4])
    await next.close()
  }

  @Test("A waiting next ends when its task is cancelled, and when the consumer is closed")
  func cancelledNext() async throws {
    let consumer = try await Broker.consumer(try await Broker.makeTopic())
    let waiting = Task {
      while true { _ = try await consumer.next(timeout: .seconds(60)) }
    }
    try await Task.sleep(for: .milliseconds(50))
    let start = ContinuousClock.now
    waiting.cancel()
    await #expect(throws: CancellationError.self) { try await waiting.value }
    #expect(ContinuousClock.now - start < .seconds(30), "not the minute that it may wait")
    await consumer.close()
    let error = await #expect(throws: KafkaError.self) {
      try await consumer.next(timeout: .seconds(1))
    }
    #expect(error?.isFatal == true)
  }

  @Test("Polling without messages counts as being alive")
  func pollInterval() async throws {
    let topic = try await Broker.makeTopic()
    let consumer = try await Broker.consumer(
      topic, properties: ["session.timeout.ms": "6000", "max.poll.interval.ms": "6000"])
    var events: [String] = []
    var end: ContinuousClock.Instant?
    while end.map({ ContinuousClock.now < $0 }) ?? true {
      switch try await consumer.next(timeout: .milliseconds(300)) {
      case .assigned(let partitions):
        events.append("assigned")
        end = end ?? .now + .milliseconds(7_500)
        try await consumer.assign(
          Dictionary(uniqueKeysWithValues: partitions.map { ($0, KafkaOffset.beginning) }))
      case .revoked(let partitions, _):
        events.append("revoked")
        try await consumer.unassign(partitions)
      case .messages, .idle, .halted: break
      }
    }
    #expect(events == ["assigned"])
    await consumer.close()
  }
}
