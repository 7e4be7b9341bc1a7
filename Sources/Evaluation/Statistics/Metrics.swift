// How answers are measured: the metrics of LaMP's evaluation.

import Foundation
import Personalization

/// Metrics over pairs of predictions and golds. Lists have equal lengths; empty lists give 0, but for
/// ``value(of:predictions:golds:task:)``.
public enum Metrics {
  /// One metric of a task. Predictions are answers in the task's form, nil where none could be read.
  /// - Returns: nil where there is nothing to measure.
  public static func value(
    of metric: Metric, predictions: [String?], golds: [String], task: TaskDefinition
  ) -> Double? {
    guard !golds.isEmpty else { return nil }
    return switch metric {
    case .accuracy: accuracy(predictions.map { $0.map(trimmed) }, golds.map(trimmed))
    case .macroF1:
      macroF1(predictions.map { $0.map(trimmed) }, golds.map(trimmed), labels: task.labels)
    case .meanAbsoluteError: meanAbsoluteError(ratings(predictions, golds, task))
    case .rootMeanSquaredError: rootMeanSquaredError(ratings(predictions, golds, task))
    case .rouge1: mean(zip(predictions, golds).map { rouge1($0 ?? "", $1) })
    case .rougeL: mean(zip(predictions, golds).map { rougeL($0 ?? "", $1) })
    }
  }

  /// The part of one answer in a metric that is a mean over answers; nil for the metrics that are not
  /// (macro F1, RMSE), and for an error against a gold that is no rating.
  public static func score(
    of metric: Metric, prediction: String?, gold: String, task: TaskDefinition
  ) -> Double? {
    switch metric {
    case .accuracy: prediction.map(trimmed) == trimmed(gold) ? 1 : 0
    case .meanAbsoluteError:
      ratings([prediction], [gold], task).first.map { abs($0.prediction - $0.gold) }
    case .rouge1: rouge1(prediction ?? "", gold)
    case .rougeL: rougeL(prediction ?? "", gold)
    case .macroF1, .rootMeanSquaredError: nil
    }
  }

  private static func trimmed(_ text: String) -> String {
    text.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// The share of predictions that are their golds; nil is none. 0 without any.
  public static func accuracy(_ predictions: [String?], _ golds: [String]) -> Double {
    mean(zip(predictions, golds).map { $0 == $1 ? 1 : 0 })
  }

  /// The unweighted mean of each label's F1 over the whole label list, 0 for labels that occur in
  /// neither list (scikit-learn's `f1_score(average="macro", zero_division=0)`).
  public static func macroF1(_ predictions: [String?], _ golds: [String], labels: [String])
    -> Double
  {
    mean(
      labels.map { label in
        var (hits, predicted, actual) = (0, 0, 0)
        for (prediction, gold) in zip(predictions, golds) {
          if prediction == label { predicted += 1 }
          if gold == label { actual += 1 }
          if prediction == label, gold == label { hits += 1 }
        }
        return predicted + actual == 0 ? 0 : 2 * Double(hits) / Double(predicted + actual)
      })
  }

  /// Without pairs 0.
  public static func meanAbsoluteError(_ pairs: [(prediction: Double, gold: Double)]) -> Double {
    mean(pairs.map { abs($0.prediction - $0.gold) })
  }

  /// Without pairs 0.
  public static func rootMeanSquaredError(_ pairs: [(prediction: Double, gold: Double)]) -> Double {
    mean(pairs.map { ($0.prediction - $0.gold) * ($0.prediction - $0.gold) }).squareRoot()
  }

  /// Ratings as numbers; an answer that is none counts as the end of the scale farther from the gold.
  static func ratings(_ predictions: [String?], _ golds: [String], _ task: TaskDefinition)
    -> [(prediction: Double, gold: Double)]
  {
    let low = task.rating?.minimum ?? 1
    let high = task.rating?.maximum ?? 5
    return zip(predictions, golds).compactMap { prediction, gold in
      guard let gold = number(gold) else { return nil }
      let far = abs(low - gold) > abs(high - gold) ? low : high
      return (prediction.flatMap(number) ?? far, gold)
    }
  }

  /// The finite number that a text is, as Python's `float` reads it: white space around it, digits of
  /// any script and single underscores between digits are taken, hexadecimals are not.
  static func number(_ text: String) -> Double? {
    let scalars = trimmed(text).unicodeScalars.map { scalar -> UnicodeScalar in
      guard scalar.value > 0x7F, scalar.properties.numericType == .decimal,
        let value = scalar.properties.numericValue
      else { return scalar }
      return UnicodeScalar(UInt8(0x30 + Int(value)))
    }
    func isDigit(_ index: Int) -> Bool {
      scalars.indices.contains(index) && ("0"..."9").contains(scalars[index])
    }
    var plain = ""
    for (index, scalar) in scalars.enumerated() {
      switch scalar {
      case "_":
        guard isDigit(index - 1), isDigit(index + 1) else { return nil }
      case "0"..."9", "+", "-", ".", "e", "E": plain.unicodeScalars.append(scalar)
      default: return nil
      }
    }
    return Double(plain).flatMap { $0.isFinite ? $0 : nil }
  }

  /// ROUGE-1 F: the harmonic mean of unigram precision and recall, without stemming.
  public static func rouge1(_ prediction: String, _ gold: String) -> Double {
    let (found, wanted) = (rougeWords(prediction), rougeWords(gold))
    var left: [String: Int] = [:]
    for word in wanted { left[word, default: 0] += 1 }
    var hits = 0
    for word in found where left[word, default: 0] > 0 {
      left[word, default: 0] -= 1
      hits += 1
    }
    return fMeasure(hits, found.count, wanted.count)
  }

  /// ROUGE-L F: from the longest common subsequence of words, without stemming.
  public static func rougeL(_ prediction: String, _ gold: String) -> Double {
    // Numbers for words: comparing them is most of the work on long texts.
    var numbers: [String: Int] = [:]
    func numbered(_ words: [String]) -> [Int] {
      words.map { word in
        let number = numbers[word] ?? numbers.count
        numbers[word] = number
        return number
      }
    }
    let found = numbered(rougeWords(prediction))
    let wanted = numbered(rougeWords(gold))
    var previous = [Int](repeating: 0, count: wanted.count + 1)
    for word in found {
      var current = previous
      for (column, other) in wanted.enumerated() {
        current[column + 1] =
          word == other ? previous[column] + 1 : max(previous[column + 1], current[column])
      }
      previous = current
    }
    return fMeasure(previous.last ?? 0, found.count, wanted.count)
  }

  private static func fMeasure(_ hits: Int, _ found: Int, _ wanted: Int) -> Double {
    hits == 0 ? 0 : 2 * Double(hits) / Double(found + wanted)
  }

  /// rouge_score's words: lower case, runs of a–z and 0–9.
  static func rougeWords(_ text: String) -> [String] {
    var words: [String] = []
    var word = ""
    for scalar in text.lowercased().unicodeScalars {
      switch scalar {
      case "a"..."z", "0"..."9": word.unicodeScalars.append(scalar)
      default:
        if !word.isEmpty { words.append(word) }
        word = ""
      }
    }
    if !word.isEmpty { words.append(word) }
    return words
  }

  private static func mean(_ values: [Double]) -> Double {
    values.isEmpty ? 0 : values.reduce(0, +) / Double(values.count)
  }
}
