// A profile that the model itself writes from a user's history: what it is asked, and what is kept.

import Foundation

/// The prompt by which a model describes a user, and the form that its answer is brought into.
public enum ModelProfile {
  /// How every description begins; the prompt ends with it, so that even a model that follows no
  /// instructions goes on with a description.
  static let opening = "This user"

  /// The most characters of a description.
  public static let maximumCharacters = 240

  /// The most tokens to let the model write.
  public static let maximumTokens = 60

  /// A prompt with as many of the newest items as fit, oldest first, or nil where not one fits or
  /// there is none. The items' lines are made by the task's template `profile`.
  ///
  /// - Parameters:
  ///   - history: one user's items, oldest first.
  ///   - maximumTokens: the most tokens that the prompt may have.
  public static func prompt(
    for history: some BidirectionalCollection<HistoryItem>, task: TaskDefinition,
    maximumTokens: Int, countTokens: (String) -> Int
  ) -> String? {
    let (before, after) = instruction(task.kind)
    func text(_ lines: ArraySlice<String>) -> String {
      before + "\n" + lines.map { "- \($0)\n" }.joined() + "\n" + after + " " + opening
    }
    let lines = history.suffix(ComputedProfile.window).map(task.profileLine)
    // A longer prompt never has fewer tokens, so halving finds the most lines that fit.
    var (fit, over) = (0, lines.count + 1)
    while over - fit > 1 {
      let middle = (fit + over) / 2
      if countTokens(text(lines.suffix(middle))) <= maximumTokens {
        fit = middle
      } else {
        over = middle
      }
    }
    return fit == 0 ? nil : text(lines.suffix(fit))
  }

  private static func instruction(_ kind: OutputKind) -> (before: String, after: String) {
    switch kind {
    case .label:
      (
        "What one user decided, the oldest first:",
        "In one sentence, what this user deals with and how they usually decide:"
      )
    case .rating:
      (
        "How one user rated things, the oldest first:",
        "In one sentence, what this user likes, what they dislike and how strictly they rate:"
      )
    case .text:
      (
        "What one user wrote, the oldest first:",
        "In one sentence, what this user writes about and in what style:"
      )
    }
  }

  /// The description in a model's answer to the prompt: its first line, up to the last whole
  /// sentence within `maximumCharacters`, else the last whole word. Nil for an answer without
  /// words.
  public static func description(in answer: String) -> String? {
    let line = answer.split(whereSeparator: \.isNewline).lazy.map { TextForm.collapsed(String($0)) }
      .first { $0.contains(where: \.isLetter) }
    guard var text = line else { return nil }
    text = text.trimmingCharacters(in: CharacterSet(charactersIn: "\"“”*_#>- "))
    if !text.lowercased().hasPrefix(opening.lowercased()) {
      text = opening + (text.first.map { "'’,.;:!?".contains($0) } == true ? "" : " ") + text
    }
    text = withoutRepeats(text)
    if text.count > maximumCharacters { text = shortened(text) }
    if let last = text.last, !".!?".contains(last) { text += "." }
    return text == opening + "." ? nil : text
  }

  /// The sentences up to the first that says again what one before it said: a small model's loop.
  private static func withoutRepeats(_ text: String) -> String {
    var seen: Set<String> = []
    var kept: [Substring] = []
    for sentence in sentences(text) {
      guard seen.insert(TextForm.folded(String(sentence))).inserted else { break }
      kept.append(sentence)
    }
    return kept.joined().trimmingCharacters(in: .whitespaces)
  }

  private static func sentences(_ text: String) -> [Substring] {
    var pieces: [Substring] = []
    var start = text.startIndex
    for index in text.indices where text[index] == " " && start < index {
      guard ".!?".contains(text[text.index(before: index)]) else { continue }
      pieces.append(text[start...index])
      start = text.index(after: index)
    }
    return pieces + [text[start...]]
  }

  private static func shortened(_ text: String) -> String {
    let start = text.prefix(maximumCharacters - 1)
    if let end = start.lastIndex(where: { ".!?".contains($0) }),
      start.distance(from: start.startIndex, to: end) >= maximumCharacters / 3
    {
      return String(start[...end])
    }
    let end = start.lastIndex(of: " ") ?? start.endIndex
    return start[..<end].trimmingCharacters(in: CharacterSet(charactersIn: " ,;:–—-"))
  }
}

extension TaskDefinition {
  /// A past item as it is shown to a model that describes the user.
  func profileLine(_ item: HistoryItem) -> String {
    let names = controlNames
    return TextForm.collapsed(
      profile.render(values(of: item).mapValues { TextForm.without(names, $0) }))
  }
}
