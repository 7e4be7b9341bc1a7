// A time in the past as people give it: exactly, or as how long ago.

import Foundation

enum PastTime {
  private static let seconds: [Character: Double] = [
    "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800,
  ]

  /// `2026-01-31T09:30:00Z`, or `90s`, `30m`, `1h`, `7d`, `2w` before now; nil for anything else.
  static func date(_ text: String, now: Date) -> Date? {
    if let unit = text.last, let length = seconds[unit], let count = Int(text.dropLast()) {
      return count >= 0 ? now.addingTimeInterval(-Double(count) * length) : nil
    }
    return (try? Date(text, strategy: .iso8601))
      ?? (try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
  }
}
