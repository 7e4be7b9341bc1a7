// What a YAML text is read as, and what is refused, where.

import Foundation
import Testing

@testable import YAML

private func read(_ text: String) throws -> YAMLNode? {
  try YAMLNode.compose(yaml: text, file: "tasks.yaml")
}

private func value(_ text: String) throws -> YAMLNode { try #require(try read(text)) }

/// The error as a person sees it.
private func refusal(_ text: String) -> String {
  do {
    return "read: \(String(describing: try read(text)))"
  } catch {
    return "\(error)"
  }
}

@Suite("Reading YAML")
struct YAMLReadingTests {
  @Test("plain scalars have the types of the core schema")
  func plain() throws {
    for text in ["null", "Null", "NULL", "~"] { #expect(try value("- \(text)").kinds == [.null]) }
    #expect(try value("- ").kinds == [.null])
    for text in ["true", "True", "TRUE"] { #expect(try value(text).bool == true) }
    for text in ["false", "False", "FALSE"] { #expect(try value(text).bool == false) }
    let numbers = [
      "0": 0, "007": 7, "+5": 5, "-7": -7, "0x1F": 31, "0xff": 255, "0o17": 15,
      "9223372036854775807": Int.max,
    ]
    for (text, number) in numbers {
      #expect(try value(text).int == number)
      #expect(try value(text).float == Double(number))
    }
    let floats: [String: Double] = [
      "1.5": 1.5, ".5": 0.5, "5.": 5, "-1e3": -1_000, "+.5E-2": 0.005, ".inf": .infinity,
      "+.Inf": .infinity, "-.INF": -.infinity, "1e400": .infinity,
    ]
    for (text, number) in floats {
      #expect(try value(text).float == number)
      #expect(try value(text).int == nil)
    }
    for text in [".nan", ".NaN", ".NAN"] { #expect(try value(text).float?.isNaN == true) }
  }

  @Test("what was more than a string in YAML 1.1 is a string, as is all that only looks like more")
  func strings() throws {
    let texts = [
      "yes", "No", "on", "off", "y", "n", "1_000", "0b1", "1:30", "2001-12-14", "=", "nULL", "tRUE",
      "0x", "0o8", "0xg", "-0x1", "+0o7", "1e", "1.2.3", ".", "-.", "+", "e5", ".e1", "--1", "+-1",
      "inf", "nan", "-.nan", ".iNF", "0X1", "0O7", "１", "1 2", "1e5.5",
    ]
    for text in texts {
      let node = try value("- \(text)")
      #expect(node.kinds == [.string], "\(text)")
      #expect(try value("[\(text)]").scalars.first?.string == text)
    }
  }

  @Test("quoted and block scalars are strings whatever they hold")
  func quoted() throws {
    for text in ["'5'", "\"true\"", "'~'", "''", "\"\"", "|\n  5\n", ">-\n  null\n"] {
      let node = try value("a: \(text)")
      #expect(node.kinds == [.string])
      #expect(node.scalars.first?.int == nil)
      #expect(node.scalars.first?.bool == nil)
    }
  }

  @Test("tags of the core schema say what a scalar is, and ! that it is a string")
  func tags() throws {
    #expect(try value("!!str 5").kinds == [.string])
    #expect(try value("! 5").kinds == [.string])
    #expect(try value("!!int '5'").int == 5)
    #expect(try value("!!float 5").float == 5)
    #expect(try value("!!float 5").int == nil)
    #expect(try value("!!bool 'true'").bool == true)
    #expect(try value("[!!null '']").kinds == [.null])
    #expect(try value("!!seq [1]").kinds == [.int])
    #expect(try value("! {a: 1}").kinds == [.int])
    #expect(try value("%TAG !e! tag:yaml.org,2002:\n--- !e!str 5").kinds == [.string])
  }

  @Test("whole numbers beyond Int are read, but are none when asked for")
  func big() throws {
    let node = try value("99999999999999999999")
    #expect(node.kinds == [.int])
    #expect(node.int == nil)
    #expect(node.float == 1e20)
    #expect(node.string == "99999999999999999999")
    #expect(try value("0xFFFFFFFFFFFFFFFF").int == nil)
  }

  @Test("a mapping keeps its order, and a string finds a key that is a string")
  func mappings() throws {
    guard case .mapping(let mapping) = try value("b: 1\na: [x, y]\n5: c\ntrue: d\n'5': e\n") else {
      Issue.record("no mapping")
      return
    }
    #expect(mapping.map { $0.key.string } == ["b", "a", "5", "true", "5"])
    #expect(mapping["b"]?.int == 1)
    #expect(mapping["5"]?.string == "e")
    #expect(mapping["true"] == nil)
    #expect(mapping["c"] == nil)
    guard case .sequence(let list)? = mapping["a"] else {
      Issue.record("no list")
      return
    }
    #expect(list.map(\.string) == ["x", "y"])
  }

  @Test("every value knows its line and column")
  func marks() throws {
    let node = try value("# c\na: 1\nb:\n  - é\n  - {日本: x}\n")
    #expect(node.mark == .init(line: 2, column: 1))
    #expect(node.scalars.map(\.mark.line) == [2, 4, 5])
    #expect(node.scalars.map(\.mark.column) == [4, 5, 10])
    #expect(try value("\u{FEFF}a").mark == .init(line: 1, column: 1))
  }

  @Test("an alias stands for what its anchor names, as it was last before")
  func aliases() throws {
    #expect(
      try value("[&x a, *x, &x b, *x, &y [*x], *y]").scalars.map(\.string)
        == ["a", "a", "b", "b", "b", "b"])
    #expect(try value("&k a: *k").scalars.map(\.string) == ["a"])
    #expect(try value("[&x [&x a], *x]").scalars.map(\.string) == ["a", "a"])
    #expect(try value("&x [&x a]").kinds == [.string])
  }

  @Test("a text without a value is nil, one with null is null")
  func empty() throws {
    for text in [
      "", " ", "\n\n", "# only\n", "---\n", "---\n...\n", "\u{FEFF}", "%YAML 1.2\n---\n",
    ] {
      #expect(try read(text) == nil, "\(text.debugDescription)")
    }
    #expect(try value("~").kinds == [.null])
  }

  @Test("one byte order mark and a declaration of YAML 1.2 may stand first")
  func beginnings() throws {
    #expect(try value("\u{FEFF}%YAML 1.2\n---\na: no\r\n").scalars.map(\.string) == ["no"])
    let bytes = Data([0xEF, 0xBB, 0xBF]) + Data("a: 1".utf8)
    #expect(try YAMLNode.compose(yaml: bytes, file: "f")?.scalars.first?.int == 1)
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

extension YAMLNode {
  /// All scalars that are no keys, in order.
  fileprivate var scalars: [Scalar] {
    switch self {
    case .scalar(let scalar): [scalar]
    case .sequence(let items): items.flatMap(\.scalars)
    case .mapping(let entries): entries.flatMap(\.value.scalars)
    }
  }

  fileprivate var kinds: [Scalar.Kind] { scalars.map(\.kind) }
}
