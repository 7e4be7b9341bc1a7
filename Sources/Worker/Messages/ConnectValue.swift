// Values as Kafka Connect, Debezium and clients of a schema registry write them: what they wrap is taken out, and
// what is no JSON is called by its name.

import Foundation
import JSON
import Personalization

enum ConnectValue {
  /// What a schema registry's serializers write first: a zero, and the schema's id in four bytes.
  private static let registryHead = 5

  /// The bytes of the JSON of a value. JSON never begins with a zero.
  ///
  /// - Throws: ``MessageError`` for what a schema registry's Avro and Protobuf serializers write.
  static func json(_ value: UnsafeRawBufferPointer) throws -> UnsafeRawBufferPointer {
    guard value.first == 0, value.count >= registryHead else { return value }
    let rest = UnsafeRawBufferPointer(rebasing: value.dropFirst(registryHead))
    // Of JSON behind the same head the schema is the producer's affair.
    if rest.first == UInt8(ascii: "{"), rest.last == UInt8(ascii: "}") { return rest }
    let schema = value[1..<registryHead].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    throw MessageError(
      .invalidMessage,
      "the value was written with a schema registry (schema id \(schema)), as Avro and Protobuf are; this worker reads JSON: use a JSON serializer, or Kafka Connect's JsonConverter"
    )
  }

  /// The object of a message: a value itself, or what Kafka Connect's JsonConverter has put into `payload` beside its
  /// `schema` (`schemas.enable=true`, its default).
  ///
  /// - Throws: ``MessageError`` where a value holds no object, or what a change of a table looks like.
  static func object(_ value: JSONView) throws -> JSONView {
    guard value.isObject else { throw noObject(value, "the value") }
    // Looked at closely only where the first member says so: all others are events by the hundred thousand.
    guard let first = value.firstName else { return value }
    if first.isName("schema") || first.isName("payload") {
      guard let payload = payload(value) else { return value }
      guard payload.isObject else { throw noObject(payload, "the value's \"payload\"") }
      try refuseChange(payload)
      return payload
    }
    if first.isName("before") || first.isName("after") { try refuseChange(value) }
    return value
  }

  /// What stands beside a schema, and beside nothing else.
  private static func payload(_ value: JSONView) -> JSONView? {
    guard let schema = value["schema"], schema.isObject || schema.isNull else { return nil }
    var count = 0
    value.forEachMember { _, _ in count += 1 }
    return count == 2 ? value["payload"] : nil
  }

  private static func noObject(_ value: JSONView, _ name: String) -> MessageError {
    guard let text = value.string, text.hasPrefix("{") else {
      return MessageError(.invalidMessage, "\(name) is \(value.kindName), not a JSON object")
    }
    return MessageError(
      .invalidMessage,
      "\(name) is a string that holds an object, as Debezium's outbox router writes it: set its table.expand.json.payload=true, or value.converter to StringConverter"
    )
  }

  private static func refuseChange(_ value: JSONView) throws {
    guard value["before"] != nil, value["after"] != nil, value["op"] != nil else { return }
    throw MessageError(
      .invalidMessage,
      "the value is a table's change as Debezium writes it: send events through its outbox router, or take them out of changes with its transformation ExtractNewRecordState"
    )
  }
}
