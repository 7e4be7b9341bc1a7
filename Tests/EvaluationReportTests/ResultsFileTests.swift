import Foundation
import Testing

@testable import EvaluationReport

@Suite struct ResultsFileTests {
  @Test("results come back from JSON as they were written")
  func roundTrip() throws {
    let results = Samples.news
    let again = try EvaluationResults(json: results.json(), file: "results.json")
    #expect(again == results)
    #expect(try again.json() == results.json())
  }
}
