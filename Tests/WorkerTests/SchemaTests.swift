// docs/schemas and the code say the same: key sets, codes, limits, and the sample stream.

import Foundation
import JSON
import Personalization
import Storage
import Testing

@testable import Worker

@Suite struct SchemaTests {
  private static func schema(_ name: String) throws -> JSONValue {
    try Repository.json("docs/schemas/\(name).json")
  }

  private func keys(_ value: JSONValue?) -> Set<String> { Set((value?.object ?? [:]).keys) }

  private func strings(_ value: JSONValue?) -> Set<String> {
    Set((value?.array ?? []).compactMap(\.string))
  }

  // MARK: Replies

  private var fullReply: PersonalizationReply {
    PersonalizationReply(
      requestID: "r-1", userID: "kim", task: "film_tag", status: .ok, output: "nineties",
      personalization: .init(
        adapterVersion: 2, taskAdapterVersion: 1, retrieved: ["e-1"], profileVersion: 1,
        note: "why"),
      model: "model.gguf",
      usage: .init(promptTokens: 24, completionTokens: 3, cachedTokens: 0),
      timing: .init(queue: 3.1, load: 1.9, prefill: 61, decode: 0))
  }

  @Test("a reply has exactly the keys of its schema, at every level")
  func replyKeys() throws {
    let schema = try Self.schema("personalization-reply")
    var full = fullReply
    full.error = .init(code: "failed", message: "all parts at once")
    let value = try JSONValue(encoding: full)
    #expect(keys(value) == keys(schema["properties"]))
    #expect(keys(value) == strings(schema["required"]))
    for part in ["personalization", "usage", "timing_ms", "error"] {
      #expect(
        keys(value[part]) == keys(schema["properties"]?[part]?["properties"]))
    }
  }

  @Test("replies with and without an answer are valid, and have all keys")
  func replies() throws {
    let schema = try Self.schema("personalization-reply")
    let check = SchemaCheck(schema: schema)
    let bare = PersonalizationReply(
      requestID: "r-1", userID: "kim", task: "film_tag", status: .ok, output: "nineties",
      personalization: .init(), model: "m", usage: .init(), timing: .init())
    let refused = PersonalizationReply(
      requestID: "topic-0-1", status: .error, model: "m",
      error: .init(code: "invalid_message", message: "no JSON"))
    for reply in [fullReply, bare, refused] {
      let value = try JSONValue(encoding: reply)
      #expect(check.findings(value) == [])
      #expect(keys(value) == strings(schema["required"]))
    }
  }

  @Test("the error codes of the schema are those of the code")
  func codes() throws {
    let error = try Self.schema("personalization-reply")["properties"]?["error"]
    let listed = strings(error?["properties"]?["code"]?["enum"])
    for code in listed {
      let known = try #require(MessageError.Code(rawValue: code), "\(code)")
      // A code that is added has to be added here, and so to the schema.
      switch known {
      case .invalidMessage, .unknownTask, .invalidInput, .deadlineExceeded, .unknownAdapter,
        .unavailable, .failed, .unknownRequest, .invalidReplyAddress:
        break
      }
    }
    #expect(listed.count == 8)
  }

  // MARK: Adapter events

  @Test("an adapter event has exactly the keys of its schema, and its kinds are the code's")
  func adapterEvents() throws {
    let schema = try Self.schema("adapter-event")
    let check = SchemaCheck(schema: schema)
    let stream = StreamID(userID: "kim", task: "film_tag")
    let full = try JSONValue(
      encoding: AdapterEvent(
        kind: .promoted, stream: stream, adapterVersion: 2, parentVersion: 1, jobID: 17,
        reason: "shift", heldOutLoss: 0.4, parentHeldOutLoss: 1.3, removed: ErasureCounts()))
    #expect(keys(full) == keys(schema["properties"]))
    #expect(check.findings(full) == [])
    let kinds = strings(schema["properties"]?["kind"]?["enum"])
    for name in kinds {
      let kind = try #require(AdapterEvent.Kind(rawValue: name), "\(name)")
      switch kind {
      case .shiftDetected, .trainingStarted, .trainingFailed, .promoted, .rejected, .rolledBack,
        .erased:
        break
      }
      let bare = try JSONValue(encoding: AdapterEvent(kind: kind, stream: stream))
      #expect(keys(bare) == strings(schema["required"]))
      #expect(check.findings(bare) == [])
    }
    #expect(kinds.count == 7)
  }

  // MARK: Behaviour events

  @Test("every event of the sample stream is valid, by the schema and by the code")
  func sampleStream() throws {
    let check = SchemaCheck(schema: try Self.schema("behavior-event"))
    let lines = try Repository.lines("examples/sample/events.jsonl")
    var streams: Set<StreamID> = []
    for line in lines {
      #expect(check.findings(try JSONValue(text: line)) == [])
      let event = try event(message(line, key: nil))
      #expect(event.extra == nil)
      streams.insert(event.stream)
    }
    #expect(lines.count == 276)
    #expect(streams.count == 6)
  }

  @Test("the code knows the fields of the behaviour event that the schema lists, and no others")
  func behaviorFields() throws {
    let listed = keys(try Self.schema("behavior-event")["properties"])
    var fields = try #require(try JSONValue(text: filmTag()).object)
    fields["kind"] = "feedback"
    fields["request_id"] = "r-1"
    fields["feedback"] = "edited"
    #expect(Set(fields.keys) == listed)
    fields["another"] = 1
    #expect(try event(text(fields)).extra?.value == ["another": 1])
  }

  @Test(
    "schema and code refuse the same events",
    arguments: [
      ["task": nil], ["input": nil], ["input": "film"], ["kind": "purchase"], ["event_id": true],
      ["event_id": .string(String(repeating: "e", count: 129))], ["user_id": ["kim"]],
      ["output": ["funny"]], ["occurred_at": 5], ["task": ""],
    ] as [[String: JSONValue?]])
  func sameRefusals(_ changes: [String: JSONValue?]) throws {
    let check = SchemaCheck(schema: try Self.schema("behavior-event"))
    let value = filmTag(changes)
    #expect(check.findings(try JSONValue(text: value)) != [])
    #expect(refusal { _ = try event(value) } != nil)
  }

  @Test("an erasure needs no task and no input, by the schema too")
  func erasure() throws {
    let check = SchemaCheck(schema: try Self.schema("behavior-event"))
    #expect(check.findings(["user_id": "kim", "kind": "erase"]) == [])
    #expect(check.findings(["user_id": "kim", "kind": "feedback"]) != [])
  }

  // MARK: Requests

  @Test("every request of the sample is valid, by the schema and by the code")
  func sampleRequests() throws {
    let check = SchemaCheck(schema: try Self.schema("personalization-request"))
    let requests =
      try Repository.json("examples/sample/requests.json")["requests"]?.array ?? []
    #expect(!requests.isEmpty)
    for request in requests {
      #expect(check.findings(request) == [])
      _ = try PersonalizationRequest(message(request.canonical), catalogue: .builtIn)
    }
  }

  @Test("the limits of the options in the schema are those of the code")
  func optionLimits() throws {
    let schema = try Self.schema("personalization-request")
    let options = schema["properties"]?["options"]?["properties"]?.object ?? [:]
    #expect(options.count == 8)
    for (name, rule) in options {
      // Every option that the schema lists is one that the code reads.
      #expect(refusal { _ = try RequestOptions(.object([name: [:]])) } != nil, "\(name)")
      _ = try RequestOptions(.object([name: .null]))
      let numeric = rule["anyOf"]?.array?.last ?? rule
      guard let low = numeric["minimum"]?.number, let high = numeric["maximum"]?.number
      else { continue }
      let step = numeric["type"]?.canonical.contains("integer") == true ? 1 : 0.00005
      for inside in [low, high] {
        #expect(
          refusal { _ = try RequestOptions(.object([name: .number(inside)])) } == nil, "\(name)")
      }
      for outside in [low - step, high + max(step, high / 1000)] {
        #expect(
          refusal { _ = try RequestOptions(.object([name: .number(outside)])) } != nil, "\(name)")
      }
    }
  }

  @Test("the schemas use no keyword that the check does not know")
  func keywords() throws {
    for name in [
      "behavior-event", "personalization-request", "personalization-reply", "adapter-event",
    ] {
      let findings = SchemaCheck(schema: try Self.schema(name)).findings([:])
      #expect(!findings.contains { $0.contains("does not know") })
    }
  }
}
