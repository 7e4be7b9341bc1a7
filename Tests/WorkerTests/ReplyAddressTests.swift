// Where replies may go, and how far a partition may be committed while they are on their way.

import Foundation
import KafkaClient
import RandomNumbers
import Storage
import Testing

@testable import Worker

@Suite struct ReplyAddressTests {
  private let topics: ReplyTopics = {
    var kafka = WorkerConfiguration().kafka
    kafka.replyTopic = "replies"
    return ReplyTopics(kafka, patterns: ["*"])
  }()

  private func address(_ headers: [KafkaHeader]) -> ReplyAddress {
    var message = message("{}")
    message.headers = headers
    return ReplyAddress(message, allowed: topics)
  }

  @Test("without headers the reply goes to the default topic, to the key's partition")
  func plain() {
    let address = address([])
    #expect(address.topic == "replies")
    #expect(address.partition == nil)
    #expect(address.echoed.isEmpty)
  }

  @Test(
    "Spring's headers name topic and partition, and the correlation id comes back byte for byte")
  func spring() {
    // As ReplyingKafkaTemplate sends them: UUID bytes and a big-endian int.
    let correlation = KafkaHeader(key: "kafka_correlationId", value: Data([0, 0xFF, 0x80, 0, 7]))
    let address = address([
      KafkaHeader(key: "kafka_replyTopic", value: "app-replies"),
      KafkaHeader(key: "kafka_replyPartition", value: Data([0, 0, 1, 2])), correlation,
      KafkaHeader(key: "other", value: "stays behind"),
    ])
    #expect(address.topic == "app-replies")
    #expect(address.partition == 258)
    #expect(address.echoed == [correlation])
  }

  @Test("plain headers do the same, and trace context passes through")
  func plainHeaders() {
    let echoed = [
      KafkaHeader(key: "correlation-id", value: "abc"),
      KafkaHeader(key: "traceparent", value: "00-11-22-01"),
      KafkaHeader(key: "tracestate", value: nil),
    ]
    let address = address([KafkaHeader(key: "reply-to", value: "other")] + echoed)
    #expect(address.topic == "other")
    #expect(address.echoed == echoed)
  }

  @Test(
    "a reply topic that Kafka would not allow is the default topic",
    arguments: [
      "", ".", "..", "a b", "päckchen", "a/b", "a\u{0}", String(repeating: "t", count: 250),
    ])
  func illegalTopics(_ name: String) {
    let address = address([KafkaHeader(key: "reply-to", value: name)])
    #expect(address.topic == "replies")
    #expect(address.refusal == nil)
    #expect(address.notes.count == 1)
  }

  @Test("names with every legal character are taken up to 249 bytes")
  func legalTopics() {
    for name in ["a", "A-z_0.9", String(repeating: "t", count: 249)] {
      #expect(address([KafkaHeader(key: "kafka_replyTopic", value: name)]).topic == name)
    }
  }

  @Test(
    "a partition that is neither four bytes nor decimal text, or negative, is none, and that is said",
    arguments: [
      Data(), Data([1]), Data([0, 0, 0, 0, 1]), Data([0xFF, 0xFF, 0xFF, 0xFF]), Data("-1".utf8),
      Data("1 ".utf8), Data("99999999999".utf8),
    ])
  func illegalPartitions(_ bytes: Data) {
    let address = address([
      KafkaHeader(key: "reply-to", value: "other"),
      KafkaHeader(key: "kafka_replyPartition", value: bytes),
    ])
    #expect(address.topic == "other")
    #expect(address.partition == nil)
    #expect(address.refusal == nil)
    #expect(address.notes.count == 1 && address.notes[0].contains("kafka_replyPartition"))
  }

  @Test("a partition is taken as decimal text too, as NestJS writes it")
  func textPartitions() {
    for (text, number) in [("0", 0), ("7", 7), ("0012", 12), ("2147483647", 2_147_483_647)] {
      let address = address([KafkaHeader(key: "kafka_replyPartition", value: text)])
      #expect(address.partition == Int32(number))
      #expect(address.notes.isEmpty)
    }
  }
}

@Suite struct ReplyTopicsTests {
  private func topics(_ patterns: [String]) -> ReplyTopics {
    ReplyTopics(WorkerConfiguration().kafka, patterns: patterns)
  }

  @Test("by default the configured reply topic and what ends in -replies are allowed")
  func byDefault() {
    let topics = topics(WorkerConfiguration().infer.replyTopics)
    for name in ["personalization-replies", "app-replies", "-replies"] {
      #expect(topics.allows(name), "\(name)")
    }
    for name in ["app-answers", "replies", "app-replies-2", "user-behavior"] {
      #expect(!topics.allows(name), "\(name)")
    }
  }

