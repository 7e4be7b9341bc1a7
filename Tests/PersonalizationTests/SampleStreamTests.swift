import Foundation
import JSON
import TestSupport
import Testing

@testable import Personalization

/// The shipped sample stream: what the demo plays.
@Suite struct SampleStreamTests {
  func file(_ name: String) throws -> String {
    try String(contentsOf: Paths.root.appendingPathComponent("examples/\(name)"), encoding: .utf8)
  }

  func events() throws -> [JSONValue] {
    try file("sample/events.jsonl").split(separator: "\n").map { try JSONValue(text: String($0)) }
  }

  @Test("every event of the sample is valid for its task, in order of time, with its own id")
  func validEvents() throws {
    let events = try events()
    #expect((250...300).contains(events.count))
    var ids: Set<String> = []
    var last = ""
    var inputs: Set<String> = []
    for event in events {
      let task = try TaskCatalogue.builtIn.task(named: try #require(event["task"]?.string))
      let input = try #require(event["input"])
      let content = try task.validate(input: input, output: event["output"])
      #expect(content.output != nil)
      #expect(ids.insert(try #require(event["event_id"]?.string)).inserted)
      let user = try #require(event["user_id"]?.string)
      #expect(inputs.insert(user + input.canonical).inserted, "no input twice for a user")
      #expect(task.queryText(content.input).split(separator: " ").count <= 15)
      let time = try #require(event["occurred_at"]?.string)
      #expect(time >= last)
      last = time
    }
  }

  @Test("the truth names every user once, and shifts of every kind of task at events that exist")
  func truth() throws {
    let events = try events()
    let truth = try JSONValue(text: file("sample/truth.json"))
    let shifts = try #require(truth["shifts"]?.array)
    let steady = try #require(truth["steady"]?.array)
    let users = (shifts + steady).compactMap { $0["user_id"]?.string }.sorted()
    #expect(users == Set(events.compactMap { $0["user_id"]?.string }).sorted())
    var kinds: Set<OutputKind> = []
    for shift in shifts {
      let event = try #require(events.first { $0["event_id"] == shift["event_id"] })
      #expect(event["user_id"] == shift["user_id"] && event["task"] == shift["task"])
      kinds.insert(try TaskCatalogue.builtIn.task(named: shift["task"]?.string ?? "").kind)
    }
    #expect(kinds == Set(OutputKind.allCases))
  }

  @Test("the requests are new to their users, and their expected answers change only with a shift")
  func requests() throws {
    let seen = Set(
      try events().map { ($0["user_id"]?.string ?? "") + ($0["input"]?.canonical ?? "") })
    let truth = try JSONValue(text: file("sample/truth.json"))
    let shifting = Set(truth["shifts"]?.array?.compactMap { $0["user_id"]?.string } ?? [])
    let requests = try #require(
      try JSONValue(text: file("sample/requests.json"))["requests"]?.array)
    #expect(requests.count >= 6)
    for request in requests {
      let user = try #require(request["user_id"]?.string)
      let input = try #require(request["input"])
      #expect(!seen.contains(user + input.canonical))
      let task = try TaskCatalogue.builtIn.task(named: try #require(request["task"]?.string))
      let before = try task.validate(input: input, output: request["expected_before"]).output
      let after = try task.validate(input: input, output: request["expected_after"]).output
      #expect((before != after) == shifting.contains(user))
    }
  }

  @Test(
    "the generator writes exactly the files that are committed",
    .enabled(if: SampleStreamTests.python != nil))
  func generator() throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("sample-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: try #require(Self.python))
    let script = Paths.root.appendingPathComponent("examples/sample/generate.py").path
    process.arguments = [script, "--out", folder.path]
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    for name in ["events.jsonl", "truth.json", "requests.json"] {
      let made = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
      #expect(try made == file("sample/\(name)"), "\(name)")
    }
  }

  static let python = ["/usr/bin/python3", "/usr/local/bin/python3", "/opt/homebrew/bin/python3"]
    .first { FileManager.default.isExecutableFile(atPath: $0) }

  @Test("the example of own tasks loads beside the built-in ones")
  func exampleTasks() throws {
    let own = try TaskCatalogue.loading(
      yaml: file("real-events.tasks.yaml"), fileName: "real-events.tasks.yaml")
    #expect(own.names == ["digitalgov_headline", "huffpost_category", "movielens_rating"])
    #expect(own["huffpost_category"]?.labels.count == 29)
  }

  @Test("the example in docs/tasks.md is a task file that loads")
  func documentedTasks() throws {
    let text = try String(
      contentsOf: Paths.root.appendingPathComponent("docs/tasks.md"), encoding: .utf8)
    let blocks = text.components(separatedBy: "```yaml\n").dropFirst()
      .compactMap { $0.components(separatedBy: "```").first }
    let full = try #require(blocks.first { $0.hasPrefix("tasks:") })
    let catalogue = try TaskCatalogue.loading(yaml: full, fileName: "docs/tasks.md")
    #expect(catalogue.names == ["reply_opening", "support_queue"])
  }
}
