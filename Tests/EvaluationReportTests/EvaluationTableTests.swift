import Foundation
import Testing

@testable import EvaluationReport

@Suite struct EvaluationTableTests {
  @Test("the table marks the best of each column and fits a hundred columns")
  func table() {
    let text = EvaluationTable(Samples.news).text
    let lines = text.split(separator: "\n")
    #expect(lines.allSatisfy { $0.count <= 100 })
    #expect(
      lines.contains {
        $0.hasPrefix("OPPU ") && $0.contains("0.710* [0.620, 0.800]") && $0.contains("0.480*")
          && $0.hasSuffix("+0.150 [+0.060, +0.240]")
      })
    #expect(lines.contains { $0.hasPrefix("RAG, k 4") && $0.hasSuffix("–") })
    #expect(text.components(separatedBy: "*").count == 4)
    #expect(text.contains("OPPU over RAG, k 4"))
    #expect(text.contains("The data has 1 problem"))
    #expect(
      text.replacing("\n", with: " ").contains("1 user was left out: the budget was spent."))
  }

  @Test("a streaming study alone is a table of its policies, judged by its goal, and a page")
  func streaming() throws {
    var results = Samples.news
    results.arms = [:]
    results.armList = []
    results.comparisons = []
    let table = EvaluationTable(results).text
    let lines = table.split(separator: "\n")
    #expect(lines.allSatisfy { $0.count <= 100 })
    #expect(lines.contains { $0.hasPrefix("On detected shi") && $0.contains("97.1 %") })
    // Without counted tokens the cost is time.
    let words = table.replacing("\n", with: " ")
    #expect(
      words.contains(
        "97.1 % of the accuracy of training at every event, for 16 % of its training time."))
    #expect(words.contains("The goal, 95 % for 20 %, is reached."))
    #expect(HTMLReport([results]).html.contains("at a fifth of its cost in 1 of 1 study."))

    for index in results.streaming[0].policies.indices {
      results.streaming[0].policies[index].trainingTokens = [0, 3_000, 10_000][index]
    }
    results.streaming[0].policies[1].shareOfOracleCost = 0.3
    let dear = EvaluationTable(results).text.replacing("\n", with: " ")
    #expect(dear.contains("for 30 % of its tokens. The goal, 95 % for 20 %, is not reached."))
    #expect(dear.contains("3000"))
    let page = HTMLReport([results]).html
    #expect(page.contains("in 0 of 1 study.") && page.contains("Tokens trained"))
    let decoded = try JSONDecoder().decode(
      EvaluationResults.self, from: JSONEncoder().encode(results))
    #expect(decoded.streaming == results.streaming)
  }

  @Test("a table without numbers, without arms, or of hostile text breaks nothing")
  func awkward() {
    #expect(EvaluationTable(Samples.empty).text.contains("No metric was computed."))
    #expect(EvaluationTable(Samples.withoutNumbers).text.contains("–"))
    let text = EvaluationTable(Samples.hostile).text
    let controls = text.unicodeScalars.filter {
      $0.properties.generalCategory == .control && $0 != "\n"
    }
    #expect(controls.isEmpty)
    #expect(!text.unicodeScalars.contains("\u{202E}"))
  }
}
