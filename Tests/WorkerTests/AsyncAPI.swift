// docs/asyncapi.yaml as a test reads it: which messages a topic may carry, and whether one is among them.

import Foundation
import JSON
import KafkaClient
import Personalization
import YAML

struct AsyncAPI {
  let document: JSONValue
  /// The JSON Schemas that it names, by their places.
  let schemas: [String: JSONValue]

  init(root: URL) throws {
    let folder = root.appendingPathComponent("docs")
    let file = folder.appendingPathComponent("asyncapi.yaml")
    let node = try YAMLNode.compose(yaml: Data(contentsOf: file), file: "docs/asyncapi.yaml")
    document = node.map(JSONValue.init(yaml:)) ?? .null
    var schemas: [String: JSONValue] = [:]
    for place in Self.references(in: document) where !place.hasPrefix("#") {
      let data = try Data(contentsOf: folder.appendingPathComponent(place))
      schemas[place] = try JSONDecoder().decode(JSONValue.self, from: data)
    }
    self.schemas = schemas
  }

  /// Every `$ref` in a value.
  static func references(in value: JSONValue) -> Set<String> {
    var found: Set<String> = []
    if let reference = value["$ref"]?.string { found.insert(reference) }
    for member in value.object?.values.map(\.self) ?? value.array ?? [] {
      found.formUnion(references(in: member))
    }
    return found
  }

  /// The value at a place such as `#/channels/userBehavior`; a value that is such a reference is followed.
  func value(at place: String) -> JSONValue? {
    var value = document
    for name in place.dropFirst().split(separator: "/") {
      guard let next = value[String(name)] else { return nil }
      value = resolved(next)
    }
    return value
  }

  private func resolved(_ value: JSONValue) -> JSONValue {
    guard let place = value["$ref"]?.string, place.hasPrefix("#") else { return value }
    return self.value(at: place) ?? .null
  }

  func check(_ schema: JSONValue) -> SchemaCheck {
    SchemaCheck(schema: schema, documents: schemas, base: document)
  }

  /// Why a message is none that a channel may carry; empty where it is one.
  func findings(_ message: KafkaMessage, in channel: String) throws -> [String] {
    let messages = value(at: "#/channels/\(channel)/messages")?.object ?? [:]
    var nearest = ["there is no channel \(channel)"]
    for (index, name) in messages.keys.sorted().enumerated() {
      let findings = try findings(message, resolved(messages[name] ?? .null))
      if findings.isEmpty { return [] }
      if index == 0 || findings.count < nearest.count { nearest = findings }
    }
    return nearest
  }

  private func findings(_ message: KafkaMessage, _ kind: JSONValue) throws -> [String] {
    var findings: [String] = []
    if let schema = kind["headers"] {
      let headers = message.headers.map {
        ($0.key, JSONValue.string(String(decoding: $0.value ?? Data(), as: UTF8.self)))
      }
      findings += check(schema).findings(.object(Dictionary(headers) { $1 }))
    }
    if let schema = kind["payload"] {
      let payload = try message.value.map {
        try JSONDecoder().decode(JSONValue.self, from: $0)
      }
      findings += check(schema).findings(payload ?? .null)
    }
    return findings
  }
}

extension JSONValue {
  init(yaml: YAMLNode) {
    switch yaml {
    case .mapping(let members):
      self = .object(
        Dictionary(members.map { ($0.key.string ?? "", JSONValue(yaml: $0.value)) }) { $1 })
    case .sequence(let items): self = .array(items.map(JSONValue.init(yaml:)))
    case .scalar(let scalar):
      switch scalar.kind {
      case .null: self = .null
      case .bool: self = .bool(scalar.bool ?? false)
      case .int, .float: self = .number(scalar.float ?? .nan)
      case .string: self = .string(scalar.string)
      }
    }
  }
}
