// What a YAML text is refused for, and where.

import Foundation
import Testing

@testable import YAML

/// The error as a person sees it.
private func refusal(_ text: String) -> String {
  do {
    return "read: \(String(describing: try read(text)))"
  } catch {
    return "\(error)"
  }
}

@Suite("Refusing YAML")
struct YAMLRefusalTests {
  @Test("an error names the file, the line, the column and the path of the key")
  func places() {
    #expect(
      refusal("tasks:\n  film_tag:\n    labels: [a, !own b]\n")
        == "tasks.yaml:3:17: tasks.film_tag.labels[1]: unknown tag !own")
    #expect(
      refusal("a:\n  - b: 1\n  - b: 1\n    b: 2\n")
        == "tasks.yaml:4:5: a[1].b: this key stands twice")
    #expect(
      refusal("tasks:\n  x: [1\n  y: 2\n")
        == "tasks.yaml:3:4: tasks.x[1]: did not find expected ',' or ']' while parsing a flow"
        + " sequence of line 2")
    #expect(refusal("\"a").hasPrefix("tasks.yaml:1:3: found unexpected end of stream"))
  }

  @Test("a value that does not fit its tag, and tags beyond the core schema")
  func tags() {
    let refused = [
      "!!int 1.5": "1.5 is no !!int", "!!int x": "x is no !!int", "!!bool yes": "yes is no !!bool",
      "!!null x": "x is no !!null", "!!float 0x1": "0x1 is no !!float", "!!int ''": " is no !!int",
      "!!seq x": "x is no !!seq", "!!str [a]": "a list is no !!str",
      "!!seq {a: 1}": "a mapping is no !!seq", "!!map [a]": "a list is no !!map",
      "!own x": "unknown tag !own", "!!set {a}": "unknown tag tag:yaml.org,2002:set",
      "!!timestamp 2001-12-14": "unknown tag tag:yaml.org,2002:timestamp",
      "!<itag:yaml.org,2002:nt> 5": "unknown tag itag:yaml.org,2002:nt",
      "!<tag:yaml.org,2002:> 5": "unknown tag tag:yaml.org,2002:",
    ]
    for (text, problem) in refused {
      #expect(refusal(text) == "tasks.yaml:1:1: \(problem)")
    }
  }

  @Test("keys that stand twice, also in another form, but not in another type")
  func keys() throws {
    for text in [
      "a: 1\na: 2", "{a: 1, 'a': 2}", "{1: a, 0x1: b}", "{1: a, +1: b}", "{~: a, null: b}",
      "{true: a, True: b}", "{1.0: a, 1.00: b}", "{.nan: a, .NaN: b}", "{&x a: 1, *x : 2}",
    ] {
      #expect(refusal(text).hasSuffix("this key stands twice"), "\(text)")
    }
    #expect(
      try value("{1: a, '1': b, 1.0: c, true: d, 'true': e, '': f, null: g}").kinds.count == 7)
  }

  @Test("keys that are no scalars, and merge keys")
  func unusualKeys() throws {
    for text in ["? [a]\n: b", "? {a: 1}\n: b", "{[a]: b}", "- &x [a]\n- *x : b"] {
      #expect(refusal(text).contains("a key must be a scalar"), "\(text)")
    }
    for text in ["<<: {a: 1}", "a: &x {b: 1}\nc:\n  <<: *x\n"] {
      #expect(refusal(text).contains("merge keys (<<) are not of YAML 1.2"), "\(text)")
    }
    #expect(try value("'<<': <<").scalars.map(\.string) == ["<<"])
  }

  @Test("aliases without an anchor and those that would contain themselves")
  func aliases() {
    #expect(refusal("a: *x") == "tasks.yaml:1:4: a: no such anchor stands before")
    for text in ["&x [*x]", "&x {a: *x}", "&x a: &y [{b: *y}]", "[&x a, &x [*x]]"] {
      #expect(refusal(text).contains("a value that would contain itself"), "\(text)")
    }
  }

  @Test("anchors whose names libyaml would cut off")
  func anchorNames() throws {
    for text in ["&a:b c", "- &a?b c", "&a: b", "a: &http://x y"] {
      #expect(refusal(text).contains("the name of an anchor has only ASCII letters"), "\(text)")
    }
    #expect(refusal("&ä b").contains("while scanning an anchor"))
    #expect(try value("&a-1_B a: &b\n").kinds == [.null])
  }

  @Test("aliases that repeat themselves into millions of values, in no time")
  func bombs() {
    var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in 1..<50 {
      let alias = "*a\(level - 1)"
      text +=
        "a\(level): &a\(level) [\(Array(repeating: alias, count: 10).joined(separator: ", "))]\n"
    }
    #expect(refusal(text).hasPrefix("tasks.yaml:5:"))
    #expect(refusal(text).hasSuffix("more than 100000 values, counted with those of aliases"))
    // Each level is 90 deeper than the last.
    let chain = (1..<4).map { level in
      "- &b\(level) " + String(repeating: "[", count: 90) + "*b\(level - 1)"
        + String(repeating: "]", count: 90)
    }
    #expect(refusal("- &b0 x\n" + chain.joined(separator: "\n")).contains("more than 100 levels"))
  }

  @Test("more than 100 levels or 100,000 values")
  func bounds() throws {
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }
    #expect(throws: Never.self) { try value(nested(100)) }
    #expect(refusal(nested(101)).contains("more than 100 levels"))
    #expect(refusal(String(repeating: "[", count: 1_000_000)).contains("more than 100 levels"))
    #expect(refusal(String(repeating: "- ", count: 1_000_000)).contains("more than 100 levels"))
    #expect(refusal(String(repeating: "? ", count: 1_000_000)).contains("scalar"))
    #expect(refusal(String(repeating: "{a: ", count: 1_000_000)).contains("more than 100 levels"))
    let list = "[" + String(repeating: "1,", count: 99_999) + "]"
    #expect(throws: Never.self) { try value(list) }
    #expect(refusal("[1," + list.dropFirst()).contains("more than 100000 values"))
  }

  @Test("more than 100 directives, which libyaml would compare each with each")
  func directives() throws {
    func directives(_ count: Int) -> String {
      (0..<count).map { "%TAG !a\($0)! tag:yaml.org,2002:\n" }.joined() + "---\n!a0!str 5"
    }
    #expect(try value(directives(100)).kinds == [.string])
    for text in [directives(100_000), "a\n...\n" + directives(100_000)] {
      #expect(refusal(text) == "tasks.yaml:1:1: more than 100 lines that begin with %")
    }
    #expect(
      refusal(directives(100_000).replacing("\n", with: "\r")).contains("more than 100 lines"))
  }

  @Test("more bytes than the caller allows")
  func size() throws {
    #expect(try YAMLNode.compose(yaml: "a: 12", file: "f", maximumBytes: 5) != nil)
    let error = #expect(throws: YAMLError.self) {
      try YAMLNode.compose(yaml: "a: 123", file: "f", maximumBytes: 5)
    }
    #expect(error?.description == "f:1:1: 6 bytes; at most 5 are read")
  }

  @Test("second documents and other versions of YAML")
  func documents() {
    #expect(refusal("a: 1\n---\nb: 2\n") == "tasks.yaml:2:1: a second document")
    #expect(refusal("---\n---\n") == "tasks.yaml:2:1: a second document")
    #expect(refusal("%YAML 1.1\n---\na: no\n") == "tasks.yaml:1:1: expected YAML 1.2, not 1.1")
    #expect(refusal("%YAML 2.0\n---\na\n").contains("incompatible YAML document"))
    #expect(refusal("%FOO\n---\na\n").contains("unknown directive"))
  }

  @Test("bytes that are not UTF-8, control characters and letters that libyaml would not keep")
  func encodings() throws {
    func refusal(_ bytes: [UInt8]) -> String {
      do {
        return "read: \(String(describing: try YAMLNode.compose(yaml: bytes, file: "f")))"
      } catch {
        return "\(error)"
      }
    }
    let text = "a: 1"
    let utf16 = text.utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
    for bytes in [
      [0xFF, 0xFE] + utf16, utf16, [0xFE, 0xFF, 0, 0x61], [0, 0x61], [0, 0, 0xFE, 0xFF],
    ] {
      #expect(refusal(bytes) == "f:1:1: this is UTF-16 or UTF-32; expected UTF-8")
    }
    #expect(
      refusal(Array("a: é\r\nb: ".utf8) + [0xFF]) == "f:2:4: invalid leading UTF-8 octet")
    #expect(refusal(Array("a: ".utf8) + [0xC3]).hasPrefix("f:1:4: "))
    #expect(refusal(Array("a: ".utf8) + [0xED, 0xA0, 0x80]).hasPrefix("f:1:4: "))
    #expect(refusal(Array("a: b\n  \0".utf8)) == "f:2:3: control characters are not allowed")
    #expect(refusal(Array("a: \u{7}".utf8)) == "f:1:4: control characters are not allowed")
    for (letter, name) in [("\u{85}", "85"), ("\u{2028}", "2028"), ("\u{2029}", "2029")] {
      #expect(
        refusal(Array("é: \(letter)".utf8))
          == "f:1:4: write U+\(name) as an escape in double quotes")
    }
    #expect(refusal(Array("a: 1\n\u{FEFF}b: 2".utf8)).hasPrefix("f:2:1: write U+FEFF"))
    #expect(refusal(Array("\u{FEFF}\u{FEFF}a".utf8)).hasPrefix("f:1:1: write U+FEFF"))
    #expect(
      try YAMLNode.compose(yaml: "\"\\L\\0\\uFEFF\"", file: "f")?.string == "\u{2028}\0\u{FEFF}")
  }
}
