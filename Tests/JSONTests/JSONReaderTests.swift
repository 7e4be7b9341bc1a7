// The reader against Foundation's, what it refuses beyond it, and what its rules let pass.

import Foundation
import JSON
import RandomNumbers
import Testing

@Suite struct JSONReaderTests {
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
    var generator = SplitMix64(seed: seed)
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
    var generator = SplitMix64(seed: seed)
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
      for rules in [JSONRules.modelFiles, .datasets] {
        _ = try? JSONValue(reading: Data(bytes), rules: rules)
      }
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

  // MARK: Rules

  private func dataset(_ text: String) throws -> JSONValue {
    try JSONValue(text: text, rules: .datasets)
  }

  @Test("a whole number keeps its digits, however many")
  func digits() throws {
    let text = "123456789012345678901"
    #expect(try value(text) == .integer(text))
    #expect(try value(text).plainText == text)
    #expect(try value("-\(text)").canonical == "-\(text)")
  }

  @Test("published data is taken as its authors left it: marks, half pairs, members twice")
  func datasets() throws {
    #expect(try dataset("\u{FEFF}[1]") == [1])
    #expect(try dataset("\"\\u0000\"") == "\0")
    #expect(try dataset("\"\\ud83d!\"") == "\u{FFFD}!")
    #expect(try dataset("\"\\ud83d\\u0041\"") == "\u{FFFD}A")
    #expect(try dataset("\"\\udc00\\ud83d\\ude00\"") == "\u{FFFD}😀")
    #expect(try dataset("{\"a\": 1, \"a\": 2}") == ["a": 2])
    let deep = String(repeating: "[", count: 128) + String(repeating: "]", count: 128)
    #expect(throws: Never.self) { try dataset(deep) }
    #expect(throws: JSONReadingError.self) { try dataset("[\(deep)]") }
    #expect(throws: JSONReadingError.self) { try dataset(String(repeating: "[", count: 100_000)) }
  }

  @Test("a list is lent element by element, as its elements are read alone")
  func elements() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("json elements: seed \(seed)")
    var generator = SplitMix64(seed: seed)
    for count in 0..<200 {
      let values = (0..<count % 12).map { _ in random(depth: 1, &generator) }
      let text = Array(" \(JSONValue.array(values).canonical)\n".utf8)
      var reader = JSONReader()
      var lent: [JSONValue] = []
      #expect(try text.withUnsafeBytes { try reader.readElements($0) { lent.append($0.value) } })
      #expect(lent == values)
    }
    var reader = JSONReader()
    #expect(
      try Array("{}".utf8).withUnsafeBytes { try reader.readElements($0) { _ in } } == false)
  }

  @Test("a mistake behind some elements is told with its place and its line, after they were lent")
  func elementMistakes() throws {
    for (text, line, count) in [
      ("[1,\n2,\n]", 3, 2), ("[{\"a\":\n1},\n{\"b\":\n}]", 4, 1), ("[1,\n2] x", 2, 2),
      ("[1\n", 2, 1),
      ("[\n\n{\"a\":1,\"a\":2}]", 3, 0), ("[\n1e999]", 2, 0),
    ] {
      let bytes = Array(text.utf8)
      var reader = JSONReader()
      var lent = 0
      do {
        _ = try bytes.withUnsafeBytes { try reader.readElements($0) { _ in lent += 1 } }
        Issue.record("\(text) was taken")
      } catch let error as JSONReadingError {
        #expect(error.line(in: bytes) == line, "\(text): \(error)")
      }
      #expect(lent == count, "\(text)")
    }
  }

  @Test("a document's places stay, in any order")
  func document() throws {
    final class Owner {}
    let text = Array(#"{"a": [1, {"b": "x"}], "c": null}"#.utf8)
    try text.withUnsafeBytes { bytes in
      let document = try JSONDocument(bytes, owner: Owner(), rules: .modelFiles)
      var places: [JSONDocument.Place] = []
      document.read(.root) { root in
        root.forEachMember { _, value in
          places.append(value.place)
          value.forEachElement { places.append($0.place) }
        }
      }
      let values = places.reversed().map { document.read($0) { $0.value } }
      #expect(values == [.null, ["b": "x"], 1, [1, ["b": "x"]]])
    }
  }

  private func random(depth: Int, _ generator: inout SplitMix64) -> JSONValue {
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

  private func text(_ generator: inout SplitMix64) -> String {
    let alphabet: [Character] = ["a", "b", "\"", "\\", "\n", "\u{1}", "é", "€", "😀", "/", " ", "z"]
    return String(
      (0..<Int.random(in: 0..<20, using: &generator)).map { _ in
        alphabet.randomElement(using: &generator) ?? "x"
      })
  }
}
