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
