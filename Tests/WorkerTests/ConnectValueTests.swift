// What Kafka Connect, Debezium and schema registries' serializers write is taken, or refused by its name.

import Foundation
import KafkaClient
import Personalization
import Testing

@testable import Worker

@Suite struct ConnectValueTests {
  private let value = #"{"event_id":"e-1","user_id":"kim","task":"film_tag","input":{"film":"x"}}"#
  private let schema = #"{"type":"struct","fields":[{"type":"string","field":"user_id"}]}"#

  @Test("an event in Kafka Connect's JSON, with or without its schema, is the event")
  func wrapped() throws {
    let plain = try event(value)
    for text in [
      #"{"schema":\#(schema),"payload":\#(value)}"#, #"{"schema":null,"payload":\#(value)}"#,
      #"{ "payload" : \#(value) , "schema" : \#(schema) }"#,
    ] {
      let taken = try event(text)
      #expect(taken.eventID == plain.eventID)
      #expect(taken.stream == plain.stream)
      #expect(taken.input.value == plain.input.value)
      #expect(taken.extra == nil)
    }
  }

  @Test("a request in Kafka Connect's JSON is the request, and a CloudEvent in it a CloudEvent")
  func requests() throws {
    let request = try PersonalizationRequest(
      message(#"{"schema":\#(schema),"payload":\#(value)}"#), catalogue: .builtIn,
      maximumTokens: 100)
    #expect(request.userID == "kim")
    let cloud =
      #"{"specversion":"1.0","id":"7","source":"/app","type":"t","data":{"task":"film_tag","input":{"film":"x"}}}"#
    let taken = try event(
      message(
        #"{"schema":\#(schema),"payload":\#(cloud)}"#,
        headers: [("content-type", "application/cloudevents+json")]))
    #expect(taken.eventID == "/app#7")
  }

  @Test("an event with a field of its own that is called schema or payload keeps it")
  func fields() throws {
    let own = try event(
      #"{"schema":{"v":1},"user_id":"kim","task":"film_tag","input":{"film":"x"},"payload":2}"#)
    #expect(own.extra?.value["schema"] == ["v": 1])
    #expect(own.extra?.value["payload"] == 2)
  }

  @Test("JSON behind a schema registry's head is read, Avro and Protobuf are refused by name")
  func registry() throws {
    let head = Data([0, 0, 0, 1, 2])
    var message = message("")
    message.value = head + Data(value.utf8)
    #expect(try event(message).eventID == "e-1")
    // Avro's strings, a Protobuf with its index of messages, nothing, and what only begins like JSON.
    for rest in [Data([6, 0x6B, 0x69, 0x6D]), Data([0, 10, 3, 0x6B]), Data(), Data("{kim".utf8)] {
      message.value = head + rest
      let refusal = try #require(refusal { _ = try event(message) })
      #expect(refusal.code == .invalidMessage)
      #expect(refusal.message.contains("schema registry (schema id 258)"))
    }
    message.value = head + Data("{kim}".utf8)
    #expect(refusal { _ = try event(message) }?.message.contains("not JSON") == true)
    message.value = Data([0])
    #expect(refusal { _ = try event(message) }?.message.contains("not JSON") == true)
  }

  @Test(
    "what a connector wraps otherwise is refused with the setting that mends it",
    arguments: [
      (#""{\"user_id\":\"kim\"}""#, "table.expand.json.payload"),
      (#"{"schema":{"type":"string"},"payload":"{\"user_id\":\"kim\"}"}"#, "StringConverter"),
      (#"{"schema":null,"payload":null}"#, "\"payload\" is null"),
      (#"{"schema":{"type":"string"},"payload":"kim"}"#, "\"payload\" is a string"),
      (#"{"before":null,"after":{"id":1},"source":{},"op":"c"}"#, "ExtractNewRecordState"),
      (
        #"{"schema":{},"payload":{"before":{"id":1},"after":null,"source":{},"op":"d"}}"#,
        "ExtractNewRecordState"
      ), ("[]", "the value is an array"), (#""kim""#, "the value is a string"),
    ])
  func refused(_ value: String, _ words: String) throws {
    let refusal = try #require(refusal { _ = try event(value) })
    #expect(refusal.code == .invalidMessage)
    #expect(refusal.message.contains(words))
  }
}
