// How answers are measured: the metrics of LaMP's evaluation.

import Foundation

/// Metrics over pairs of predictions and golds. Lists have equal lengths; empty lists give 0.
public enum Metrics {
  /// One metric of a task. Predictions are answers in the task's form, nil where none could be read.
  public static func value(
    of metric: Metric, predictions: [String?], golds: [String], task: TaskDefinition
  ) -> Double {
    switch metric {
    case .accuracy: accuracy(predictions, golds)
    case .macroF1: macroF1(predictions, golds, labels: task.labels)
    case .meanAbsoluteError: meanAbsoluteError(ratings(predictions, golds, task))
    case .rootMeanSquaredError: rootMeanSquaredError(ratings(predictions, golds, task))
    case .rouge1: mean(zip(predictions, golds).map { rouge1($0 ?? "", $1) })
    case .rougeL: mean(zip(predictions, golds).map { rougeL($0 ?? "", $1) })
    }
  }

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

  public static func meanAbsoluteError(_ pairs: [(prediction: Double, gold: Double)]) -> Double {
    mean(pairs.map { abs($0.prediction - $0.gold) })
  }

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
      guard let gold = Double(gold) else { return nil }
      let far = abs(low - gold) > abs(high - gold) ? low : high
      return (prediction.flatMap(Double.init) ?? far, gold)
    }
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
    let (found, wanted) = (rougeWords(prediction), rougeWords(gold))
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
