// What several tests of this module need.

import Foundation

@testable import Personalization

/// The repository's root.
let root = URL(fileURLWithPath: #filePath)
  .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

func fixture(_ name: String) throws -> JSONValue {
  let url = root.appendingPathComponent("Tests/Fixtures/personalization/\(name)")
  return try JSONDecoder().decode(JSONValue.self, from: Data(contentsOf: url))
}

/// A tokenizer's length as these tests see it: words and line ends.
@Sendable func countWords(_ text: String) -> Int {
  text.split(separator: "\n", omittingEmptySubsequences: false)
    .reduce(-1) { $0 + 1 + $1.split(separator: " ").count }
}

func items(_ count: Int, user: String = "u", word: String = "film") -> [HistoryItem] {
  (0..<count).map { number in
    HistoryItem(
      eventID: "\(user)-\(number)", occurredAt: Date(timeIntervalSince1970: Double(number) * 60),
      input: ["film": .string("\(word) \(number) of \(user)")],
      output: ["funny", "tense", "sad"][number % 3])
  }
}
