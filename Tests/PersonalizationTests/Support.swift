// What several tests of this module need.

import Foundation

@testable import Personalization

func items(_ count: Int, user: String = "u", word: String = "film") -> [HistoryItem] {
  (0..<count).map { number in
    HistoryItem(
      eventID: "\(user)-\(number)", occurredAt: Date(timeIntervalSince1970: Double(number) * 60),
      input: ["film": .string("\(word) \(number) of \(user)")],
      output: ["funny", "tense", "sad"][number % 3])
  }
}
