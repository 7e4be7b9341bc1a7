// RFC 3339 times in messages, with or without fractions of a second.

import Foundation

enum Timestamps {
  /// The moment that an RFC 3339 text names, or nil.
  static func parse(_ text: String) -> Date? {
    let style = Date.ISO8601FormatStyle(includingFractionalSeconds: text.contains("."))
    guard text.utf8.count <= 40, let date = try? style.parse(text) else { return nil }
    return date
  }

  /// UTC, milliseconds.
  static func format(_ date: Date) -> String {
    date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
  }
}
