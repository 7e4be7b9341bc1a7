// What the border of the request topic takes, with which defaults, and where the replies go.

import Foundation
import JSON
import KafkaClient
import Personalization
import Testing

@testable import Worker

private func request(
  _ changes: [String: JSONValue?] = [:], key: String? = "kim", headers: [(String, String)] = []
) throws -> PersonalizationRequest {
  var fields: [String: JSONValue] = [
    "request_id": "r-1", "user_id": "kim", "task": "film_tag",
    "input": ["film": "The Winter Bridge (1995)"],
  ]
  for (name, value) in changes { fields[name] = value }
  return try PersonalizationRequest(
    message(text(fields), key: key, headers: headers, topic: "requests"), catalogue: .builtIn)
}

private func options(_ fields: [String: JSONValue]) throws -> RequestOptions {
  try request(["options": .object(fields)]).options
}

@Suite struct RequestTests {
  @Test("a request without options has the defaults")
  func defaults() throws {
    for request in [try request(), try request(["options": .null]), try request(["options": [:]])] {
      #expect(request.requestID == "r-1")
      #expect(request.userID == "kim")
      #expect(request.task.name == "film_tag")
      #expect(request.input == ["film": "The Winter Bridge (1995)"])
      #expect(request.options == RequestOptions())
    }
    let options = RequestOptions()
    #expect(options.temperature == 0 && options.topP == 1 && options.seed == 0)
    #expect(options.adapter == .active)
    #expect(options.maximumTokens == nil && options.retrieve == nil && options.profile == nil)
    #expect(options.deadline == nil)
  }

  @Test("options are read")
  func allOptions() throws {
    let options = try options([
      "max_tokens": 20, "temperature": 0.7, "top_p": 0.9, "seed": 42, "retrieve": 4,
      "profile": true, "adapter": 3, "deadline_ms": 1500, "unknown": "not used",
    ])
    #expect(options.maximumTokens == 20)
    #expect(options.temperature == 0.7)
    #expect(options.topP == 0.9)
    #expect(options.seed == 42)
    #expect(options.retrieve == 4)
    #expect(options.profile == true)
    #expect(options.adapter == .version(3))
    #expect(options.deadline == .milliseconds(1500))
  }

  @Test("more tokens than the operator allows are refused, with the number that is allowed")
  func maximumTokens() throws {
    func ask(for tokens: Int) throws -> RequestOptions {
      try RequestOptions(["max_tokens": .number(Double(tokens))], maximumTokens: 512)
    }
    #expect(try ask(for: 512).maximumTokens == 512)
    let error = #expect(throws: MessageError.self) { try ask(for: 513) }
    #expect(error?.code == .invalidMessage)
    #expect(error?.message.contains("max_tokens must be a whole number from 1 to 512") == true)
  }

  @Test("64-bit unsigned numbers name different users and requests, digit by digit")
  func unsignedNumbers() throws {
    for text in ["14695981039346656037", "14695981039346656038"] {
      let request = try request([
        "user_id": .integer(text), "request_id": .integer(text), "input": ["film": .integer(text)],
      ])
      #expect(request.userID == text)
      #expect(request.requestID == text)
      #expect(JSONValue.object(request.input).canonical == #"{"film":\#(text)}"#)
    }
    for name in ["user_id", "request_id"] {
      let fields =
        name == "user_id"
        ? #""user_id": 0.30000000000000000001"#
        : #""user_id": "kim", "request_id": 0.30000000000000000001"#
      #expect(throws: MessageError.unclearNumber(name)) {
        try PersonalizationRequest(
          message(#"{\#(fields), "task": "film_tag", "input": {"film": "F"}}"#, topic: "requests"),
          catalogue: .builtIn)
      }
    }
  }

