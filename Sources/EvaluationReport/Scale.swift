// From numbers to positions: linear axes with ticks at round numbers.

import Foundation

/// A linear axis over a domain. Always finite, never without width.
struct Scale {
  let low: Double
  let high: Double
  let start: Double
  let end: Double

  /// - Parameters:
  ///   - low, high: the domain; widened where it has no width.
  ///   - start, end: the positions of its ends; `end` may be the smaller (a vertical axis).
  init(low: Double, high: Double, start: Double, end: Double) {
    let isUsable = low.isFinite && high.isFinite && high - low > 1e-12 * max(abs(low), abs(high))
    let middle = low.isFinite ? low : high.isFinite ? high : 0
    let half = max(abs(middle) * 0.1, 0.05)
    self.low = isUsable ? low : middle - half
    self.high = isUsable ? high : middle + half
    self.start = start
    self.end = end
  }

  /// A scale that shows all values with some room, from 0 where that is near and none is negative.
  init(showing values: [Double], start: Double, end: Double) {
    let values = values.filter(\.isFinite)
    let (low, high) = (values.min() ?? 0, values.max() ?? 1)
    let room = max((high - low) * 0.06, abs(high) * 0.01)
    let from = low >= 0 && low - room < 0.25 * high ? 0 : low - room
    self.init(low: from, high: high + room, start: start, end: end)
  }

  func position(_ value: Double) -> Double {
    start + (min(max(value, low), high) - low) / (high - low) * (end - start)
  }

  /// As many ticks as their texts have room for.
  func ticks(size: Double, text: (Double, Int) -> String) -> (values: [Double], decimals: Int) {
    let length = abs(end - start)
    for count in [7, 6, 5, 4, 3, 2] {
      let ticks = ticks(count)
      let widest = ticks.values.map { TextMeasure.width(text($0, ticks.decimals), size: size) }
        .max()
      guard let widest, ticks.values.count > 1 else { continue }
      let step = length * (ticks.values[1] - ticks.values[0]) / (high - low)
      if step > widest + 16 { return ticks }
    }
    return ticks(1)
  }

  /// Round numbers within the domain, at most `count` + 1 of them, and the decimals they need.
  func ticks(_ count: Int) -> (values: [Double], decimals: Int) {
    let raw = (high - low) / Double(max(count, 1))
    let magnitude = pow(10, floor(log10(raw)))
    let step = [1, 2, 2.5, 5, 10].map { $0 * magnitude }.first { $0 >= raw * 0.999 } ?? raw
    let decimals =
      (0...9).first {
        abs((step * pow(10, Double($0))).rounded() / pow(10, Double($0)) - step) < step * 1e-6
      } ?? 9
    let first = (low / step - 1e-9).rounded(.up)
    let last = (high / step + 1e-9).rounded(.down)
    guard last >= first, last - first < 100 else { return ([], decimals) }
    return (stride(from: first, through: last, by: 1).map { $0 * step }, decimals)
  }
}

/// How wide text will be, without a font: near enough to reserve room and to cut what is too long.
enum TextMeasure {
  static func width(_ text: String, size: Double) -> Double {
    text.unicodeScalars.reduce(0) { $0 + advance($1) } * size
  }

  /// The text, cut with an ellipsis where it would be wider.
  static func fit(_ text: String, width: Double, size: Double) -> String {
    guard self.width(text, size: size) > width else { return text }
    var result = ""
    var used = 0.7 * size
    for character in text {
      used += self.width(String(character), size: size)
      if used > width { break }
      result.append(character)
    }
    while result.last == " " { result.removeLast() }
    return result + "…"
  }

  /// The text on one or two lines, broken at a space where it is wider.
  static func lines(_ text: String, width: Double, size: Double) -> [String] {
    guard self.width(text, size: size) > width else { return [text] }
    var first = ""
    var rest = text.split(separator: " ")[...]
    while let word = rest.first {
      let longer = first.isEmpty ? String(word) : "\(first) \(word)"
      if self.width(longer, size: size) > width { break }
      first = longer
      rest = rest.dropFirst()
    }
    return first.isEmpty || rest.isEmpty ? [text] : [first, rest.joined(separator: " ")]
  }

  private static func advance(_ scalar: Unicode.Scalar) -> Double {
    switch scalar {
    case "i", "j", "l", "t", "f", "r", " ", ".", ",", ":", ";", "'", "|", "!", "(", ")", "I": 0.32
    case "m", "w", "M", "W", "%", "—", "…": 0.88
    case "A"..."Z", "+", "−", "=", "<", ">", "_": 0.66
    case "\u{1100}"...: 1
    default: 0.56
    }
  }
}
