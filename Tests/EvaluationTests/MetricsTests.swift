import JSON
import TestSupport
import Testing

@testable import Evaluation
@testable import Personalization

@Suite struct MetricsTests {
  @Test("ROUGE equals rouge_score without stemming on 1,000 random and awkward pairs")
  func rouge() throws {
    let rows = try #require(try fixture("personalization/metrics.json")["rouge"]?.array)
    #expect(rows.count == 1_000)
    var wrong: [String] = []
    for row in rows {
      let cells = try #require(row.array)
      let (prediction, gold) = (try #require(cells[0].string), try #require(cells[1].string))
      let one = abs(Metrics.rouge1(prediction, gold) - (try #require(cells[2].number)))
      let long = abs(Metrics.rougeL(prediction, gold) - (try #require(cells[3].number)))
      if max(one, long) > 1e-6 { wrong.append(row.canonical) }
    }
    #expect(wrong.isEmpty)
  }

  /// A fixture's list of answers, null where there is none.
  func list(_ row: JSONValue, _ key: String) -> [String?] { row[key]?.array?.map(\.string) ?? [] }

  @Test("accuracy and macro F1 equal scikit-learn's over the whole label list")
  func labels() throws {
    for row in try #require(try fixture("personalization/metrics.json")["labels"]?.array) {
      let labels = list(row, "labels").compactMap(\.self)
      let task = try TaskDefinition(
        name: "t", kind: .label, fields: [InputField(name: "x")], prompt: PromptTemplate("{x}:"),
        historyItem: PromptTemplate("{x}: {output}"), labels: labels)
      let golds = list(row, "golds").compactMap(\.self)
      for (metric, key) in [(Metric.accuracy, "accuracy"), (.macroF1, "macro_f1")] {
        let found = try #require(
          Metrics.value(
            of: metric, predictions: list(row, "predictions"), golds: golds, task: task))
        #expect(abs(found - (try #require(row[key]?.number))) < 1e-6, "\(row.canonical)")
      }
    }
  }

  @Test("rating errors equal scikit-learn's, an unreadable answer at the far end")
  func ratings() throws {
    let task = try TaskCatalogue.builtIn.task(named: "LaMP_3")
    for row in try #require(try fixture("personalization/metrics.json")["ratings"]?.array) {
      let golds = list(row, "golds").compactMap(\.self)
      for (metric, key) in [(Metric.meanAbsoluteError, "mae"), (.rootMeanSquaredError, "rmse")] {
        let found = try #require(
          Metrics.value(
            of: metric, predictions: list(row, "predictions"), golds: golds, task: task))
        #expect(abs(found - (try #require(row[key]?.number))) < 1e-6, "\(row.canonical)")
      }
    }
  }

  @Test("a metric that is a mean is the mean of its answers' scores", arguments: Metric.allCases)
  func scores(metric: Metric) throws {
    let name = ["accuracy": "film_tag", "mae": "LaMP_3", "rouge_1": "LaMP_4", "rouge_l": "LaMP_4"][
      metric.rawValue]
    let task = try TaskCatalogue.builtIn.task(named: name ?? "LaMP_3")
    let golds = ["4", "2", "one two 3", "sad"].filter { task.kind != .rating || Double($0) != nil }
    let predictions: [String?] = Array(["4", nil, "one 3", "happy"].prefix(golds.count))
    let scores = zip(predictions, golds).map {
      Metrics.score(of: metric, prediction: $0, gold: $1, task: task)
    }
    guard metric != .macroF1, metric != .rootMeanSquaredError else {
      #expect(scores.allSatisfy { $0 == nil })
      return
    }
    let mean = scores.reduce(0) { $0 + ($1 ?? .nan) } / Double(golds.count)
    let whole = try #require(
      Metrics.value(of: metric, predictions: predictions, golds: golds, task: task))
    #expect(abs(mean - whole) < 1e-12)
  }

  @Test("empty lists measure nothing and break nothing", arguments: Metric.allCases)
  func empty(metric: Metric) throws {
    let task = try TaskCatalogue.builtIn.task(named: "film_rating")
    #expect(Metrics.value(of: metric, predictions: [], golds: [], task: task) == nil)
  }
}
