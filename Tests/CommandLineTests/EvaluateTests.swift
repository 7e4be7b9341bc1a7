// `evaluate` and `search` as people run them, on small folders.

import Foundation
import TestSupport
import Testing

@Suite("evaluate and search") struct EvaluateTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func question(_ id: String, _ film: String) -> String {
    #"{"id": \#(id), "input": "Which tag? tags: [sci-fi] description: \#(film).", "#
      + #""profile": [{"id": "\#(film)", "description": "\#(film)", "tag": "sci-fi"}]}"#
  }

  private func evaluate(_ arguments: String..., out: String = "out") throws -> Program {
    try Program(
      [
        "evaluate", "--data", folder.path, "--model",
        Paths.root.appending(path: ".oppu/models/SmolLM2-135M-Instruct.Q4_1.gguf").path, "--out",
        folder.url.appending(path: out).path,
      ] + arguments)
  }

  private func text(_ name: String) throws -> String {
    try String(contentsOf: folder.url.appending(path: name), encoding: .utf8)
  }

  @Test("a test split of LaMP gets predictions in its form, and no metric")
  func withoutGolds() throws {
    _ = try folder.file("test_questions.json", "[\(question("\"20\"", "Space"))]")
    let run = try evaluate("--task", "LaMP_2", "--arms", "majority,nearest-1")
    #expect(run.status == 0, "\(run.errors)")
    #expect(
      try text("out/predictions-majority.json")
        == #"{"golds":[{"id":"20","output":"sci-fi"}],"task":"LaMP_2"}"# + "\n")
    #expect(run.output.contains("no known answers"), "\(run.output)")
    #expect(!run.output.contains("0.000") && !run.output.contains("* best"), "\(run.output)")
  }

  @Test("predictions have the ids of the known answers; a budget of nothing measures nothing")
  func ids() throws {
    _ = try folder.file("dev_questions.json", "[\(question("100", "Space"))]")
    _ = try folder.file(
      "dev_outputs.json", #"{"task": "LaMP_2", "golds": [{"id": "100", "output": "sci-fi"}]}"#)
    let run = try evaluate("--task", "LaMP_2", "--arms", "majority")
    #expect(run.status == 0, "\(run.errors)")
    #expect(
      try text("out/predictions-majority.json")
        == #"{"golds":[{"id":"100","output":"sci-fi"}],"task":"LaMP_2"}"# + "\n")
    let none = try evaluate(
      "--task", "LaMP_2", "--arms", "majority", "--budget", "0.0000001", out: "none")
    #expect(none.status == 0)
    #expect(!none.output.contains("0.000") && !none.output.contains("* best"), "\(none.output)")
    #expect(none.output.contains("No user was evaluated"), "\(none.output)")
  }

  @Test("of a search, a combination that diverges says so and the others go on, resumed too")
  func diverging() throws {
    func users(_ first: Int, _ count: Int) -> String {
      (first..<first + count).map { user in
        let items = (0..<8).map {
          #"{"id": "\#(user)-\#($0)", "description": "Film \#($0)", "tag": "\#($0 % 2 == 0 ? "sci-fi" : "comedy")"}"#
        }
        return #"{"user_id": "\#(user)", "profile": [\#(items.joined(separator: ","))], "#
          + #""query": [{"id": "q\#(user)", "input": "Tag? tags: [comedy] description: Film \#(user).", "gold": "comedy"}]}"#
      }.joined(separator: ",")
    }
    _ = try folder.file("user_top_100_history.json", "[\(users(1, 1))]")
    _ = try folder.file("user_others.json", "[\(users(10, 3))]")
    func search() throws -> Program {
      try Program([
        "search", "--task", "LaMP_2", "--data", folder.path, "--model",
        Paths.root.appending(path: ".oppu/models/SmolLM2-135M-Instruct.Q4_1.gguf").path,
        "--arms", "oppu", "--out", folder.url.appending(path: "search").path, "--set",
        "task.maximumTokens=300", "--set", "user.maximumTokens=600", "--set",
        "user.training.clip=1e10", "--try", "user.training.learningRate=3e-4,1e10", "-o", "json",
      ])
    }
    for _ in 0..<2 {
      let run = try search()
      #expect(run.status == 0, "\(run.errors)")
      let rows = try #require(
        try JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [[String: Any]])
      #expect(rows.count == 2)
      #expect(rows.first?["value"] is Double && rows.first?["problem"] is NSNull, "\(run.output)")
      #expect(rows.last?["value"] is NSNull, "\(run.output)")
      #expect((rows.last?["problem"] as? String)?.contains("1 of 1 users left out") == true)
    }
  }

  @Test(
    "what cannot be read or written is told in a sentence that names it, before a model is loaded")
  func places() throws {
    let taken = try folder.file("taken", "")
    _ = try folder.file("dev_questions.json", "[\(question("1", "Space"))]")
    _ = try folder.file("dev_outputs.json", #"{"golds": [{"id": 1, "output": "comedy"}]}"#)
    let out = folder.url.appending(path: "out").path
    for (arguments, reason) in [
      (["stream", "--events", folder.path, "--task", "LaMP_5", "--out", out], "is a folder"),
      (["evaluate", "--data", folder.path, "--task", "LaMP_2", "--out", taken], "it is a file"),
      (["search", "--data", folder.path, "--task", "LaMP_2", "--out", taken], "it is a file"),
      (
        ["adapt", "--data", folder.path, "--task", "LaMP_2", "--out", taken + "/x"], "not a folder"
      ),
      (["evaluate", "--data", folder.path, "--task", "x", "--out", out], "unknown task"),
    ] {
      let run = try Program(arguments + ["--model", folder.path + "/none.gguf"])
      #expect(run.status == 1 && run.speaksPlainly, "\(run.errors)")
      #expect(run.errors.contains(reason) && !run.errors.contains("none.gguf"), "\(run.errors)")
    }
  }
}
