// The strict reader against Foundation's, and what it refuses beyond it.

import Foundation
import Testing

@testable import Personalization

@Suite struct StrictJSONReaderTests {
  private func value(_ text: String) throws -> JSONValue { try JSONValue(reading: Data(text.utf8)) }

  @Test(
    "values are read as Foundation reads them",
    arguments: [
      "null", " true ", "[]", "{}", "[1,2.5,-3e2,0,-0.0]", #""""#, #"{"a":{"b":[null,false]}}"#,
      #""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#, "\"äöü €😀\"", "9007199254740993", "1e308",
      #"{"k": "v" , "l" : [ 1 , 2 ] }"#, "\"exactly8\"", "\"12345678\\n\"",
      "[0.1,1E5,123456789012]",
    ])
  func asFoundation(_ text: String) throws {
    #expect(try value(text) == JSONDecoder().decode(JSONValue.self, from: Data(text.utf8)))
  }

  @Test("random values, written and read, are the same")
  func roundTrip() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("json round trip: seed \(seed)")
    var generator = Generator(state: seed)
    for _ in 0..<2_000 {
      let original = random(depth: 0, &generator)
      let text = original.canonical
      #expect(try value(text) == original, "\(text)")
      let data = try JSONEncoder().encode(original)
      #expect(try JSONValue(reading: data) == original, "\(String(decoding: data, as: UTF8.self))")
    }
  }

  @Test("a text cut anywhere, or with any byte changed, is refused or read as Foundation reads it")
  func damaged() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("json damage: seed \(seed)")
    var generator = Generator(state: seed)
    let whole = Array(
      #"{"a":[1,-2.5e3,"x\u00e9y","é"],"bb":{"c":null,"d":true},"e":"12345678\\"}"#.utf8)
    for end in 0..<whole.count {
      #expect(throws: JSONReadingError.self) { try JSONValue(reading: Data(whole[..<end])) }
    }
    var taken = 0
    for _ in 0..<20_000 {
      var bytes = whole
      bytes[Int.random(in: 0..<bytes.count, using: &generator)] =
        UInt8.random(in: 0...255, using: &generator)
      guard let read = try? JSONValue(reading: Data(bytes)) else { continue }
      taken += 1
      let theirs = try? JSONDecoder().decode(JSONValue.self, from: Data(bytes))
      #expect(theirs == read, "\(String(decoding: bytes, as: UTF8.self))")
    }
    #expect(taken > 1_000)
  }

  @Test(
    "what is not strict JSON is refused with its place",
    arguments: [
      ("", 0), ("  ", 2), ("{\"a\":1,}", 7), ("[1,]", 3), ("[1 2]", 3), ("nul", 0), ("+1", 0),
      ("01", 2), ("1.", 2), (".5", 0), ("1e", 2), ("\"\t\"", 1), ("\"\\x\"", 2), ("\"\\u12\"", 6),
      ("{\"a\":1,\"a\":2}", 8), ("{a:1}", 1), ("{\"a\" 1}", 5), ("\u{FEFF}{}", 0), ("{} {}", 3),
      ("1e400", 0), ("-1e999", 0), ("\"\\udc00\"", 7), ("\"\\ud800\\u0041\"", 13),
      ("\"\\u0000\"", 7),
    ])
  func refused(_ text: String, _ offset: Int) {
    do {
      let found = try value(text)
      Issue.record("taken as \(found)")
    } catch let error as JSONReadingError {
      #expect(error.offset == offset, "\(text): \(error)")
    } catch {
      Issue.record("\(error)")
    }
  }

  @Test(
    "bytes that are not UTF-8 are refused",
    arguments: [
      [0x80], [0xC0, 0xAF], [0xC3], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80],
      [0xF4, 0x90, 0x80, 0x80],
      [0xF8, 0x88, 0x80, 0x80, 0x80], [0xE2, 0x82], [0xFF],
    ] as [[UInt8]])
  func notUTF8(_ bytes: [UInt8]) {
    for padding in 0..<9 {
      let text = Data([0x22] + [UInt8](repeating: 0x61, count: padding) + bytes + [0x22])
      #expect(throws: JSONReadingError.self) { try JSONValue(reading: text) }
    }
  }

  @Test("32 levels are taken and 33 are not")
  func depth() throws {
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }
    _ = try value(nested(32))
    #expect(throws: JSONReadingError.self) { try value(nested(33)) }
  }

  @Test("a name that stands twice is found among many members too")
  func manyMembers() {
    let members = (0..<200).map { "\"k\($0)\":\($0)" }.joined(separator: ",")
    #expect(throws: Never.self) { try value("{\(members)}") }
    #expect(throws: JSONReadingError.self) { try value("{\(members),\"k7\":0}") }
    #expect(throws: JSONReadingError.self) { try value("{\(members),\"\\u006b7\":0}") }
  }

  // MARK: The quick check

  @Test("what the quick check takes, the task takes with the same output")
  func quickCheck() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("quick check: seed \(seed)")
    var generator = Generator(state: seed)
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
        var reader = StrictJSONReader()
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

  private struct Generator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var z = state
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return z ^ (z >> 31)
    }
  }

  private func random(depth: Int, _ generator: inout Generator) -> JSONValue {
    switch Int.random(in: 0..<(depth > 4 ? 5 : 7), using: &generator) {
    case 0: return .null
    case 1: return .bool(Bool.random(using: &generator))
    case 2: return .number(Double.random(in: -1e9...1e9, using: &generator))
    case 3: return .number(Double(Int.random(in: -1_000_000...1_000_000, using: &generator)))
    case 4: return .string(text(&generator))
    case 5:
      return .array(
        (0..<Int.random(in: 0..<5, using: &generator)).map { _ in
          random(depth: depth + 1, &generator)
        })
    default:
      var members: [String: JSONValue] = [:]
      for _ in 0..<Int.random(in: 0..<5, using: &generator) {
        members[text(&generator)] = random(depth: depth + 1, &generator)
      }
      return .object(members)
    }
  }

  private func text(_ generator: inout Generator) -> String {
    let alphabet: [Character] = ["a", "b", "\"", "\\", "\n", "\u{1}", "é", "€", "😀", "/", " ", "z"]
    return String(
      (0..<Int.random(in: 0..<20, using: &generator)).map { _ in
        alphabet.randomElement(using: &generator) ?? "x"
      })
  }
}
