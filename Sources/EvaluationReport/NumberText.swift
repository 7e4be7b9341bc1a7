// Numbers as people write them: three significant digits, one number of decimals per metric.

import Foundation

enum NumberText {
  /// The decimals with which the largest of the numbers has three significant digits. All numbers
  /// of a metric share it, so that they stand under each other. A metric that ends at 1 has three.
  static func decimals(_ values: some Sequence<Double>) -> Int {
    let largest = values.lazy.filter(\.isFinite).map { abs($0) }.max() ?? 0
    switch largest {
    case 0: return 3
    case 100...: return 0
    case 10...: return 1
    case let value where value > 1: return 2
    case 0.1...: return 3
    case 0.01...: return 4
    case 0.001...: return 5
    default: return 6
    }
  }

  /// "0.712", "1,240", "−0.03"; a dash where there is no number.
  static func plain(_ value: Double?, decimals: Int) -> String {
    guard let value, value.isFinite else { return "–" }
    if abs(value) >= 1e12 { return String(format: "%.2e", value) }
    let digits = String(format: "%.\(decimals)f", abs(value))
    let isZero = !digits.contains { ("1"..."9").contains($0) }
    return (value < 0 && !isZero ? "−" : "") + grouped(digits)
  }

  /// With its sign: "+0.151", "−0.03", "0.000".
  static func signed(_ value: Double?, decimals: Int) -> String {
    let text = plain(value, decimals: decimals)
    guard let value, value > 0, text.contains(where: { ("1"..."9").contains($0) }) else {
      return text
    }
    return "+" + text
  }

  /// With three significant digits of its own.
  static func alone(_ value: Double?) -> String {
    guard let value else { return "–" }
    if value == value.rounded(), abs(value) < 1e12 { return plain(value, decimals: 0) }
    return plain(value, decimals: decimals([value]))
  }

  static func count(_ count: Int) -> String { plain(Double(count), decimals: 0) }

  /// "1 query", "100 queries".
  static func count(_ count: Int, _ one: String, _ many: String) -> String {
    "\(self.count(count)) \(count == 1 ? one : many)"
  }

  /// A duration: "0.42 s", "12.3 s", "3 min 20 s", "2 h 05 min".
  static func seconds(_ seconds: Double?) -> String {
    guard let seconds, seconds.isFinite, seconds < 1e9 else { return "–" }
    if seconds < 59.95 {
      return seconds == 0 ? "0 s" : "\(plain(seconds, decimals: seconds < 10 ? 2 : 1)) s"
    }
    let whole = Int(seconds.rounded())
    if whole < 3600 {
      return whole % 60 == 0 ? "\(whole / 60) min" : "\(whole / 60) min \(whole % 60) s"
    }
    return String(format: "%d h %02d min", whole / 3600, whole % 3600 / 60)
  }

  /// A share: "96.8 %", "16 %".
  static func percent(_ share: Double?) -> String {
    guard let share, share.isFinite else { return "–" }
    let text = plain(share * 100, decimals: abs(share) < 0.9995 ? 1 : 0)
    return (text.hasSuffix(".0") ? String(text.dropLast(2)) : text) + " %"
  }

  private static func grouped(_ digits: String) -> String {
    let parts = digits.split(separator: ".", maxSplits: 1)
    let whole = Array(parts[0])
    guard whole.count > 4 else { return digits }
    var result = ""
    for (index, digit) in whole.enumerated() {
      if index > 0, (whole.count - index) % 3 == 0 { result += "," }
      result.append(digit)
    }
    return parts.count > 1 ? result + "." + parts[1] : result
  }
}

/// The names of metrics for people.
enum MetricText {
  /// "Accuracy", "ROUGE-1".
  static func title(_ name: String) -> String {
    switch name {
    case "accuracy": "Accuracy"
    case "macro_f1": "Macro F1"
    case "mae": "MAE"
    case "rmse": "RMSE"
    case "rouge_1": "ROUGE-1"
    case "rouge_2": "ROUGE-2"
    case "rouge_l": "ROUGE-L"
    case "meteor": "METEOR"
    case "loss": "Loss"
    default: name.replacing("_", with: " ")
    }
  }

  /// Within a sentence: "accuracy", "MAE".
  static func inSentence(_ name: String) -> String {
    switch name {
    case "accuracy": "accuracy"
    case "macro_f1": "macro F1"
    default: title(name)
    }
  }

  /// The title of an axis, with what it counts.
  static func axis(_ metric: MetricInfo) -> String {
    let unit: String
    switch metric.name {
    case "accuracy": unit = "share of queries"
    case "macro_f1": unit = "mean over labels, 0–1"
    case "mae": unit = "mean error, rating steps"
    case "rmse": unit = "rating steps"
    case "rouge_1", "rouge_2", "rouge_l", "meteor": unit = "0–1"
    default: unit = ""
    }
    let name = unit.isEmpty ? title(metric.name) : "\(title(metric.name)) (\(unit))"
    return name + (metric.higherIsBetter ? ", higher is better" : ", lower is better")
  }
}
