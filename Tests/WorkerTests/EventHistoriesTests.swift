// Histories from a file of events: what ingest would keep, and a note on every line that it would not.

import Foundation
import Personalization
import Testing

@testable import Worker

@Suite struct EventHistoriesTests {
  @Test("histories come in the order of the file; lines that cannot be used are named")
  func histories() throws {
    let lines = [
      #"{"event_id":"1","user_id":"a","task":"LaMP_3","input":{"text":"good"},"output":5}"#,
      #"{"event_id":"1","user_id":"b","task":"LaMP_3","input":{"text":"bad"},"output":1}"#,
      #"{"event_id":"1","user_id":"a","task":"LaMP_3","input":{"text":"again"},"output":4}"#,
      #"{"event_id":"2","user_id":"a","task":"LaMP_3","input":{"text":"fair"},"output":3}"#,
      #"{"event_id":"3","user_id":"a","task":"none","input":{"text":"x"},"output":"y"}"#,
      #"{"event_id":"4","user_id":"a","task":"LaMP_3","input":{"text":"unrated"}}"#,
      "not JSON",
      #"{"user_id":"c","task":"LaMP_3","input":{"text":"gone"},"output":2}"#,
      #"{"user_id":"c","kind":"erase"}"#,
    ]
    let file = FileManager.default.temporaryDirectory
      .appending(path: "oppu-events-\(UUID().uuidString).jsonl")
    defer { try? FileManager.default.removeItem(at: file) }
    try Data(lines.joined(separator: "\n").utf8).write(to: file)
    let found = try EventHistories(path: file.path, catalogue: .builtIn)
    #expect(found.histories.map(\.userID) == ["a", "b"])
    #expect(found.histories.map { $0.items.map(\.output) } == [["5", "3"], ["1"]])
    #expect(found.histories[0].items[1].input["text"]?.plainText == "fair")
    #expect(found.notes.map(\.line) == [3, 5, 6, 7])
    #expect(found.notes[1].problem.contains("none"))
    #expect(throws: MessageError.self) {
      try EventHistories(path: file.path + ".not", catalogue: .builtIn)
    }
  }
}