  @Test("an adapter is chosen by name or version")
  func adapters() throws {
    #expect(try options(["adapter": "active"]).adapter == .active)
    #expect(try options(["adapter": .null]).adapter == .active)
    #expect(try options(["adapter": "none"]).adapter == .none)
    #expect(try options(["adapter": 1]).adapter == .version(1))
    for wrong: JSONValue in ["latest", "1", 0, -1, 1.5, 2_147_483_648, true, [1]] {
      let error = refusal { _ = try options(["adapter": wrong]) }
      #expect(error?.code == .invalidMessage)
      #expect(error?.message.contains("options.adapter") == true)
    }
  }

  @Test(
    "an option of a wrong type is refused by its name",
    arguments: [
      ("max_tokens", "20"), ("max_tokens", 1.5), ("temperature", "hot"), ("top_p", [1]),
      ("seed", -1), ("seed", 0.5), ("retrieve", true), ("profile", "yes"), ("profile", 1),
      ("deadline_ms", 0.5), ("deadline_ms", .string("1s")),
    ] as [(String, JSONValue)])
  func wrongOptions(_ name: String, _ value: JSONValue) {
    let error = refusal { _ = try options([name: value]) }
    #expect(error?.code == .invalidMessage)
    #expect(error?.message.contains("options.\(name)") == true)
  }

  @Test("options that are no object are refused")
  func optionsNoObject() {
    #expect(refusal { _ = try request(["options": [1]]) }?.message.contains("an array") == true)
  }

  @Test(
    "what cannot be asked is refused with a code",
    arguments: [
      (["task": "nonsense"], MessageError.Code.unknownTask), (["task": nil], .invalidMessage),
      (["input": nil], .invalidMessage), (["input": ["film": ""]], .invalidInput),
      (["input": ["movie": "A"]], .invalidInput), (["user_id": ["kim"]], .invalidMessage),
      (["user_id": .string(String(repeating: "u", count: 257))], .invalidMessage),
    ] as [([String: JSONValue?], MessageError.Code)])
  func refused(_ changes: [String: JSONValue?], _ code: MessageError.Code) {
    #expect(refusal { _ = try request(changes) }?.code == code)
  }

  @Test("the request's id is the message's own, a CloudEvent's, or the place in the topic")
  func requestIDs() throws {
    #expect(try request(["request_id": 17]).requestID == "17")
    #expect(try request(["request_id": nil]).requestID == "requests-3-41")
    #expect(try request(["request_id": ""]).requestID == "requests-3-41")
    let long = JSONValue.string(String(repeating: "r", count: 257))
    #expect(try request(["request_id": long]).requestID == "requests-3-41")
    let cloud = [
      ("ce_specversion", "1.0"), ("ce_type", "t"), ("ce_source", "/app"), ("ce_id", "9"),
    ]
    #expect(try request(["request_id": nil], headers: cloud).requestID == "/app#9")
  }

  @Test("the user is the message's key where the request names none")
  func userFromKey() throws {
    #expect(try request(["user_id": nil], key: "mara").userID == "mara")
    #expect(refusal { _ = try request(["user_id": nil], key: nil) }?.code == .invalidMessage)
  }
}

@Suite struct DeadLetterTests {
  @Test("a dead letter keeps the message's headers and adds where and why")
  func headers() {
    let letter = DeadLetter(
      message: message("x", headers: [("own", "1"), ("own", "2")]),
      error: MessageError(.unknownTask, "there is no task"), stage: "decode")
    #expect(DeadLetter.topic(for: "user-behavior") == "user-behavior-dlt")
    let expected = [
      ("own", "1"), ("own", "2"), ("__connect.errors.topic", "user-behavior"),
      ("__connect.errors.partition", "3"), ("__connect.errors.offset", "41"),
      ("__connect.errors.stage", "decode"),
      ("__connect.errors.exception.class.name", "unknown_task"),
      ("__connect.errors.exception.message", "there is no task"),
    ].map { KafkaHeader(key: $0.0, value: $0.1) }
    #expect(letter.headers == expected)
  }
}
