// From users' outcomes to metrics and comparisons.

import Evaluation
import EvaluationReport
import Foundation
import OPPU
import Personalization
import Testing

@Suite("Summary of an evaluation")
struct SummaryTests {
  private func outcome(
    _ user: String, items: Int = 10, golds: [String], _ predictions: [String: [String?]]
  ) -> UserOutcome {
    UserOutcome(
      user: user, historyItems: items, queryIDs: golds.indices.map { "\(user)-\($0)" },
      golds: golds, predictions: predictions, seconds: predictions.mapValues { _ in 2 },
      trainings: [:])
  }

  private func results(_ task: String, _ names: [String], _ outcomes: [UserOutcome]) throws
    -> EvaluationResults
  {
    var results = EvaluationResults(
      task: task, kind: "", metrics: [],
      provenance: Provenance(
        versions: [:], seed: 1, model: .init(name: "", fingerprint: ""), machine: "",
        commandLine: "", started: Date(timeIntervalSince1970: 0)))
    Summary(
      task: try TaskCatalogue.builtIn.task(named: task),
      arms: try names.map { try Arm($0, retrieve: 4) }, outcomes: outcomes
    ).fill(&results)
    return results
  }

  @Test("Metrics count every query, and an answer that could not be read counts as wrong")
  func metrics() throws {
    let results = try results(
      "film_tag", ["base", "oppu"],
      [
        outcome("a", golds: ["sad", "funny"], ["base": ["sad", nil], "oppu": ["sad", "funny"]]),
        outcome("b", golds: ["sad"], ["base": ["funny"], "oppu": ["sad"]]),
      ])
    #expect(results.arms["base"]?.values["accuracy"] == 1.0 / 3)
    #expect(results.arms["oppu"]?.values["accuracy"] == 1)
    #expect(results.arms["oppu"]?.n == 3)
    #expect(results.arms["oppu"]?.seconds == 4)
  }

  @Test("Of an error the file has the value of a less the value of b: below zero where a is better")
  func signs() throws {
    let users = (0..<12).map { number in
      outcome(
        "u\(number)", golds: ["3", "4"], ["base": ["1", "1"], "oppu": ["3", "5"]])
    }
    let found = try results("film_rating", ["base", "oppu"], users)
    let comparison = try #require(
      found.comparisons.first { $0.a == "oppu" && $0.b == "base" && $0.metric == "mae" })
    // |1 - 3| and |1 - 4| against 0 and 1.
    #expect(comparison.difference == -2)
    #expect(try #require(comparison.high) <= -2 + 1e-9)
    #expect(try #require(comparison.low) >= -2 - 1e-9)
  }

  @Test("Levels of activity hold every user once")
  func activity() throws {
    let users = (1...9).map { number in
      outcome("u\(number)", items: number * 10, golds: ["sad"], ["base": ["sad"]])
    }
    let found = try results("film_tag", ["base"], users)
    #expect(found.activity.map(\.users) == [3, 3, 3])
    #expect(found.activity.map(\.lowItems) == [10, 40, 70])
  }

  @Test(
    "Without users there is no value, no best arm, and a sentence", arguments: ["accuracy", "mae"])
  func nothing(metric: String) throws {
    let task = try TaskCatalogue.builtIn.task(named: metric == "mae" ? "film_rating" : "film_tag")
    let arms = try ["base", "oppu"].map { try Arm($0, retrieve: 2) }
    let now = Date(timeIntervalSince1970: 0)
    var results = EvaluationResults(
      task: task.name, kind: task.kind.rawValue, metrics: [],
      provenance: Provenance(
        versions: [:], seed: 1, model: .init(name: "m", fingerprint: "f"), machine: "",
        commandLine: "", started: now, finished: now, data: []))
    let summary = Summary(task: task, arms: arms, outcomes: [])
    summary.fill(&results)
    results.users.leftOut = [.init(user: "a", reason: "the budget of 0.006 s would be exceeded")]
    #expect(summary.best(.oppu) == nil && summary.best(.prompt) == nil)
    #expect(results.arms.values.allSatisfy { $0.values[metric] == nil && $0.n == 0 })
    let text = EvaluationTable(results).text
    #expect(!text.contains("0.000") && !text.contains("best in its column"), "\(text)")
    #expect(text.contains("No user was evaluated"))
    #expect(text.contains("1 user was left out"), "\(text)")
    #expect(HTMLReport([results]).html.contains("No user was evaluated"))
  }
}
