// A history as mere text, for studying what a history in another format than its task's is worth.

import Foundation

extension TaskDefinition {
  /// The task of continuing this task's history lines as plain text: no instruction, no question,
  /// the first third of a line's words is the prompt and the rest what follows.
  ///
  /// Made for `PromptBuilder` and `TrainingSetBuilder` in place of this task; questions stay this
  /// task's, with it as their `historyTask`.
  public func asPlainText() throws -> TaskDefinition {
    try TaskDefinition(
      name: "\(name)_as_text", kind: .text, description: "\(description), as plain text",
      fields: [InputField(name: "start", maximumBytes: maximumInputBytes)],
      prompt: PromptTemplate("{start}"), historyItem: PromptTemplate("{start} {output}"),
      historyQuery: PromptTemplate("{start} {output}"), maximumTokens: maximumTokens,
      maximumInputBytes: maximumInputBytes + maximumOutputBytes,
      maximumOutputBytes: maximumInputBytes + maximumOutputBytes)
  }

  /// An item of this task's history as an item of `asPlainText`; nil for a line of one word.
  public func plainText(of item: HistoryItem) -> HistoryItem? {
    let words = historyLine(item).split(separator: " ")
    guard words.count > 1 else { return nil }
    let count = max(1, words.count / 3)
    var text = item
    text.input = ["start": .string(words[..<count].joined(separator: " "))]
    text.output = words[count...].joined(separator: " ")
    return text
  }
}
