// What the border of the behaviour topic takes, and what it refuses with which words.

import Cryptography
import Foundation
import JSON
import KafkaClient
import Personalization
import Storage
import Testing

@testable import Worker

@Suite struct BehaviorEventTests {
  @Test("a plain event is taken with all its fields")
  func plain() throws {
    let event = try WorkerTests.event(
      filmTag(["kind": "feedback", "request_id": "r-9", "feedback": "edited"]))
    #expect(event.eventID == "e-1")
    #expect(event.verdict == "edited")
    #expect(event.stream == StreamID(userID: "kim", task: "film_tag"))
    #expect(event.kind == "feedback")
    #expect(event.requestID == "r-9")
    #expect(event.occurredAt == Date(timeIntervalSince1970: 1_769_851_800))
    #expect(event.input.value == ["film": "The Paper Harbour (1994)"])
    #expect(event.output == "nineties")
    #expect(event.extra == nil)
    #expect(event.offset == 41)
  }

  @Test("absent fields come from the message: kind, user, time and identity")
  func defaults() throws {
    let event = try WorkerTests.event(
      filmTag(["event_id": nil, "user_id": nil, "occurred_at": nil, "output": nil]))
    #expect(event.kind == "interaction")
    #expect(event.stream.userID == "kim")
    #expect(event.eventID == "user-behavior-3-41")
    #expect(event.occurredAt == Date(timeIntervalSince1970: 1_769_850_000))
    #expect(event.output == nil)
  }

  @Test("null is the same as absent")
  func nulls() throws {
    let event = try WorkerTests.event(
      filmTag(["event_id": .null, "user_id": .null, "output": .null, "request_id": .null]))
    #expect(event.eventID == "user-behavior-3-41")
    #expect(event.stream.userID == "kim")
    #expect(event.output == nil)
    #expect(event.requestID == nil)
  }

  @Test("identifiers may be numbers, also those that a double cannot hold")
  func numbers() throws {
    let event = try WorkerTests.event(
      filmTag(["event_id": .integer("9007199254740993"), "user_id": 4711]))
    #expect(event.eventID == "9007199254740993")
    #expect(event.stream.userID == "4711")
  }

  @Test("64-bit unsigned numbers name different users and events, digit by digit")
  func unsignedNumbers() throws {
    let texts = ["14695981039346656037", "14695981039346656038"]
    let events = try texts.map { text in
      try WorkerTests.event(filmTag(["event_id": .integer(text), "user_id": .integer(text)]))
    }
    #expect(events.map(\.eventID) == texts)
    #expect(events.map(\.stream.userID) == texts)
    let event = try WorkerTests.event(filmTag(["input": ["film": .integer(texts[0])]]))
    #expect(event.input.value == ["film": .integer(texts[0])])
    #expect(event.input.value["film"]?.plainText == texts[0])
  }

