// The one place where prompts are put together, for training and for serving.

import Foundation
import JSON

/// A finished prompt and what went into it.
public struct BuiltPrompt: Sendable, Hashable {
  /// Without white space at its end; the completion begins with a space.
  public let text: String
  /// Length in tokens, by the closure given.
  public let tokens: Int
  /// The events whose lines stand in the prompt, most relevant first.
  public let retrieved: [String]
  /// Whether a profile stands in it; false also where there was no room for it.
  public let usesProfile: Bool
  /// What the prompt begins with that is the task's own words, the same for every user.
  public let ownWords: String
  /// Input fields that were cut at their end to fit.
  public let cutFields: [String]
}

/// Why no prompt could be built.
public enum PromptError: Error, Equatable, CustomStringConvertible, LocalizedError {
  case budgetTooSmall(task: String, instructionTokens: Int, budget: Int)

  public var description: String {
    switch self {
    case .budgetTooSmall(let task, let tokens, let budget):
      "task \"\(task)\": its instruction alone takes \(tokens) tokens and a prompt may have \(budget)"
    }
  }
  public var errorDescription: String? { description }
}

/// Puts together profile, newline, retrieved items (each ends in a newline), newline and the task's
/// prompt, of which only the parts that exist are written. Retrieved items stand with the most
/// relevant one last, next to the question.
///
/// Over budget it drops retrieved items, least relevant first, then the profile, and then cuts the
/// input's longest field from its end; never the instruction.
public struct PromptBuilder: Sendable {
  public let task: TaskDefinition
  /// The task of retrieved items, where a history has another format than the task's questions.
  public let historyTask: TaskDefinition
  /// What of the past stands in a prompt.
  public let variant: PromptVariant
  /// The most tokens a prompt may have, its completion not counted.
  public let maximumTokens: Int
  private let countTokens: @Sendable (String) -> Int

  /// - Parameters:
  ///   - historyTask: the task of retrieved items; nil: the same.
  ///   - maximumTokens: of a prompt, its completion not counted.
  ///   - countTokens: the length of a text in tokens; asked again for each part that is left out.
  public init(
    task: TaskDefinition, historyTask: TaskDefinition? = nil, variant: PromptVariant = .plain,
    maximumTokens: Int, countTokens: @escaping @Sendable (String) -> Int
  ) {
    self.task = task
    self.historyTask = historyTask ?? task
    self.variant = variant
    self.maximumTokens = maximumTokens
    self.countTokens = countTokens
  }

  /// The prompt of an input as the variant has it.
  ///
  /// - Parameters:
  ///   - earlier: what the user did before.
  ///   - first: items of it at lower positions, such as those before a shift, are left out.
  ///   - profile: the one that was written of the user; nil: the one computed of `earlier`.
  /// - Throws: `PromptError` where the instruction alone is over budget.
  public func build(
    input: [String: JSONValue], after earlier: HistoryRetriever, from first: Int = 0,
    profile: String? = nil
  ) throws -> BuiltPrompt {
    try build(
      input: input,
      retrieved: variant.retrieve > 0
        ? earlier.retrieve(text: task.queryText(input), k: variant.retrieve, from: first) : [],
      profile: self.profile(of: earlier, from: first, written: profile))
  }

  /// The prompt of an event whose output is known, as it might have been asked for.
  ///
  /// An item without an input (a tweet) looks for its like by its own words, as a question about it would; they do not
  /// come into the prompt by that.
  /// - Parameter fields: of its input, those that it is asked with; nil for all.
  /// - Throws: `PromptError` where the instruction alone is over budget.
  public func build(
    item: HistoryItem, fields: Set<String>? = nil, after earlier: HistoryRetriever,
    from first: Int = 0, profile: String? = nil
  ) throws -> BuiltPrompt {
    let input = fields.map { fields in item.input.filter { fields.contains($0.key) } } ?? item.input
    guard task.queryText(input).isEmpty, variant.retrieve > 0 else {
      return try build(input: input, after: earlier, from: first, profile: profile)
    }
    return try build(
      input: input,
      retrieved: earlier.retrieve(text: task.itemText(item), k: variant.retrieve, from: first),
      profile: self.profile(of: earlier, from: first, written: profile))
  }

  private func profile(
    of earlier: HistoryRetriever, from first: Int, written: String?
  ) -> String? {
    guard variant.profile else { return nil }
    let past = earlier.items[min(first, earlier.items.count)...]
    return written ?? ComputedProfile.text(for: past, task: historyTask)
  }

  /// - Parameter retrieved: most relevant first, as `HistoryRetriever.retrieve` returns them.
  /// - Throws: `PromptError` where the instruction alone is over budget.
  public func build(
    input: [String: JSONValue], retrieved: [HistoryItem] = [], profile: String? = nil
  ) throws -> BuiltPrompt {
    let names = task.controlNames.union(historyTask.controlNames)
    var values = task.fieldTexts(input).mapValues { TextForm.without(names, $0) }
    var items = retrieved[...]
    var profile = profile.map(TextForm.collapsed).flatMap { $0.isEmpty ? nil : $0 }
    var cut: [String] = []

    func text() -> String {
      assemble(values, items, profile.map { TextForm.without(names, $0) }, names)
    }
    var tokens = countTokens(text())
    while tokens > maximumTokens, !items.isEmpty {
      items.removeLast()
      tokens = countTokens(text())
    }
    if tokens > maximumTokens, profile != nil {
      profile = nil
      tokens = countTokens(text())
    }
    while tokens > maximumTokens {
      let longest = values.filter { !$0.value.isEmpty }
        .max { ($0.value.utf8.count, $1.key) < ($1.value.utf8.count, $0.key) }
      guard let longest else {
        throw PromptError.budgetTooSmall(
          task: task.name, instructionTokens: tokens, budget: maximumTokens)
      }
      values[longest.key] = longestStart(of: longest.value) { start in
        values[longest.key] = start
        return countTokens(text()) <= maximumTokens
      }
      cut.append(longest.key)
      tokens = countTokens(text())
    }
    let finished = text()
    let own = items.isEmpty && profile == nil ? task.prompt.beginning : ""
    return BuiltPrompt(
      text: finished, tokens: tokens, retrieved: items.map(\.eventID),
      usesProfile: profile != nil, ownWords: finished.hasPrefix(own) ? own : "", cutFields: cut)
  }

  private func assemble(
    _ values: [String: String], _ items: ArraySlice<HistoryItem>, _ profile: String?,
    _ names: Set<String>
  ) -> String {
    var text = ""
    if let profile { text += profile + "\n" }
    if !items.isEmpty {
      for item in items.reversed() { text += historyTask.historyLine(item, without: names) + "\n" }
      text += "\n"
    } else if profile != nil {
      text += "\n"
    }
    return text + task.prompt.render(values)
  }

  /// The longest start of a text that fits, by halving: at most about log2 of its length trials.
  private func longestStart(of text: String, fits: (String) -> Bool) -> String {
    let characters = Array(text)
    var low = 0
    var high = characters.count
    // Always holds: `low` characters fit, or nothing does; `high` do not.
    while high - low > 1 {
      let middle = (low + high) / 2
      if fits(String(characters[..<middle])) { low = middle } else { high = middle }
    }
    return String(characters[..<low])
  }
}
