// One past event of a user, in the form that retrieval, prompts and training use.

import Foundation
import JSON

/// One behaviour event with an output: what the user was given, and what they chose or wrote.
public struct HistoryItem: Codable, Sendable, Hashable {
  public var eventID: String
  public var occurredAt: Date
  /// By the names of fields; undeclared ones may be among them.
  public var input: [String: JSONValue]
  /// The output in the task's form, as `TaskDefinition.validate` returns it.
  public var output: String

  public init(eventID: String, occurredAt: Date, input: [String: JSONValue], output: String) {
    self.eventID = eventID
    self.occurredAt = occurredAt
    self.input = input
    self.output = output
  }
}

extension TaskDefinition {
  /// The declared fields of an input as texts for templates; undeclared and missing ones left out.
  public func fieldTexts(_ input: [String: JSONValue]) -> [String: String] {
    var texts: [String: String] = [:]
    for field in fields {
      if let text = input[field.name]?.plainText { texts[field.name] = text }
    }
    return texts
  }

  /// What retrieval searches by.
  public func queryText(_ input: [String: JSONValue]) -> String { query.render(fieldTexts(input)) }

  /// What a past item is found by.
  public func itemText(_ item: HistoryItem) -> String { historyQuery.render(values(of: item)) }

  /// One line of a prompt for a past item, whose texts hold none of these names of control tokens.
  public func historyLine(_ item: HistoryItem, without names: Set<String> = []) -> String {
    TextForm.collapsed(
      historyItem.render(values(of: item).mapValues { TextForm.without(names, $0) }))
  }

  /// A past item's texts for templates that may hold `{output}`.
  func values(of item: HistoryItem) -> [String: String] {
    var values = fieldTexts(item.input)
    values["output"] = item.output
    return values
  }
}
