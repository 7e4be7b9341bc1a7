import Foundation
import JSON
import Personalization
import Testing

@testable import EvaluationReport

@Suite struct ResultsFileTests {
  @Test("results come back from JSON as they were written", arguments: Sample.allCases)
  func roundTrip(sample: Sample) throws {
    let results = sample.results
    let again = try EvaluationResults(json: results.json(), file: "results.json")
    #expect(again == results)
    #expect(try again.json() == results.json())
  }

  @Test("an arm is a flat map of numbers, metrics beside n and seconds")
  func contract() throws {
    let object = try #require(
      JSONSerialization.jsonObject(with: Samples.news.json()) as? [String: Any])
    let arms = try #require(object["arms"] as? [String: [String: Double]])
    #expect(arms["oppu"] == ["accuracy": 0.71, "macro_f1": 0.48, "n": 100, "seconds": 130])
    let comparison = try #require((object["comparisons"] as? [[String: Any]])?.first)
    #expect(Set(comparison.keys) == ["a", "b", "metric", "difference", "low", "high"])
    let intervals = try #require(object["arm_intervals"] as? [String: [String: [Double]]])
    #expect(intervals["rag4"]?["accuracy"] == [0.46, 0.66])
    let row = try #require(
      ((object["studies"] as? [[String: Any]])?.first?["rows"] as? [[String: Any]])?.first)
    #expect(Set(row.keys) == ["label", "n", "seconds", "accuracy", "parameters"])
    for key in ["task", "kind", "configuration", "provenance"] { #expect(object[key] != nil) }
  }

  @Test("keys are sorted, and numbers that are none are left out or null")
  func form() throws {
    let text = String(decoding: try Samples.withoutNumbers.json(), as: UTF8.self)
    let keys = text.split(separator: "\n").filter { $0.hasPrefix("  \"") }
    #expect(keys == keys.sorted())
    #expect(!text.lowercased().contains("nan\" :") && !text.contains(": inf"))
    #expect(text.contains("\"difference\" : null"))
  }

  private func error(_ change: (String) -> String) throws -> ResultsFileError {
    let text = change(String(decoding: try Samples.news.json(), as: UTF8.self))
    return try #require(throws: ResultsFileError.self) {
      _ = try EvaluationResults(json: Data(text.utf8), file: "out/LaMP_2N/results.json")
    }
  }

  @Test("a file that cannot be read back is refused by file and key")
  func errors() throws {
    let cut = try error { String($0.prefix(500)) }
    #expect(cut.description == "out/LaMP_2N/results.json: is not JSON; it may have been cut off")

    let missing = try error { $0.replacing("\"macro_f1\" : 0.48,\n      \"n\" : 100,", with: "") }
    #expect(missing.description == "out/LaMP_2N/results.json, key \"arms.oppu.n\": is missing")

    let wrong = try error { $0.replacing("\"accuracy\" : 0.31", with: "\"accuracy\" : \"high\"") }
    #expect(wrong.key == "arms.base.accuracy")
    #expect(wrong.problem.hasPrefix("expected a number"))

    let inside = try error { $0.replacing("\"events\" : 32", with: "\"events\" : []") }
    #expect(inside.key == "held_out[0].points[1].events")
    #expect(inside.problem.hasPrefix("expected a whole number"))

    let family = try error { $0.replacing("\"family\" : \"task\"", with: "\"family\" : \"other\"") }
    #expect(family.key == "arm_list[3].family")

    let date = try error { $0.replacing("2026-09-21T", with: "yesterday ") }
    #expect(date.key == "provenance.finished" || date.key == "provenance.started")
    #expect(date.problem.contains("expected a time such as"))
  }

  @Test("a folder of results is read by ascending name, and an empty one is refused")
  func folders() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: folder) }
    for name in ["b", "a"] {
      let inner = folder.appending(path: name)
      try FileManager.default.createDirectory(at: inner, withIntermediateDirectories: true)
      var results = Samples.news
      results.task = name
      try results.write(toFolder: inner)
    }
    #expect(try EvaluationResults.all(inFolder: folder).map(\.task) == ["a", "b"])
    #expect(try EvaluationResults.all(inFolder: folder.appending(path: "b")).map(\.task) == ["b"])
    let error = #expect(throws: ResultsFileError.self) {
      try EvaluationResults.all(inFolder: folder.appending(path: "c"))
    }
    #expect(error?.description.contains("found neither") == true)
  }

  @Test("any settings become a tree of values, shown by ascending name")
  func settings() throws {
    struct Settings: Encodable {
      var rank = 8
      var rate = 0.002
      var targets = ["q", "v"]
      var limit = Double.infinity
    }
    let value = try JSONValue(encoding: ["lora": Settings()])
    let lines = value.lines.map { "\($0.path)=\($0.text)" }
    #expect(
      lines == ["lora.limit=infinity", "lora.rank=8", "lora.rate=0.002", "lora.targets=q, v"])
  }
}
