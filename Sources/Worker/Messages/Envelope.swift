// A message's JSON object, taken out of CloudEvents 1.0 where it came in one.

import Foundation
import KafkaClient
import Personalization
import Storage

/// The fields of a message and what its transport says beside them.
struct Envelope {
  /// The message's own JSON object.
  var fields: [String: JSONValue]
  /// From CloudEvents attributes, where there are any: id (with source), subject, time.
  var identifier: String?
  var subject: String?
  var time: String?

  /// Reads a Kafka message's value: plain JSON, CloudEvents binary (`ce_` headers) or structured.
  /// - Throws: ``MessageError`` where the value is no JSON object or holds what cannot be stored.
  init(_ message: KafkaMessage) throws {
    guard let value = message.value else {
      throw MessageError(.invalidMessage, "the message has no value")
    }
    var object = try Self.object(in: value)
    if message.headerText("content-type")?.lowercased().hasPrefix("application/cloudevents+json")
      == true
    {
      guard case .object(let data)? = object["data"] else {
        throw MessageError(.invalidMessage, "the CloudEvent has no object in \"data\"")
      }
      identifier = Self.identifier(source: object["source"]?.string, id: object["id"]?.string)
      subject = object["subject"]?.string
      time = object["time"]?.string
      object = data
    } else if message.headerText("ce_specversion") != nil {
      identifier = Self.identifier(
        source: message.headerText("ce_source"), id: message.headerText("ce_id"))
      subject = message.headerText("ce_subject")
      time = message.headerText("ce_time")
      if [identifier, subject].contains(where: { $0?.utf8.contains(0) == true }) {
        throw MessageError(
          .invalidMessage,
          "a CloudEvents header contains the character U+0000, which PostgreSQL cannot store")
      }
    }
    fields = object
  }

  /// CloudEvents are unique by source and id together. Too long for an event id: their hash.
  private static func identifier(source: String?, id: String?) -> String? {
    guard let id, !id.isEmpty else { return nil }
    let whole = source.map { "\($0)#\(id)" } ?? id
    return whole.utf8.count <= BehaviorEvent.maximumIdentifierBytes
      ? whole : sha256Hex(Data(whole.utf8))
  }

  private static func object(in data: Data) throws -> [String: JSONValue] {
    let value: JSONValue
    do {
      value = try JSONDecoder().decode(JSONValue.self, from: data)
    } catch {
      throw MessageError(
        .invalidMessage, "the value is not JSON in UTF-8 (\(data.count) bytes: \(preview(data)))")
    }
    guard case .object(let object) = value else {
      throw MessageError(.invalidMessage, "the value is \(value.kindName), not a JSON object")
    }
    if value.containsNUL {
      throw MessageError(
        .invalidMessage, "a text contains the character U+0000, which PostgreSQL cannot store")
    }
    return object
  }

  private static func preview(_ data: Data) -> String {
    let text = String(decoding: data.prefix(60), as: UTF8.self)
    return "\"\(text)\(data.count > 60 ? "…" : "")\""
  }
}

extension Envelope {
  /// A text field, or nil where it is absent or null.
  func text(_ name: String) throws -> String? {
    switch fields[name] {
    case nil, .null?: return nil
    case .string(let text)?: return text
    // Identifiers are often numbers in other systems.
    case .number?, .integer?: return fields[name]?.plainText
    case let other?:
      throw MessageError(.invalidMessage, "\"\(name)\" must be a string, found \(other.kindName)")
    }
  }

  /// A text that must be there and is at most `maximum` bytes long.
  func requiredText(_ name: String, otherwise: String? = nil, maximum: Int) throws -> String {
    guard let text = try text(name) ?? otherwise, !text.isEmpty else {
      throw MessageError(.invalidMessage, "\"\(name)\" is missing")
    }
    guard text.utf8.count <= maximum else {
      throw MessageError(
        .invalidMessage,
        "\"\(name)\" has \(text.utf8.count) bytes; at most \(maximum) are allowed")
    }
    return text
  }
}

extension KafkaMessage {
  /// The newest header of that name, as text.
  func headerText(_ name: String) -> String? {
    guard let value = headers.last(where: { $0.key == name })?.value else { return nil }
    return String(data: value, encoding: .utf8)
  }

  var keyText: String? {
    guard let key, !key.isEmpty, let text = String(data: key, encoding: .utf8),
      !text.unicodeScalars.contains("\0")
    else { return nil }
    return text
  }
}

extension JSONValue {
  fileprivate var containsNUL: Bool {
    switch self {
    case .string(let text): text.utf8.contains(0)
    case .array(let values): values.contains(where: \.containsNUL)
    case .object(let members):
      members.contains { $0.key.utf8.contains(0) || $0.value.containsNUL }
    default: false
    }
  }
}