  @Test(
    "the worker's own topics, dead letters and Kafka's own are never allowed, whatever the patterns"
  )
  func own() {
    let topics = topics(["*", "user-behavior", "__consumer_offsets"])
    for name in [
      "user-behavior", "user-behavior-dlt", "personalization-requests",
      "personalization-requests-dlt", "adapter-events", "personalization-replies-dlt",
      "__consumer_offsets", "__transaction_state",
    ] {
      #expect(!topics.allows(name), "\(name)")
    }
    #expect(topics.allows("personalization-replies"))
    #expect(topics.allows("anything"))
  }

  @Test("a star stands for anything, also for nothing, as often as it comes")
  func patterns() {
    let cases: [(pattern: String, taken: [String], refused: [String])] = [
      ("a*b", ["ab", "a-b", "aabb"], ["a", "b", "abc", "xab"]),
      ("a*b*c", ["abc", "a1b2c", "abbc"], ["acb", "ac", "abcd"]),
      ("*x*", ["x", "axb"], ["", "y"]), ("ab*ba", ["abba", "abxba"], ["aba"]),
      ("exact", ["exact"], ["exactly"]), ("", [], ["a"]),
    ]
    for (pattern, taken, refused) in cases {
      let topics = topics([pattern])
      for name in taken { #expect(topics.allows(name), "\(pattern) \(name)") }
      for name in refused { #expect(!topics.allows(name), "\(pattern) \(name)") }
    }
  }

  @Test(
    "a request for a reply elsewhere is refused, with the sentence going to the configured topic")
  func refused() {
    var message = message("{}")
    message.headers = [
      KafkaHeader(key: "kafka_replyTopic", value: "user-behavior"),
      KafkaHeader(key: "kafka_replyPartition", value: "1"),
      KafkaHeader(key: "correlation-id", value: "c"),
    ]
    let address = ReplyAddress(message, allowed: topics(["*"]))
    #expect(address.topic == "personalization-replies")
    #expect(address.partition == nil)
    #expect(address.echoed.map(\.key) == ["correlation-id"])
    #expect(address.refusal?.code == .invalidReplyAddress)
    #expect(address.refusal?.message.contains("user-behavior") == true)
  }
}

@Suite struct CommitWatermarkTests {
  @Test("what may be committed is everything before the first request that is under way")
  func random() {
    var generator = SystemRandomNumberGenerator()
    let seed = UInt64.random(in: 0...UInt64.max, using: &generator)
    var random = SplitMix64(seed: seed)
    for _ in 0..<200 {
      var watermark = CommitWatermark()
      var offset = Int64.random(in: 0...5, using: &random)
      var begun: [Int64] = []
      var open: Set<Int64> = []
      for _ in 0..<Int.random(in: 1...400, using: &random) {
        if open.isEmpty || Bool.random(using: &random) {
          watermark.begin(LogMark(offset: offset, digest: offset))
          begun.append(offset)
          open.insert(offset)
          offset += Int64.random(in: 1...3, using: &random)  // gaps, as transactions leave them
        } else if let done = open.randomElement(using: &random) {
          open.remove(done)
          watermark.finish(done)
        }
        let finished = begun.prefix { !open.contains($0) }
        #expect(watermark.next == finished.last.map { $0 + 1 }, "seed \(seed)")
        #expect(watermark.count == begun.count - finished.count, "seed \(seed)")
      }
    }
  }

  @Test("a partition that comes back begins anew: what was under way before counts for nothing")
  func terms() {
    let open = OpenRequests()
    func place(_ offset: Int64) -> OpenRequests.Place {
      open.begin(message("{}", partition: 0, offset: offset))
    }
    let partition = TopicPartition(topic: "user-behavior", partition: 0)
    let (first, second) = (place(4), place(5))
    open.finish(second, isDone: true)
    #expect(open.uncommitted().isEmpty)
    open.forget([partition])
    let again = place(4)
    open.finish(first, isDone: true)
    #expect(open.uncommitted().isEmpty)
    #expect(open.count == 1)
    open.finish(again, isDone: true)
    #expect(open.uncommitted().mapValues(\.offset) == [partition: 4])
    open.committed(open.uncommitted())
    #expect(open.uncommitted().isEmpty)
    open.finish(place(6), isDone: false)
    open.finish(place(7), isDone: true)
    #expect(open.uncommitted().isEmpty, "6 was left undone")
  }
}
