// A profile without a model: what a user's history says in one sentence.

import Foundation

/// A sentence computed from a user's history for a task.
public enum ComputedProfile {
  /// The newest items that a profile looks at.
  public static let window = 64

  /// One sentence about the newest `window` items, or nil for a history without items.
  ///
  /// Label tasks: the up to three commonest labels; rating tasks: the mean and the commonest rating;
  /// text tasks: the mean length in words.
  public static func text(
    for history: some BidirectionalCollection<HistoryItem>, task: TaskDefinition
  )
    -> String?
  {
    let outputs = history.suffix(window).map(\.output)
    guard !outputs.isEmpty else { return nil }
    switch task.kind {
    case .label:
      let names = ranked(outputs).prefix(3)
      return "This user's usual answers: \(names.joined(separator: ", "))."
    case .rating:
      let numbers = outputs.compactMap(Double.init)
      guard !numbers.isEmpty, let common = ranked(outputs).first else { return nil }
      let mean = (numbers.reduce(0, +) / Double(numbers.count) * 10).rounded() / 10
      return "This user's mean rating is \(JSONValue.text(of: mean)), most often \(common)."
    case .text:
      let words = outputs.reduce(0) { $0 + $1.split(whereSeparator: \.isWhitespace).count }
      let mean = max(1, Int((Double(words) / Double(outputs.count)).rounded()))
      return "This user writes about \(mean) \(mean == 1 ? "word" : "words")."
    }
  }

  /// Distinct outputs, commonest first, then alphabetically.
  private static func ranked(_ outputs: [String]) -> [String] {
    var counts: [String: Int] = [:]
    for output in outputs { counts[output, default: 0] += 1 }
    return counts.keys.sorted {
      let (one, other) = (counts[$0] ?? 0, counts[$1] ?? 0)
      return one != other ? one > other : $0 < $1
    }
  }
}
