// The real binary answers: every request gets exactly one reply, whatever it is and whatever happens to the
// worker; and a worker that cannot start says why.

import DevelopmentServers
import Foundation
import JSON
import KafkaClient
import Personalization
import TestSupport
import Testing
import Worker

extension IntegrationTests {
  @Suite(.serialized) struct RequestReply {
    private static let settings = [
      "OPPU_ROLES": "infer", "OPPU_INFER_BATCH_SIZE": "4",
    ]

    private func request(
      _ id: String, task: JSONValue = "film_tag", options: JSONValue = [:]
    ) -> String {
      JSONValue.object([
        "request_id": .string(id), "user_id": "kim", "task": task,
        "input": ["film": "The Winter Bridge (1995): orphaned brothers say a last farewell"],
        "options": options,
      ]).canonical
    }

    private func code(_ reply: JSONValue) -> String? { reply["error"]?["code"]?.string }

    @Test("every request gets exactly one reply, where it asked for it, with its correlation id")
    func replies() async throws {
      try await Rig.with { rig in
        let topic = rig.kafka.requestTopic
        // As Spring's ReplyingKafkaTemplate sends it; any bytes.
        let correlation = KafkaHeader(
          key: "kafka_correlationId", value: Data([0, 0xFF, 1, 0x80, 0x22]))
        let trace = KafkaHeader(key: "traceparent", value: "00-0af7-b7ad-01")
        let spring = [
          KafkaHeader(key: "kafka_replyTopic", value: rig.kafka.replyTopic),
          KafkaHeader(key: "kafka_replyPartition", value: Data([0, 0, 0, 1])), correlation, trace,
        ]
        try await rig.produce(request("spring"), key: "kim", to: topic, headers: spring)
        try await rig.produce(request("base", options: ["adapter": "none"]), key: "kim", to: topic)
        let plain = try await rig.produce("{\"request_id\": ", key: "kim", to: topic)
        try await rig.produce(request("task", task: "nonsense"), key: "kim", to: topic)
        try await rig.produce(request("version", options: ["adapter": 99]), key: "kim", to: topic)
        try await rig.produce(request("option", options: ["top_p": 7]), key: "kim", to: topic)
        try await rig.produce(
          request("late", options: ["deadline_ms": 50]), key: "kim", to: topic,
          timestamp: Date() - 60)

        let worker = try await rig.startWorker(Self.settings)
        let messages = try await rig.read(rig.kafka.replyTopic, count: 7)
        await rig.stop(worker)
        #expect(try await rig.messageCount(rig.kafka.replyTopic) == 7)

        let contract = try AsyncAPI(root: Paths.root)
        var replies: [String: JSONValue] = [:]
        var carriers: [String: KafkaMessage] = [:]
        for message in messages {
          let reply = try message.json()
          #expect(try contract.findings(message, in: "personalizationReplies") == [])
          #expect(message.text("content-type") == "application/json")
          #expect(message.key == Data("kim".utf8))
          let id = try #require(reply["request_id"]?.string)
          replies[id] = reply
          carriers[id] = message
        }
        #expect(replies.count == 7)

        let answer = try #require(replies["spring"])
        #expect(answer["status"] == "ok")
        let labels = try #require(TaskCatalogue.builtIn["film_tag"]).labels
        #expect(labels.contains(answer["output"]?.string ?? ""))
        #expect(answer["model"]?.string?.hasSuffix(".gguf") == true)
        #expect(answer["personalization"]?["adapter_version"] == .null)
        #expect(
          answer["personalization"]?["note"]
            == "this user has no adapter for this task yet")
        #expect((answer["usage"]?["prompt_tokens"]?.number ?? 0) > 5)
        let carrier = try #require(carriers["spring"])
        #expect(carrier.partition == 1)
        #expect(carrier.headers.filter { $0.key.hasPrefix("kafka_") } == [correlation])
        #expect(carrier.headers.contains(trace))
        #expect(carriers["base"]?.headers.count == 1)

        #expect(replies["base"]?["status"] == "ok")
        #expect(replies["base"]?["personalization"]?["note"] == .null)
        #expect(replies["base"]?["output"] == answer["output"])
        let nameless = try #require(replies["\(topic)-\(plain.partition)-\(plain.offset)"])
        #expect(code(nameless) == "invalid_message")
        #expect(replies["task"].flatMap(code) == "unknown_task")
        #expect(replies["version"].flatMap(code) == "unknown_adapter")
        #expect(replies["option"].flatMap(code) == "invalid_message")
        #expect(replies["late"].flatMap(code) == "deadline_exceeded")
      }
    }

