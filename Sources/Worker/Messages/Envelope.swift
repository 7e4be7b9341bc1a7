// A message's JSON object, taken out of CloudEvents 1.0 where it came in one.

import Cryptography
import Foundation
import JSON
import KafkaClient
import Personalization
import Storage

/// What CloudEvents attributes say beside a message.
struct CloudEvent {
  /// Source and id together, which are unique.
  var identifier: String?
  var subject: String?
  var time: String?

  /// The largest value read, Kafka's own limit for a message unless a broker is told otherwise.
  static let maximumBytes = 1 << 20

  /// Reads a value: plain JSON, CloudEvents binary (`ce_` headers) or structured, each also as Kafka Connect wraps
  /// it, and lends the message's own object and the attributes to `body`.
  /// - Throws: ``MessageError`` where the value is no JSON object or an attribute is missing; what `body` throws.
  static func read<T>(
    _ message: KafkaMessage, with reader: inout JSONReader,
    _ body: (JSONView, CloudEvent) throws -> T
  ) throws -> T {
    guard let value = message.value else {
      throw MessageError(.invalidMessage, "the message has no value")
    }
    guard message.valueSize <= maximumBytes else {
      throw MessageError(
        .invalidMessage,
        "the value has \(message.valueSize) bytes; at most \(maximumBytes) are read")
    }
    let isPlain = message.headers.isEmpty
    do {
      return try value.withUnsafeBytes { bytes in
        try reader.read(try ConnectValue.json(bytes)) { value in
          let view = try ConnectValue.object(value)
          if isPlain { return try body(view, CloudEvent()) }
          return try unwrap(view, of: message, body)
        }
      }
    } catch let error as JSONReadingError {
      throw MessageError(
        .invalidMessage,
        "the value is not JSON in UTF-8, strictly read: \(error) (\(value.count) bytes: \(preview(value)))"
      )
    }
  }

  private static func unwrap<T>(
    _ view: JSONView, of message: KafkaMessage, _ body: (JSONView, CloudEvent) throws -> T
  ) throws -> T {
    if message.headerText("content-type")?.lowercased().hasPrefix("application/cloudevents+json")
      == true
    {
      let event = try CloudEvent { name in
        guard let value = view[name], !value.isNull else { return nil }
        guard let text = value.string else {
          throw MessageError(
            .invalidMessage,
            "the CloudEvent's \"\(name)\" must be a string, found \(value.kindName)")
        }
        return text
      }
      guard let data = view["data"], data.isObject else {
        throw MessageError(.invalidMessage, "the CloudEvent has no object in \"data\"")
      }
      return try body(data, event)
    }
    guard message.headers.contains(where: { $0.key.hasPrefix("ce_") }) else {
      return try body(view, CloudEvent())
    }
    return try body(view, CloudEvent { name in message.headerText("ce_\(name)") })
  }

  init() {}

  /// - Throws: ``MessageError`` where an attribute that CloudEvents 1.0 requires is missing.
  private init(_ attribute: (StaticString) throws -> String?) throws {
    func required(_ name: StaticString) throws -> String {
      guard let text = try attribute(name), !text.isEmpty else {
        throw MessageError(
          .invalidMessage, "the CloudEvent has no attribute \"\(name)\", which CloudEvents require")
      }
      return text
    }
    let version = try required("specversion")
    guard version.hasPrefix("1.") else {
      throw MessageError(
        .invalidMessage, "the CloudEvent's specversion is \"\(version.prefix(20))\", not 1.0")
    }
    _ = try required("type")
    identifier = Self.identifier(source: try required("source"), id: try required("id"))
    subject = try attribute("subject")
    time = try attribute("time")
    if [identifier, subject].contains(where: { $0?.utf8.contains(0) == true }) {
      throw MessageError(
        .invalidMessage,
        "a CloudEvents header contains the character U+0000, which PostgreSQL cannot store")
    }
  }

  /// Too long for an event id: their hash.
  private static func identifier(source: String, id: String) -> String {
    let whole = "\(source)#\(id)"
    return whole.utf8.count <= BehaviorEvent.maximumIdentifierBytes
      ? whole : SHA256.hash(data: Data(whole.utf8)).hexadecimal
  }

  private static func preview(_ data: Data) -> String {
    let text = String(decoding: data.prefix(60), as: UTF8.self)
    return "\"\(text)\(data.count > 60 ? "…" : "")\""
  }
}

/// The fields of a message and what its transport says beside them.
struct Envelope {
  /// The message's own JSON object.
  let fields: [String: JSONValue]
  let event: CloudEvent
  /// Fields that hold numbers from which other numbers cannot be told.
  let unclear: Set<String>

  var identifier: String? { event.identifier }
  var subject: String? { event.subject }

  /// - Throws: ``MessageError`` where the value is no JSON object or holds what cannot be stored.
  init(_ message: KafkaMessage) throws {
    var reader = JSONReader()
    (fields, event, unclear) = try CloudEvent.read(message, with: &reader) { view, event in
      var unclear: Set<String> = []
      view.forEachMember { name, value in
        if value.isNumber, value.identifierText == nil { unclear.insert(name.string ?? "") }
      }
      return (view.value.object ?? [:], event, unclear)
    }
  }

  /// A text field, or nil where it is absent or null.
  func text(_ name: String) throws -> String? {
    switch fields[name] {
    case nil, .null?: return nil
    case .string(let text)?: return text
    // Identifiers are often numbers in other systems.
    case .number?, .integer?:
      guard !unclear.contains(name) else { throw MessageError.unclearNumber(name) }
      return fields[name]?.plainText
    case let other?:
      throw MessageError(.invalidMessage, "\"\(name)\" must be a string, found \(other.kindName)")
    }
  }

  /// A text that must be there and is at most `maximum` bytes long.
  func requiredText(_ name: String, otherwise: String? = nil, maximum: Int) throws -> String {
    try Self.required(try text(name) ?? otherwise, name, maximum: maximum)
  }

  static func required(_ text: String?, _ name: String, maximum: Int) throws -> String {
    guard let text, !text.isEmpty else {
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
