// Checks JSON values against the JSON Schemas of docs/schemas, as far as these schemas go. A keyword that the
// check does not know is a finding itself, so a schema cannot say more than is checked.

import Foundation
import Personalization

struct SchemaCheck {
  let schema: JSONValue

  /// What is wrong with a value, one line for each finding; empty where it is valid.
  func findings(_ value: JSONValue) -> [String] { check(value, schema, "$") }

  private static let annotations: Set<String> = [
    "$schema", "$id", "title", "description", "default", "format",
  ]

  private func check(_ value: JSONValue, _ schema: JSONValue, _ path: String) -> [String] {
    guard let keywords = schema.object else { return ["\(path): the schema is not an object"] }
    var findings: [String] = []
    for (keyword, rule) in keywords.sorted(by: { $0.key < $1.key }) {
      switch keyword {
      case "type": findings += type(value, rule, path)
      case "enum":
        if rule.array?.contains(value) != true {
          findings.append("\(path): \(value.canonical) is none of \(rule.canonical)")
        }
      case "const":
        if value != rule { findings.append("\(path): \(value.canonical) is not \(rule.canonical)") }
      case "minimum", "maximum": findings += limit(value, keyword, rule, path)
      case "minLength", "maxLength": findings += length(value, keyword, rule, path)
      case "required":
        guard let members = value.object else { break }
        for name in rule.array?.compactMap(\.string) ?? [] where members[name] == nil {
          findings.append("\(path): \"\(name)\" is missing")
        }
      case "properties":
        for (name, rule) in rule.object ?? [:] {
          if let member = value[name] { findings += check(member, rule, "\(path).\(name)") }
        }
      case "additionalProperties":
        guard rule == .bool(false), let members = value.object else { break }
        for name in members.keys.sorted() where schema["properties"]?[name] == nil {
          findings.append("\(path): \"\(name)\" is not in the schema")
        }
      case "items":
        for (index, item) in (value.array ?? []).enumerated() {
          findings += check(item, rule, "\(path)[\(index)]")
        }
      case "anyOf":
        let choices = rule.array ?? []
        if !choices.contains(where: { check(value, $0, path).isEmpty }) {
          findings.append("\(path): \(value.canonical) fits none of the choices")
        }
      case "if":
        let branch = check(value, rule, path).isEmpty ? "then" : "else"
        if let rule = schema[branch] { findings += check(value, rule, path) }
      case "then", "else": break
      case _ where Self.annotations.contains(keyword): break
      default: findings.append("\(path): the check does not know the keyword \"\(keyword)\"")
      }
    }
    return findings
  }

  private func type(_ value: JSONValue, _ rule: JSONValue, _ path: String) -> [String] {
    let names = rule.array?.compactMap(\.string) ?? [rule.string ?? "?"]
    let fits = names.contains { name in
      switch name {
      case "null": value.isNull
      case "boolean": value.bool != nil
      case "string": value.string != nil
      case "number": value.number != nil
      case "integer": value.number.map { $0 == $0.rounded() } ?? false
      case "array": value.array != nil
      case "object": value.object != nil
      default: false
      }
    }
    return fits ? [] : ["\(path): \(value.kindName) is not of type \(rule.canonical)"]
  }

  private func limit(
    _ value: JSONValue, _ keyword: String, _ rule: JSONValue, _ path: String
  ) -> [String] {
    guard let number = value.number, let limit = rule.number else { return [] }
    let fits = keyword == "minimum" ? number >= limit : number <= limit
    return fits ? [] : ["\(path): \(value.canonical) is beyond the \(keyword) \(rule.canonical)"]
  }

  private func length(
    _ value: JSONValue, _ keyword: String, _ rule: JSONValue, _ path: String
  ) -> [String] {
    guard let count = value.string?.unicodeScalars.count, let limit = rule.number else { return [] }
    let fits = keyword == "minLength" ? Double(count) >= limit : Double(count) <= limit
    return fits ? [] : ["\(path): \(count) characters are beyond the \(keyword)"]
  }
}