  @Test(
    "a number that other numbers cannot be told from names nobody",
    arguments: ["1.0000000000000000001", "14695981039346656037.5", "1e-310"])
  func unclearNumber(_ number: String) throws {
    let error = #expect(throws: MessageError.self) {
      _ = try BehaviorEvent(
        message(
          #"{"user_id": \#(number), "task": "film_tag", "input": {"film": "F"}, "output": "funny"}"#
        ), catalogue: .builtIn)
    }
    #expect(error?.message.contains("cannot be told from") == true)
  }

  @Test(
    "numbers that PostgreSQL cannot hold, or a double cannot tell from 0, are refused at the border",
    arguments: ["1e-20000", "0e-20000", "-1e-400", "1e-99999999999999999999"])
  func tooSmall(_ number: String) throws {
    let error = #expect(throws: MessageError.self) {
      _ = try BehaviorEvent(
        message(
          #"{"user_id": "kim", "task": "film_tag", "input": {"film": "F", "x": \#(number)}, "output": "funny"}"#
        ), catalogue: .builtIn)
    }
    #expect(error?.message.contains("number") == true)
  }

  @Test(
    "a value of which only the beginning was kept is refused by its whole size, which the dead letter tells"
  )
  func cut() throws {
    var message = message(filmTag())
    message.valueSize = 500_000_000
    let error = try #require(
      #expect(throws: MessageError.self) { try BehaviorEvent(message, catalogue: .builtIn) })
    #expect(error.message.contains("500000000 bytes"))
    let letter = DeadLetter(message: message, error: error, stage: "decode").outgoing
    #expect(letter.value == message.value)
    #expect(
      letter.headers.last { $0.key == "__connect.errors.value.bytes" }?.value
        == Data("500000000".utf8))
  }

  @Test("fields that are not part of the contract are kept")
  func extra() throws {
    let event = try WorkerTests.event(filmTag(["device": "tv", "session": ["id": 7]]))
    #expect(event.extra?.value == ["device": "tv", "session": ["id": 7]])
  }

  @Test(
    "outputs are stored in the task's own form",
    arguments: [
      ("film_tag", ["film": "A"], JSONValue.string(" Silent  AGE "), "silent age"),
      ("film_rating", ["film": "A"], 4, "4"), ("film_rating", ["film": "A"], "5", "5"),
      ("email_subject", ["message": "A"], "two\n lines", "two lines"),
    ] as [(String, JSONValue, JSONValue, String)])
  func outputs(_ task: String, _ input: JSONValue, _ output: JSONValue, _ stored: String) throws {
    let value = filmTag(["task": .string(task), "input": input, "output": output])
    #expect(try WorkerTests.event(value).output == stored)
  }

  @Test("a CloudEvent in binary form gives identity, user and time in its headers")
  func binaryCloudEvent() throws {
    let value = filmTag(["event_id": nil, "user_id": nil, "occurred_at": nil])
    let event = try WorkerTests.event(
      message(
        value, key: nil,
        headers: [
          ("ce_specversion", "1.0"), ("ce_type", "film.tagged"), ("ce_source", "/films"),
          ("ce_id", "4711"), ("ce_subject", "mara"), ("ce_time", "2026-01-31T09:30:00.250Z"),
        ]))
    #expect(event.eventID == "/films#4711")
    #expect(event.stream.userID == "mara")
    #expect(abs(event.occurredAt.timeIntervalSince1970 - 1_769_851_800.25) < 0.001)
  }

  @Test("the message's own fields count before a CloudEvent's attributes")
  func ownFieldsFirst() throws {
    let event = try WorkerTests.event(
      message(
        filmTag(),
        headers: [
          ("ce_specversion", "1.0"), ("ce_type", "t"), ("ce_source", "/films"), ("ce_id", "4711"),
          ("ce_subject", "mara"),
        ]))
    #expect(event.eventID == "e-1")
    #expect(event.stream.userID == "kim")
  }

  @Test("a structured CloudEvent is the object under data")
  func structuredCloudEvent() throws {
    let data = try JSONValue(text: filmTag(["event_id": nil, "user_id": nil, "occurred_at": nil]))
    let whole: JSONValue = [
      "specversion": "1.0", "id": "7", "source": "/s", "type": "t", "subject": "mara",
      "time": "2026-01-31T10:30:00+01:00", "data": data,
    ]
    let header = [("content-type", "application/cloudevents+json; charset=utf-8")]
    let event = try WorkerTests.event(message(whole.canonical, key: nil, headers: header))
    #expect(event.eventID == "/s#7")
    #expect(event.stream.userID == "mara")
    #expect(event.occurredAt == Date(timeIntervalSince1970: 1_769_851_800))
    #expect(event.output == "nineties")
    #expect(event.extra == nil)

    let bare = message(
      #"{"specversion":"1.0","id":"7","source":"/s","type":"t"}"#, headers: header)
    #expect(refusal { _ = try WorkerTests.event(bare) }?.message.contains("\"data\"") == true)
  }

  @Test("a CloudEvent's identity that is too long is its SHA-256")
  func longIdentity() throws {
    let id = String(repeating: "x", count: 200)
    let event = try WorkerTests.event(
      message(
        filmTag(["event_id": nil]),
        headers: [
          ("ce_specversion", "1.0"), ("ce_type", "t"), ("ce_source", "/s"), ("ce_id", id),
        ]))
    #expect(event.eventID == SHA256.hash(data: Data("/s#\(id)".utf8)).hexadecimal)
  }

  @Test("a message without a value erases the user in its key")
  func tombstone() throws {
    guard case .erase("kim", nil) = try BehaviorEvent(message(nil), catalogue: .builtIn) else {
      Issue.record("not an erasure")
      return
    }
    for key in [nil, "", "a\0b", String(repeating: "u", count: 257)] {
      let error = refusal { _ = try BehaviorEvent(message(nil, key: key), catalogue: .builtIn) }
      #expect(error?.code == .invalidMessage)
    }
  }

  @Test("kind erase erases the user that the message names, and needs nothing else")
  func eraseKind() throws {
    let value = #"{"kind":"erase","user_id":"mara"}"#
    guard case .erase("mara", nil) = try BehaviorEvent(message(value), catalogue: .builtIn) else {
      Issue.record("not an erasure")
      return
    }
  }

  @Test(
    "what cannot be taken is refused with a code and the thing named",
    arguments: [
      ("", MessageError.Code.invalidMessage, "not JSON"),
      ("{\"task\": ", .invalidMessage, "not JSON"),
      ("[1, 2]", .invalidMessage, "an array"), ("\"text\"", .invalidMessage, "a string"),
      ("null", .invalidMessage, "null"),
      (filmTag(["task": nil]), .invalidMessage, "\"task\" is missing"),
      (filmTag(["task": ""]), .invalidMessage, "\"task\" is missing"),
      (filmTag(["task": "nonsense"]), .unknownTask, "\"nonsense\""),
      (filmTag(["task": ["a"]]), .invalidMessage, "\"task\" must be a string"),
      (filmTag(["user_id": true]), .invalidMessage, "\"user_id\" must be a string"),
      (filmTag(["kind": "purchase"]), .invalidMessage, "purchase"),
      (filmTag(["input": nil]), .invalidMessage, "\"input\" must be an object"),
      (filmTag(["input": "film"]), .invalidMessage, "\"input\" must be an object"),
      (filmTag(["input": [:]]), .invalidInput, "film"),
      (filmTag(["input": ["film": ["a": 1]]]), .invalidInput, "input.film"),
      (filmTag(["output": "boring"]), .invalidInput, "boring"),
      (filmTag(["output": ["funny"]]), .invalidInput, "output"),
      (filmTag(["task": "film_rating", "output": 6]), .invalidInput, "from 1 to 5"),
      (filmTag(["task": "film_rating", "output": 2.5]), .invalidInput, "from 1 to 5"),
      (filmTag(["occurred_at": "yesterday"]), .invalidMessage, "\"occurred_at\""),
      (filmTag(["occurred_at": "2026-13-01T00:00:00Z"]), .invalidMessage, "\"occurred_at\""),
      (
        filmTag(["event_id": .string(String(repeating: "e", count: 129))]), .invalidMessage,
        "129 bytes; at most 128"
      ),
      (
        filmTag(["user_id": .string(String(repeating: "ü", count: 129))]), .invalidMessage,
        "258 bytes; at most 256"
      ),
      (
        filmTag(["input": ["film": .string(String(repeating: "f", count: 16_385))]]),
        .invalidInput, "at most 16384 bytes"
      ),
      (filmTag(["output": "nine\u{0}ties"]), .invalidMessage, "U+0000"),
      (filmTag(["note": ["deep": ["a\u{0}"]]]), .invalidMessage, "U+0000"),
      (filmTag(["k\u{0}": 1]), .invalidMessage, "U+0000"),
      (filmTag() + "x", .invalidMessage, "after the end"),
      (#"{"user_id":"kim","user_id":"mara"}"#, .invalidMessage, "\"user_id\" a second time"),
      (
        #"{"task":"film_tag","input":{"film":"a","f\u0069lm":"b"}}"#, .invalidMessage,
        "\"film\" a second time"
      ),
      (
        "{\"x\":" + String(repeating: "[", count: 100_000), .invalidMessage,
        "more than 32 deep"
      ),
      (#"{"x":1e999}"#, .invalidMessage, "a double"),
      (#"{"x":"\ud800"}"#, .invalidMessage, "surrogate"),
      (#"{"x":01}"#, .invalidMessage, "begins with 0"),
      (#"{"x":NaN}"#, .invalidMessage, "no value"),
      ("\u{FEFF}" + filmTag(), .invalidMessage, "a byte order mark"),
      (filmTag(["occurred_at": "1970-01-01T00:00:00Z"]), .invalidMessage, "before 1990"),
      (
        filmTag(["occurred_at": "0001-01-01T00:00:00+02:00"]), .invalidMessage,
        "from 0001-01-01T00:00:00+02:00; times before 1990"
      ),
      (filmTag(["occurred_at": "2999-01-01T00:00:00Z"]), .invalidMessage, "in the future"),
      (filmTag(["kind": "feedback"]), .invalidMessage, "request_id"),
      (
        filmTag(["kind": "feedback", "request_id": "r", "output": nil]), .invalidMessage,
        "accepted, edited or rejected"
      ),
      (
        filmTag(["kind": "feedback", "request_id": "r", "feedback": "rejected"]), .invalidMessage,
        "has no \"output\""
      ),
    ] as [(String, MessageError.Code, String)])
  func refused(_ value: String, _ code: MessageError.Code, _ named: String) {
    let error = refusal { _ = try event(value) }
    #expect(error?.code == code)
    #expect(error?.message.contains(named) == true, "\(error?.message ?? "taken")")
  }

  @Test(
    "a CloudEvent without an attribute that CloudEvents require is refused, in both forms",
    arguments: ["specversion", "type", "source", "id"])
  func missingAttribute(_ missing: String) {
    let attributes = [("specversion", "1.0"), ("type", "t"), ("source", "/s"), ("id", "1")]
      .filter { $0.0 != missing }
    let binary = message(filmTag(), headers: attributes.map { ("ce_\($0.0)", $0.1) })
    var whole = attributes.reduce(into: [String: JSONValue]()) { $0[$1.0] = .string($1.1) }
    whole["data"] = ["user_id": "kim"]
    let structured = message(
      text(whole), headers: [("content-type", "application/cloudevents+json")])
    for message in [binary, structured] {
      let error = refusal { _ = try WorkerTests.event(message) }
      #expect(error?.message.contains("\"\(missing)\"") == true, "\(error?.message ?? "taken")")
    }
  }

  @Test("a value of more than 1 MiB is refused unread")
  func largeValue() {
    let error = refusal {
      _ = try event(filmTag(["note": .string(String(repeating: "n", count: 1 << 20))]))
    }
    #expect(error?.message.contains("at most 1048576") == true)
  }

  @Test("bytes that are not UTF-8 are refused")
  func notUTF8() {
    var message = message(filmTag())
    message.value = Data([0x7B, 0x22, 0xFF, 0xFE, 0x22, 0x3A, 0x31, 0x7D])
    #expect(refusal { _ = try event(message) }?.code == .invalidMessage)
  }

  @Test("a CloudEvents header with U+0000 is refused, for PostgreSQL could not store it")
  func nulInHeader() {
    for (name, value) in [("ce_id", "a\0b"), ("ce_source", "\0"), ("ce_subject", "k\0m")] {
      let headers = [
        ("ce_specversion", "1.0"), ("ce_type", "t"), ("ce_source", "/s"), ("ce_id", "1"),
        (name, value),
      ]
      let error = refusal { _ = try WorkerTests.event(message(filmTag(), headers: headers)) }
      #expect(error?.message.contains("U+0000") == true, "\(name)")
    }
  }

  @Test("identifiers are taken up to their limit in bytes")
  func limits() throws {
    let user = String(repeating: "ü", count: 128)
    let id = String(repeating: "e", count: 128)
    let event = try WorkerTests.event(filmTag(["event_id": .string(id), "user_id": .string(user)]))
    #expect(event.eventID == id)
    #expect(event.stream.userID == user)
  }

  @Test("an event without any user is refused")
  func noUser() {
    let value = filmTag(["user_id": nil])
    for key in [nil, "", "a\0b"] {
      #expect(
        refusal { _ = try event(message(value, key: key)) }?.message.contains("user_id") == true)
    }
  }

  @Test(
    "RFC 3339 times are read with offsets and fractions",
    arguments: [
      ("2026-01-31T09:30:00Z", 1_769_851_800.0), ("2026-01-31T10:30:00+01:00", 1_769_851_800),
      ("2026-01-31T04:00:00-05:30", 1_769_851_800), ("2026-01-31T09:30:00.5Z", 1_769_851_800.5),
      ("2026-01-31T09:30:00.123456Z", 1_769_851_800.123456),
      ("2026-01-31T09:30:00.123456+00:00", 1_769_851_800.123456),
    ])
  func times(_ text: String, _ seconds: Double) throws {
    let date = try #require(Timestamps.parse(text), "\(text)")
    #expect(abs(date.timeIntervalSince1970 - seconds) < 0.001)
  }

  @Test("times are written in UTC with milliseconds and read back")
  func formattedTimes() {
    let date = Date(timeIntervalSince1970: 1_769_851_800.25)
    #expect(Timestamps.format(date) == "2026-01-31T09:30:00.250Z")
    #expect(Timestamps.parse(Timestamps.format(date)) == date)
  }
}
