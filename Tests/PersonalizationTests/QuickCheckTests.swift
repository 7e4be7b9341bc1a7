// The check that most events pass, against the task's own.

import Foundation
import JSON
import RandomNumbers
import Testing

@testable import Personalization

@Suite struct QuickCheckTests {
  @Test("what the quick check takes, the task takes with the same output")
  func quickCheck() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("quick check: seed \(seed)")
    var generator = SplitMix64(seed: seed)
    let pieces = [
      "funny", " ", "  ", "\n", "é", "\u{00A0}", "\u{3000}", "\u{0301}", "4", "5", "x", "\t",
      "Silent age", "silent age", "漢", "😀", "nineties", "\\",
    ]
    func words() -> String {
      (0..<Int.random(in: 0...4, using: &generator)).map { _ in
        pieces.randomElement(using: &generator) ?? ""
      }.joined()
    }
    var taken = 0
    for task in TaskCatalogue.builtIn.tasks {
      let check = QuickCheck(task)
      for _ in 0..<3_000 {
        var input: [String: JSONValue] = [:]
        for field in task.fields where Int.random(in: 0..<8, using: &generator) > 0 {
          input[field.name] = .string(words())
        }
        var output: JSONValue? = .string(words())
        if Int.random(in: 0..<4, using: &generator) == 0 { output = nil }
        if Int.random(in: 0..<4, using: &generator) == 0 {
          output = .number(Double(Int.random(in: 0...7, using: &generator)))
        }
        var event: [String: JSONValue] = ["input": .object(input)]
        event["output"] = output
        var reader = JSONReader()
        let result = try Array(JSONValue.object(event).canonical.utf8).withUnsafeBytes {
          try reader.read($0) { view in
            check.check(input: try #require(view["input"]), output: view["output"])
          }
        }
        guard case .taken(let quick) = result else { continue }
        taken += 1
        let full = try task.validate(input: .object(input), output: output)
        #expect(full.output == quick, "\(task.name): \(output?.canonical ?? "none")")
      }
    }
    #expect(taken > 500)
  }
}
