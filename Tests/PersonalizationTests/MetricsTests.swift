import Testing

@testable import Personalization

@Suite struct MetricsTests {
  @Test("ROUGE equals rouge_score without stemming")
  func rouge() throws {
    for row in try #require(try fixture("metrics.json")["rouge"]?.array) {
      let prediction = try #require(row["prediction"]?.string)
      let gold = try #require(row["gold"]?.string)
      #expect(abs(Metrics.rouge1(prediction, gold) - (try #require(row["rouge_1"]?.number))) < 1e-6)
      #expect(abs(Metrics.rougeL(prediction, gold) - (try #require(row["rouge_l"]?.number))) < 1e-6)
    }
  }

  @Test("macro F1 equals scikit-learn's over the whole label list")
  func macroF1() throws {
    let data = try #require(try fixture("metrics.json")["labels"])
    func list(_ key: String) -> [String] { data[key]?.array?.compactMap(\.string) ?? [] }
    let found = Metrics.macroF1(list("predictions"), list("golds"), labels: list("labels"))
    #expect(abs(found - (try #require(data["macro_f1"]?.number))) < 1e-6)
  }

  @Test("rating errors equal scikit-learn's, an unreadable answer at the far end")
  func ratings() throws {
    let data = try #require(try fixture("metrics.json")["ratings"])
    let task = try TaskCatalogue.builtIn.task(named: "LaMP_3")
    let golds = try #require(data["golds"]?.array).compactMap(\.string)
    let predictions = try #require(data["predictions"]?.array).map(\.string)
    #expect(predictions.contains(nil))
    for (metric, key) in [(Metric.meanAbsoluteError, "mae"), (.rootMeanSquaredError, "rmse")] {
      let found = Metrics.value(of: metric, predictions: predictions, golds: golds, task: task)
      #expect(abs(found - (try #require(data[key]?.number))) < 1e-6)
    }
  }

  @Test("empty lists measure nothing and break nothing", arguments: Metric.allCases)
  func empty(metric: Metric) throws {
    let task = try TaskCatalogue.builtIn.task(named: "film_rating")
    #expect(Metrics.value(of: metric, predictions: [], golds: [], task: task) == 0)
  }

  @Test("a profile tells the usual labels, the mean rating or the usual length")
  func profiles() throws {
    let tag = try TaskCatalogue.builtIn.task(named: "film_tag")
    #expect(
      ComputedProfile.text(for: items(4), task: tag)
        == "This user's usual answers: funny, sad, tense.")
    #expect(ComputedProfile.text(for: items(0), task: tag) == nil)
    func outputs(_ texts: [String]) -> [HistoryItem] {
      texts.map { HistoryItem(eventID: $0, occurredAt: .distantPast, input: [:], output: $0) }
    }
    let rating = try TaskCatalogue.builtIn.task(named: "film_rating")
    #expect(
      ComputedProfile.text(for: outputs(["5", "5", "3"]), task: rating)
        == "This user's mean rating is 4.3, most often 5.")
    let subject = try TaskCatalogue.builtIn.task(named: "email_subject")
    #expect(
      ComputedProfile.text(for: outputs(["a b c", "d"]), task: subject)
        == "This user writes about 2 words.")
  }
}
