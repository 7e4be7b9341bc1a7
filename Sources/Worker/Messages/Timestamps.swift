// RFC 3339 times in messages, with or without fractions of a second.

import Foundation

enum Timestamps {
  /// The moment that an RFC 3339 text names, to the microsecond, or nil.
  static func parse(_ text: String) -> Date? {
    var text = text
    return text.withUTF8 { parse($0) }
  }

  /// A leap second (`:60`) is the first moment of the next minute.
  static func parse(_ text: UnsafeBufferPointer<UInt8>) -> Date? {
    // 2026-01-31T09:30:00Z is the shortest.
    guard (20...40).contains(text.count) else { return nil }
    func number(_ start: Int, _ count: Int) -> Int? {
      guard start + count <= text.count else { return nil }
      var value = 0
      for byte in text[start..<start + count] {
        guard byte &- UInt8(ascii: "0") < 10 else { return nil }
        value = value * 10 + Int(byte - UInt8(ascii: "0"))
      }
      return value
    }
    func isAt(_ index: Int, _ byte: Unicode.Scalar) -> Bool { text[index] == UInt8(ascii: byte) }
    guard isAt(4, "-"), isAt(7, "-"), text[10] | 0x20 == UInt8(ascii: "t"), isAt(13, ":"),
      isAt(16, ":"), let year = number(0, 4), let month = number(5, 2), let day = number(8, 2),
      let hour = number(11, 2), let minute = number(14, 2), let second = number(17, 2),
      (1...12).contains(month), day >= 1, day <= days(in: month, of: year), hour < 24,
      minute < 60, second <= 60
    else { return nil }
    var index = 19
    var fraction = 0.0
    if isAt(index, ".") {
      index += 1
      let start = index
      var scale = 0.1
      while index < text.count, text[index] &- UInt8(ascii: "0") < 10 {
        fraction += Double(text[index] - UInt8(ascii: "0")) * scale
        scale /= 10
        index += 1
      }
      if index == start { return nil }
    }
    guard index < text.count else { return nil }
    var offset = 0
    if text[index] | 0x20 == UInt8(ascii: "z") {
      index += 1
    } else {
      guard isAt(index, "+") || isAt(index, "-"), let hours = number(index + 1, 2), hours < 24,
        index + 3 < text.count, isAt(index + 3, ":"), let minutes = number(index + 4, 2),
        minutes < 60
      else { return nil }
      offset = (isAt(index, "-") ? -1 : 1) * (hours * 60 + minutes) * 60
      index += 6
    }
    guard index == text.count else { return nil }
    let seconds = ((daysSince1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
    return Date(
      timeIntervalSince1970: Double(seconds - offset)
        + (fraction * 1_000_000).rounded() / 1_000_000)
  }

  private static func days(in month: Int, of year: Int) -> Int {
    switch month {
    case 2: (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
  }

  /// Days of the proleptic Gregorian calendar (H. Hinnant, days_from_civil).
  private static func daysSince1970(_ year: Int, _ month: Int, _ day: Int) -> Int {
    let y = month <= 2 ? year - 1 : year
    let era = (y >= 0 ? y : y - 399) / 400
    let yearOfEra = y - era * 400
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }

  /// UTC, milliseconds.
  static func format(_ date: Date) -> String {
    date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
  }
}
