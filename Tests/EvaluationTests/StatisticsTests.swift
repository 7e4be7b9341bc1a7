import Foundation
import RandomNumbers
import Testing

@testable import Evaluation
@testable import Personalization

@Suite struct StatisticsTests {
  let labels: TaskDefinition
  let ratings: TaskDefinition

  init() throws {
    labels = try TaskCatalogue.builtIn.task(named: "film_tag")
    ratings = try TaskCatalogue.builtIn.task(named: "LaMP_3")
  }

  /// Queries of so many users; a is right with one chance, b with another.
  func answers(users: Int, queries: Int, a: Double, b: Double, seed: UInt64) -> [PairedAnswer] {
    var generator = SplitMix64(seed: seed)
    return (0..<users * queries).map { number in
      let gold = ["funny", "sad", "tense"][generator.below(3)]
      return PairedAnswer(
        user: "u\(number % users)", gold: gold, a: generator.unit() < a ? gold : "dreamy",
        b: generator.unit() < b ? gold : "dreamy")
    }
  }

  @Test("the interval of a mean is that of the normal approximation, where that holds")
  func knownInterval() throws {
    let answers = answers(users: 400, queries: 1, a: 0.5, b: 0.5, seed: 11)
    let found = try #require(
      EvaluationStatistics(task: labels).estimate(
        .accuracy, answers: answers.map { ($0.user, $0.gold, $0.a) }))
    let width = 2 * 1.96 * (found.value * (1 - found.value) / 400).squareRoot()
    #expect(abs((found.high - found.low) - width) < 0.1 * width)
    #expect(found.low < found.value && found.value < found.high)
    #expect(found.queries == 400 && found.users == 400)
  }

  @Test("95 % intervals hold the truth about 95 times in a hundred, clustered or not")
  func coverage() {
    for users in [1, 25] {
      var hits = 0
      for seed in 0..<200 {
        let answers = answers(
          users: users, queries: 100 / users, a: 0.6, b: 0.5, seed: UInt64(seed))
        let found = EvaluationStatistics(task: labels, resamples: 300, permutations: 1).compare(
          "a", "b", metric: .accuracy, answers: answers)
        if found.low <= 0.1, 0.1 <= found.high { hits += 1 }
      }
      // Drawing users and queries makes the interval of independent queries wider than it needs.
      #expect((182...200).contains(hits), "\(users) users: \(hits) of 200")
    }
  }

  @Test("users whose queries go together widen the interval")
  func clusters() throws {
    // Each user is all right or all wrong: five users tell no more than five queries.
    let answers = (0..<50).map {
      (user: "u\($0 / 10)", gold: "sad", answer: Optional($0 / 10 < 3 ? "sad" : "funny"))
    }
    let statistics = EvaluationStatistics(task: labels)
    let clustered = try #require(statistics.estimate(.accuracy, answers: answers))
    let single = try #require(
      statistics.estimate(.accuracy, answers: answers.map { ("u", $0.gold, $0.answer) }))
    #expect(clustered.high - clustered.low > 2 * (single.high - single.low))
    #expect(clustered.users == 5 && single.users == 1)
  }

  @Test("p values are even where nothing differs and small where much does")
  func permutations() {
    let statistics = EvaluationStatistics(task: labels, resamples: 10, permutations: 400)
    func p(_ a: Double, _ seed: Int) -> Double {
      statistics.compare(
        "a", "b", metric: .accuracy,
        answers: answers(users: 10, queries: 10, a: a, b: 0.5, seed: UInt64(seed))
      ).p
    }
    let same = (0..<100).map { p(0.5, $0) }
    let small = same.filter { $0 <= 0.05 }.count
    #expect(small <= 12, "\(small) of 100")
    #expect(same.filter { $0 <= 0.5 }.count > 25)
    #expect(p(0.9, 1) < 0.01)
    let equal = statistics.compare(
      "a", "b", metric: .accuracy,
      answers: [PairedAnswer(user: "u", gold: "sad", a: "sad", b: "sad")])
    #expect(equal.p == 1 && equal.difference == 0 && !equal.isBetter && !equal.isWorse)
  }

  @Test("above zero means that a is better, for errors too", arguments: [true, false])
  func direction(aIsBetter: Bool) {
    let answers = (0..<40).map {
      PairedAnswer(
        user: "u\($0 % 4)", gold: "4", a: aIsBetter ? "4" : "2", b: aIsBetter ? nil : "4")
    }
    for metric in [Metric.meanAbsoluteError, .rootMeanSquaredError] {
      let found = EvaluationStatistics(task: ratings).compare(
        "a", "b", metric: metric, answers: answers)
      #expect(found.isBetter == aIsBetter && found.isWorse == !aIsBetter)
      // No answer counts as the far end: 4 is three from 1.
      #expect(found.difference == (aIsBetter ? 3 : -2))
    }
  }

  @Test(
    "values are the metrics', whatever the metric",
    arguments: [Metric.accuracy, .macroF1, .rootMeanSquaredError])
  func values(metric: Metric) throws {
    var answers = answers(users: 5, queries: 8, a: 0.7, b: 0.4, seed: 2)
    var task = labels
    if metric == .rootMeanSquaredError {
      task = ratings
      for index in answers.indices {
        answers[index].gold = "\(index % 5 + 1)"
        answers[index].a = index % 3 == 0 ? nil : "\(index % 4 + 1)"
        answers[index].b = "3"
      }
    }
    func value(_ predictions: [String?]) throws -> Double {
      try #require(
        Metrics.value(
          of: metric, predictions: predictions, golds: answers.map(\.gold), task: task))
    }
    let statistics = EvaluationStatistics(task: task)
    let one = try #require(
      statistics.estimate(metric, answers: answers.map { ($0.user, $0.gold, $0.a) }))
    #expect(try abs(one.value - value(answers.map(\.a))) < 1e-12)
    let found = statistics.compare("a", "b", metric: metric, answers: answers)
    let wanted = try value(answers.map(\.a)) - value(answers.map(\.b))
    #expect(abs(abs(found.difference) - abs(wanted)) < 1e-12)
    #expect(found.low <= found.difference && found.difference <= found.high)
    #expect(statistics.compare("a", "b", metric: metric, answers: answers) == found)
    var other = statistics
    other.seed = 9
    #expect(other.compare("a", "b", metric: metric, answers: answers) != found)
  }

  @Test("no answers give no value, no width, and break nothing", arguments: Metric.allCases)
  func empty(metric: Metric) {
    let task = metric == .meanAbsoluteError || metric == .rootMeanSquaredError ? ratings : labels
    let statistics = EvaluationStatistics(task: task)
    let found = statistics.compare("a", "b", metric: metric, answers: [])
    #expect(found.difference == 0 && found.low == 0 && found.high == 0 && found.users == 0)
    #expect(statistics.estimate(metric, answers: []) == nil)
  }

  @Test("levels of activity hold about as many users each and never part equal histories")
  func activity() {
    let bins = ActivityBins(lengths: [5, 9, 10, 20, 30, 100], levels: 3)
    #expect(bins.edges == [9, 20] && bins.count == 3)
    #expect([0, 9, 10, 20, 21, 500].map(bins.level) == [0, 0, 1, 1, 2, 2])
    #expect((0..<3).map(bins.name) == ["0–9", "10–20", "21 and more"])
    #expect(ActivityBins(lengths: [7, 7, 7, 7], levels: 4).count == 1)
    #expect(ActivityBins(lengths: [], levels: 4).name(of: 0) == "all")
    let stated = ActivityBins(edges: [50, 10, 10, -1])
    #expect(stated.edges == [10, 50] && stated.name(of: 1) == "11–50")
    #expect(ActivityBins(edges: [0, 1]).name(of: 1) == "1")
    #expect(ActivityBins(lengths: Array(1...10), levels: 99).count == 10)
  }
}
