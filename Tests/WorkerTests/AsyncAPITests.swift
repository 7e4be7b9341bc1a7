// docs/asyncapi.yaml is AsyncAPI, and says what docs/schemas, the settings and the code say.

import CRDKafka
import Foundation
import JSON
import Personalization
import Storage
import Testing

@testable import KafkaClient
@testable import Worker

@Suite struct AsyncAPITests {
  private let contract: AsyncAPI

  init() throws { contract = try AsyncAPI(root: Repository.root) }

  /// AsyncAPI's own schema, as it is published (Apache License 2.0), without spaces.
  private func published() throws -> SchemaCheck {
    let schema = try Repository.json("Tests/WorkerTests/Fixtures/asyncapi-3.1.0.json")
    return SchemaCheck(schema: schema, documents: schema["definitions"]?.object ?? [:])
  }

  @Test("the contract is valid AsyncAPI 3.1, by AsyncAPI's published schema")
  func isValid() throws {
    #expect(contract.document["asyncapi"] == "3.1.0")
    #expect(try published().findings(contract.document) == [])
  }

  @Test(
    "the check of AsyncAPI documents finds what is wrong",
    arguments: [
      "info", "channels.userBehavior.adress", "operations.answer.action",
      "components.securitySchemes.saslPlain.type", "servers.plain.host",
      "components.messageBindings.byUser.kafka.key.type",
    ])
  func isChecked(_ place: String) throws {
    func changed(_ value: JSONValue, _ path: ArraySlice<Substring>) -> JSONValue {
      guard let name = path.first.map(String.init) else { return .array([.number(7)]) }
      var members = value.object ?? [:]
      members[name] = changed(members[name] ?? .null, path.dropFirst())
      return .object(members)
    }
    let broken = changed(contract.document, place.split(separator: ".")[...])
    #expect(try !published().findings(broken).isEmpty)
  }

  @Test(
    "every reference of the contract leads somewhere, and every schema of docs/schemas is in it")
  func references() throws {
    let references = AsyncAPI.references(in: contract.document)
    for place in references where place.hasPrefix("#") {
      #expect(contract.value(at: place) != nil, "\(place)")
    }
    let folder = Repository.root.appendingPathComponent("docs/schemas").path
    let files = try FileManager.default.contentsOfDirectory(atPath: folder)
    #expect(Set(contract.schemas.keys) == Set(files.map { "./schemas/\($0)" }))
  }

  @Test("its topics are those that `admin topics create` makes")
  func topics() {
    let addresses = (contract.document["channels"]?.object ?? [:]).values
      .compactMap { $0["address"]?.string }
    #expect(addresses.sorted() == WorkerConfiguration().topics(partitions: 1).map(\.name).sorted())
  }

  @Test("its examples are messages of their channels")
  func examples() throws {
    var count = 0
    for message in (contract.document["components"]?["messages"]?.object ?? [:]).values {
      for example in message["examples"]?.array ?? [] {
        let payload = try #require(message["payload"])
        #expect(contract.check(payload).findings(example["payload"] ?? .null) == [])
        count += 1
      }
    }
    #expect(count == 3)
  }

  @Test(
    "what a worker takes is in the contract: plain, as a CloudEvent in both forms, and an erasure")
  func taken() throws {
    let plain = try #require(try Repository.lines("examples/sample/events.jsonl").first)
    let binary = [
      ("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_source", "/app"), ("ce_type", "tagged"),
    ]
    let structured =
      "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/app\",\"type\":\"tagged\",\"data\":\(plain)}"
    let content = [("content-type", "application/cloudevents+json; charset=utf-8")]
    for message in [
      message(plain), message(plain, headers: binary), message(structured, headers: content),
      message(nil),
    ] {
      #expect(try contract.findings(message, in: "userBehavior") == [])
    }
    let incomplete = message(plain, headers: Array(binary.dropLast()))
    #expect(try contract.findings(incomplete, in: "userBehavior") != [])
  }

  @Test("a reply's headers are those that the contract allows, whatever its request brought")
  func echoed() throws {
    let request = message(
      "{}",
      headers: [
        ("kafka_replyTopic", "a-replies"), ("kafka_correlationId", "1"), ("correlation-id", "2"),
        ("traceparent", "3"), ("tracestate", "4"), ("ce_id", "5"), ("other", "6"),
      ])
    let topics = ReplyTopics(WorkerConfiguration().kafka, patterns: ["*-replies"])
    let echoed = Set(ReplyAddress(request, allowed: topics).echoed.map(\.key))
    let allowed = contract.document["components"]?["schemas"]?["replyHeaders"]?["properties"]
    #expect(echoed.union(["content-type"]) == Set((allowed?.object ?? [:]).keys))
  }

  @Test("a dead letter is one of the contract's, with every header that it can have")
  func deadLetters() throws {
    let source = message(String(repeating: "x", count: 70_000), headers: [("own", "1")])
    let letter = DeadLetter(
      message: source, error: MessageError(.unknownTask, "no such task"), stage: "decode",
      logNumber: 2)
    let tooLarge = KafkaError(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
    let cut = try #require(letter.outgoing(after: tooLarge, of: letter.outgoing))
    for outgoing in [letter.outgoing, cut] {
      var sent = source
      sent.headers = outgoing.headers
      #expect(try contract.findings(sent, in: "behaviorDeadLetters") == [])
    }
    let known = contract.document["components"]?["schemas"]?["deadLetterHeaders"]?["properties"]
    let names = Set(cut.headers.map(\.key)).subtracting(["own"])
    #expect(names == Set((known?.object ?? [:]).keys))
  }
}
