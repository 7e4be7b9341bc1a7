// What a YAML text is read as.

import Foundation
import Testing

@testable import YAML

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
