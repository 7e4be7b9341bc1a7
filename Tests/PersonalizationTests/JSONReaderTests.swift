import Foundation
import RandomNumbers
import Testing

@testable import Personalization

@Suite struct JSONReaderTests {
  func read(_ text: String) throws -> JSONValue {
    var reader = JSONReader(Data(text.utf8))
    return try reader.document()
  }

  @Test(
    "texts are read as Foundation reads them",
    arguments: [
      "null", " true ", "-0", "12", "-1.5e3", "1E-2", "9007199254740993", "14695981039346656037",
      "[]", "[1, [2, {}], \"\"]", "{\"a\": {\"b\": [false]}, \"\": 1}",
      "\"é\\u00e9\\ud83d\\ude00\"",
      "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\u{FEFF}[1]", "\"\\u0000\"",
    ])
  func valid(text: String) throws {
    let plain = text.hasPrefix("\u{FEFF}") ? String(text.unicodeScalars.dropFirst()) : text
    #expect(try read(text) == JSONValue(json: plain))
  }

  @Test("a whole number keeps its digits, however many")
  func digits() throws {
    let text = "123456789012345678901"
    #expect(try read(text) == .integer(text))
    #expect(try JSONValue(reading: Data(text.utf8)).plainText == text)
    #expect(try JSONValue(reading: Data("-\(text)".utf8)).canonical == "-\(text)")
  }

  @Test(
    "a mistake is told with its line",
    arguments: [
      ("", "line 1: expected a value, found the end of the text"),
      ("[1,\n2,\n]", "line 3: expected a value, found \"]\""),
      ("[1 2]", "expected \",\" or \"]\", found \"2\""), ("{a: 1}", "expected a key in quotation"),
      ("{\"a\" 1}", "expected \":\", found \"1\""), ("[1] x", "there is more after the end"),
      ("\"a", "expected the end of a string, found the end"), ("\"a\nb\"", "a line end or control"),
      ("\"\\x\"", "expected an escape"), ("\"\\u12g4\"", "expected four hexadecimal digits"),
      ("01", "there is more"), ("-", "expected a digit"), ("1.", "expected a digit"),
      ("1e999", "the number 1e999 is too large"), ("nul", "expected a value"),
      (String(repeating: "[", count: 100_000), "nested deeper than 128 levels"),
    ])
  func invalid(text: String, sentence: String) {
    #expect {
      try read(text)
    } throws: {
      $0 is JSONTextError && "\($0)".contains(sentence)
    }
  }

  @Test("bytes that are not UTF-8 are refused, half a surrogate pair becomes a replacement")
  func encoding() throws {
    var reader = JSONReader(Data([0x22, 0xFF, 0x22]))
    #expect(throws: JSONTextError.self) { try reader.document() }
    #expect(try read("\"\\ud83d!\"") == "\u{FFFD}!")
    #expect(try read("\"\\ud83d\\u0041\"") == "\u{FFFD}A")
  }

  @Test("random damage to a text never crashes the reader")
  func damage() throws {
    let text = Array(#"{"a": [1, -2.5e3, "x\u00e9\n", null, {"b": [true, false]}], "c": ""}"#.utf8)
    var generator = SplitMix64(seed: 5)
    for _ in 0..<20_000 {
      var bytes = text
      for _ in 0...Int.random(in: 0..<3, using: &generator) {
        bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(
          in: 0...255, using: &generator)
      }
      if Bool.random(using: &generator) { bytes.removeLast(Int.random(in: 0..<bytes.count)) }
      var reader = JSONReader(Data(bytes))
      _ = try? reader.document()
    }
  }
}
