// Checks JSON values against JSON Schemas: those of docs/schemas and AsyncAPI's own (draft 07), as far as these go. A
// keyword that the check does not know is a finding itself, so a schema cannot say more than is checked.

import Foundation
import JSON
import Personalization

struct SchemaCheck {
  let schema: JSONValue
  /// Documents that `$ref` may name, by their ids or places.
  var documents: [String: JSONValue] = [:]
  /// What a `$ref` without a document is looked up in.
  var base: JSONValue = .null

  /// What is wrong with a value, one line for each finding; empty where it is valid.
  func findings(_ value: JSONValue) -> [String] {
    check(value, schema, base == .null ? schema : base, "$")
  }

  private static let annotations: Set<String> = [
    "$schema", "$id", "$comment", "title", "description", "default", "format", "examples",
    "definitions", "readOnly", "deprecated", "example",
  ]

  private func check(
    _ value: JSONValue, _ schema: JSONValue, _ base: JSONValue, _ path: String
  ) -> [String] {
    if let all = schema.bool { return all ? [] : ["\(path): nothing may stand here"] }
    guard let keywords = schema.object else { return ["\(path): the schema is no schema"] }
    if let reference = schema["$ref"]?.string {
      // What stands beside it does not count.
      guard let (target, base) = resolve(reference, base) else {
        return ["\(path): there is no \(reference)"]
      }
      return check(value, target, base, path)
    }
    func fits(_ schema: JSONValue) -> Bool { check(value, schema, base, path).isEmpty }
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
      case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
        findings += limit(value.number, keyword, rule, path)
      case "minLength", "maxLength":
        findings += limit(
          value.string.map { Double($0.unicodeScalars.count) }, keyword, rule, path)
      case "minItems", "maxItems":
        findings += limit(value.array.map { Double($0.count) }, keyword, rule, path)
      case "minProperties", "maxProperties":
        findings += limit(value.object.map { Double($0.count) }, keyword, rule, path)
      case "pattern":
        if let text = value.string, !Self.matches(text, rule) {
          findings.append("\(path): \"\(text)\" does not match \(rule.canonical)")
        }
      case "uniqueItems":
        if let items = value.array, rule == .bool(true),
          Set(items.map(\.canonical)).count < items.count
        {
          findings.append("\(path): an item stands there twice")
        }
      case "required":
        guard let members = value.object else { break }
        for name in rule.array?.compactMap(\.string) ?? [] where members[name] == nil {
          findings.append("\(path): \"\(name)\" is missing")
        }
      case "properties", "patternProperties", "additionalProperties":
        for (name, member) in value.object ?? [:] {
          for rule in rules(of: name, keyword, rule, keywords) {
            findings += check(member, rule, base, "\(path).\(name)")
          }
        }
      case "propertyNames":
        for name in (value.object ?? [:]).keys {
          findings += check(.string(name), rule, base, "\(path).\(name)")
        }
      case "dependencies":
        for (name, rule) in rule.object ?? [:] where value[name] != nil {
          let others = rule.array.map { JSONValue.object(["required": .array($0)]) }
          findings += check(value, others ?? rule, base, path)
        }
      case "items", "additionalItems":
        let positional = keywords["items"]?.array
        for (index, item) in (value.array ?? []).enumerated() {
          let own = keyword == "items" ? rule.array.map { $0.dropFirst(index).first } ?? rule : nil
          let isRest = keyword == "additionalItems" && positional.map { index >= $0.count } == true
          guard let rule = own ?? (isRest ? rule : nil) else { continue }
          findings += check(item, rule, base, "\(path)[\(index)]")
        }
      case "contains":
        if let items = value.array, !items.contains(where: { check($0, rule, base, path).isEmpty })
        {
          findings.append("\(path): no item fits \(rule.canonical)")
        }
      case "allOf": for rule in rule.array ?? [] { findings += check(value, rule, base, path) }
      case "anyOf", "oneOf":
        let choices = rule.array ?? []
        let count = choices.count(where: fits)
        if count == 0 {
          let near = choices.map { check(value, $0, base, path) }.min { $0.count < $1.count } ?? []
          findings.append(
            "\(path): \(value.canonical.prefix(80)) fits none of the choices; nearest: \(near)")
        } else if keyword == "oneOf", count > 1 {
          findings.append("\(path): \(value.canonical.prefix(80)) fits \(count) choices")
        }
      case "not":
        if fits(rule) { findings.append("\(path): fits what it must not") }
      case "if":
        let branch = fits(rule) ? "then" : "else"
        if let rule = schema[branch] { findings += check(value, rule, base, path) }
      case "then", "else": break
      case _ where Self.annotations.contains(keyword) || keyword.hasPrefix("x-"): break
      default: findings.append("\(path): the check does not know the keyword \"\(keyword)\"")
      }
    }
    return findings
  }

  /// What a keyword asks of an object's member of that name.
  private func rules(
    of name: String, _ keyword: String, _ rule: JSONValue, _ keywords: [String: JSONValue]
  ) -> [JSONValue] {
    func patterns(_ rules: JSONValue?) -> [JSONValue] {
      (rules?.object ?? [:]).filter { Self.matches(name, .string($0.key)) }.map(\.value)
    }
    switch keyword {
    case "properties": return [rule[name]].compactMap(\.self)
    case "patternProperties": return patterns(rule)
    default:
      let isNamed =
        keywords["properties"]?[name] != nil || !patterns(keywords["patternProperties"]).isEmpty
      return isNamed ? [] : [rule]
    }
  }

  /// What a reference names, and what references in it are looked up in.
  private func resolve(_ reference: String, _ base: JSONValue) -> (JSONValue, JSONValue)? {
    let parts = reference.split(separator: "#", omittingEmptySubsequences: false)
    guard let document = parts[0].isEmpty ? base : documents[String(parts[0])] else { return nil }
    var target = document
    for name in (parts.count > 1 ? parts[1] : "").split(separator: "/") {
      let name = String(name).replacing("~1", with: "/").replacing("~0", with: "~")
      guard let next = target[name] else { return nil }
      target = next
    }
    return (target, document)
  }

  private static func matches(_ text: String, _ pattern: JSONValue) -> Bool {
    guard let expression = try? NSRegularExpression(pattern: pattern.string ?? "(") else {
      return false
    }
    let range = NSRange(text.startIndex..., in: text)
    return expression.firstMatch(in: text, range: range) != nil
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
    _ number: Double?, _ keyword: String, _ rule: JSONValue, _ path: String
  ) -> [String] {
    guard let number, let limit = rule.number else { return [] }
    let fits =
      switch keyword {
      case "exclusiveMinimum": number > limit
      case "exclusiveMaximum": number < limit
      case _ where keyword.hasPrefix("min"): number >= limit
      default: number <= limit
      }
    return fits ? [] : ["\(path): \(number) is beyond the \(keyword) \(rule.canonical)"]
  }
}
