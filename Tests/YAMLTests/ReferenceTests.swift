// Documents as ruamel.yaml reads them (Fixtures/make_reference.py), and what is left of them after
// a million changes.

import Foundation
import RandomNumbers
import Testing

@testable import YAML

struct Reference: Decodable {
  struct Document: Decodable {
    var text: String
    /// Nil for no value, where `refused` is nil, too.
    var read: Tagged?
    var refused: String?
    /// What ruamel.yaml's own types give, where that is something else.
    var own: Tagged?
  }

  var documents: [Document]

  static func load() throws -> [Document] {
    let file = try #require(
      Bundle.module.url(forResource: "reference", withExtension: "json", subdirectory: "Fixtures"))
    return try JSONDecoder().decode(Reference.self, from: Data(contentsOf: file)).documents
  }
}

@Suite("Documents that ruamel.yaml has read")
struct ReferenceTests {
  /// Read by both, but not the same.
  static let readOtherwise: [String: String] = [
    "! 5": "ruamel.yaml overlooks the tag !, which makes a string (YAML 1.2.2, 6.9.1)",
    "a: !": "the same",
    "|\n# c\n":
      "libyaml wants the text of a block scalar indented at the top, too: this is a comment",
    "&y > # c\n...\n": "ruamel.yaml takes the end of the document for text",
  ]

  /// What libyaml refuses, or this module for it, where ruamel.yaml reads on: parts of the errors.
  static let refusedHere: [String: String] = [
    "found a tab character where an indentation space is expected":
      "the first line of a block scalar's text begins with a tab, and nothing says its indentation",
    "found unexpected ':'": "a plain scalar that ends with a colon before , ] or }",
    "did not find expected node content": "a plain scalar that begins with a colon in flow style",
    "did not find expected key": "an empty key in block style",
    "did not find expected <document start>": "a block scalar at the top that is not indented",
    "did not find expected alphabetic or numeric character": "an anchor beyond ASCII",
    "found invalid Unicode character escape code": "JSON's pair of escapes for one character",
    "found unknown directive name": "YAML 1.2 would have it ignored",
    "as an escape in double quotes": "line separators and byte order marks inside the text",
  ]

  /// Refused by ruamel.yaml alone, besides tabs between words, which it does not take.
  static let readHereAlone: Set = ["a: |\n \n  b\n", "['a':1]"]

  @Test("every document is read as ruamel.yaml reads it, but for the listed differences")
  func documents() throws {
    var counts: [String: Int] = [:]
    for document in try Reference.load() {
      let text = document.text
      do {
        let node = try YAMLNode.compose(yaml: text, file: "reference.yaml").map(Tagged.init)
        if document.refused != nil {
          #expect(
            Self.readHereAlone.contains(text) || text.contains("\t"), "\(text.debugDescription)")
          counts["here alone", default: 0] += 1
        } else if Self.readOtherwise[text] != nil {
          #expect(node != document.read)
          counts["otherwise", default: 0] += 1
        } else {
          #expect(node == document.read, "\(text.debugDescription)")
          counts["same", default: 0] += 1
        }
      } catch let error as YAMLError {
        guard document.refused == nil else { continue }
        #expect(
          Self.refusedHere.keys.contains(where: error.problem.contains),
          "\(text.debugDescription): \(error)")
        counts["refused here", default: 0] += 1
      }
    }
    #expect(counts == ["same": 446, "otherwise": 4, "here alone": 5, "refused here": 26])
  }

  @Test("ruamel.yaml's own types differ only where they are not those of the core schema")
  func ownTypes() throws {
    // Numbers in base 2 and with _, dates, the value =, merge keys, and Python's 1 == 1.0 == True.
    let others = ["0b1", "1_000", "2001-12-14", "=", "<<", "1.0", "true"]
    for document in try Reference.load() where document.own != nil {
      #expect(others.contains(where: document.text.contains), "\(document.text.debugDescription)")
    }
  }

  @Test("a million changed documents are read or refused with a place, and read again the same")
  func changed() throws {
    let seed = UInt64.random(in: 0 ... .max)
    print("YAML fuzz: seed \(seed)")
    var generator = SplitMix64(seed: seed)
    let texts = try Reference.load().map { Array($0.text.utf8) }.filter { $0.count < 120 }
    let tokens = [
      "a", "b", "1", ":", ": ", "- ", "\n", "\n ", "\n  ", "? ", "&x ", "*x", "!!int ", "!!str ",
      "!",
      "'", "\"", "\\", "|", ">", "-", "+", "[", "]", "{", "}", ",", " ", "#", " #", "%",
      "%YAML 1.2\n",
      "---\n", "...\n", "~", "\t", "\r\n", "<<", "\u{FEFF}", "é", "😀", "\0", "2",
    ].map { Array($0.utf8) }
    var accepted = 0
    for _ in 0..<1_000_000 {
      var bytes: [UInt8] = []
      switch UInt8.random(in: 0..<8, using: &generator) {
      case 0:
        for _ in 0..<Int.random(in: 0..<20, using: &generator) {
          bytes.append(UInt8.random(in: 0...255, using: &generator))
        }
      case 1...3:
        for _ in 0..<Int.random(in: 0..<16, using: &generator) {
          bytes += tokens.randomElement(using: &generator) ?? []
        }
      default:
        bytes = texts.randomElement(using: &generator) ?? []
        for _ in 0..<Int.random(in: 1..<4, using: &generator) {
          let place = Int.random(in: 0...bytes.count, using: &generator)
          let end = min(bytes.count, place + Int.random(in: 0..<4, using: &generator))
          let token = tokens.randomElement(using: &generator) ?? []
          bytes.replaceSubrange(place..<end, with: Bool.random(using: &generator) ? token : [])
        }
      }
      do {
        guard let node = try YAMLNode.compose(yaml: bytes, file: "fuzz.yaml") else { continue }
        accepted += 1
        let again = try YAMLNode.compose(yaml: written(node), file: "again.yaml")
        if again.map(Tagged.init) != Tagged(node) {
          Issue.record("read \(bytes), written \(written(node))")
          return
        }
      } catch let error as YAMLError where error.file == "fuzz.yaml" {
        if error.mark.line < 1 || error.mark.column < 1 || error.problem.isEmpty {
          Issue.record("no place: \(error) for \(bytes)")
          return
        }
      } catch {
        Issue.record("\(error) for \(bytes)")
        return
      }
    }
    print("YAML fuzz: \(accepted) of 1,000,000 had a value")
    #expect(accepted > 100_000)
  }
}