    @Test("a worker that is told to stop finishes what it has in hand, and the next goes on there")
    func drain() async throws {
      try await Rig.with { rig in
        // More than a worker answers before it hears of its end, however late that is on a busy machine.
        let ids = (0..<120).map { "r-\($0)" }
        try await rig.produce(
          ids.map {
            OutgoingMessage(
              topic: rig.kafka.requestTopic, key: Data("kim".utf8), value: Data(request($0).utf8))
          })
        let settings = Self.settings.merging(["OPPU_MODEL": Paths.model]) { $1 }
        let first = try await rig.startWorker(settings)
        try await rig.waitForMessages(rig.kafka.replyTopic, count: 1)
        await rig.stop(first)
        let answered = try await rig.messageCount(rig.kafka.replyTopic)
        let second = try await rig.startWorker(settings)
        let messages = try await rig.read(rig.kafka.replyTopic, count: ids.count)
        await rig.stop(second)
        print("drain: \(answered) of \(ids.count) requests answered by the first worker")
        #expect(answered < ids.count, "the first worker was stopped in the middle")
        #expect(try await rig.messageCount(rig.kafka.replyTopic) == ids.count)
        let replied = try messages.map { try $0.json()["request_id"]?.string ?? "" }
        #expect(replied.sorted() == ids.sorted())
      }
    }

    @Test("a worker without database, broker, topics or model ends with 1 and says what is missing")
    func cannotStart() async throws {
      try await Rig.with { rig in
        let port = try LocalPort.free()
        let cases: [(name: String, settings: [String: String], named: [String])] = [
          (
            "database", ["OPPU_DATABASE_URL": "postgresql://oppu@127.0.0.1:\(port)/oppu"],
            ["PostgreSQL", "\(port)"]
          ),
          ("broker", ["OPPU_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:\(port)"], ["\(port)"]),
          ("topics", ["OPPU_KAFKA_BEHAVIOR_TOPIC": "not-there"], ["not-there", "topics create"]),
          ("model", ["OPPU_MODEL": "/nowhere/model.gguf"], ["/nowhere/model.gguf"]),
          ("tasks", ["OPPU_TASKS_FILE": "/nowhere/tasks.yaml"], ["/nowhere/tasks.yaml"]),
        ]
        try await withThrowingTaskGroup(of: Void.self) { group in
          for (name, settings, named) in cases {
            group.addTask {
              let worker = try await rig.startWorker(settings, log: "\(name).log")
              let begin = ContinuousClock.now
              await worker.stop(0, grace: .seconds(120))
              let took = ContinuousClock.now - begin
              let status = worker.endStatus.map(ChildProcess.describe)
              #expect(status == "exit code 1", "without \(name), after \(took)")
              let log = rig.log("\(name).log")
              let sentences = log.split(separator: "\n").filter { $0.hasPrefix("oppu-worker: ") }
              #expect(sentences.count == 1, "\(name): \(log)")
              for word in named {
                #expect(sentences.first?.contains(word) == true, "\(name): \(log)")
              }
              #expect(!log.contains("Fatal error"))
            }
          }
          try await group.waitForAll()
        }
      }
    }
  }
}
