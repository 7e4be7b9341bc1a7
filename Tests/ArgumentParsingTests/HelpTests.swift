// What help says, and how it is laid out.

import Foundation
import Testing

@testable import ArgumentParsing

@Suite struct HelpTests {
  private func help(_ type: any ParsableCommand.Type, columns: Int? = 80) -> String {
    Tool.helpMessage(for: type, columns: columns)
  }

  @Test("A program's help has its sections, and groups of subcommands under their titles")
  func program() {
    #expect(
      help(Tool.self) == """
        OVERVIEW: A tool for tests.

        It draws, and it counts, and while it does so this line gets longer than eighty
        columns are.

        First:    tool draw
        Then:     tool items add 1 2 3 --label "a label that makes this line longer than eighty columns"

        USAGE: tool <subcommand>

        OPTIONS:
          --version               Show the version.
          -h, --help              Show help information.

        SUBCOMMANDS:
          draw                    Draw shapes.
          items                   Items.

        RARE SUBCOMMANDS:
          fail

          See 'tool help <subcommand>' for detailed help.
        """)
  }

  @Test("A command's help shows values and defaults, and titled groups in sections of their own")
  func command() {
    #expect(
      help(Draw.self) == """
        OVERVIEW: Draw shapes.

        USAGE: tool draw [<common options>] <count> [<place>] [--prompt <prompt>]
                 [--scale <scale>] --times <times> [--fill] [--verbose]
                 [--parts <parts>] [--colour <colour>]

        ARGUMENTS:
          <count>                 How many.
          <place>                 Where to.

        OPTIONS:
          -p, --prompt <prompt>   What is written on it.
          --scale <scale>         How large. (default: 1.5)
          --times <times>         How often; must be given.
          -f, --fill              Fill it.
          -v, --verbose           Say more.
          --parts <parts>         Parts with commas. (default: edge,corner)
          --colour <colour>       A colour.
          --version               Show the version.
          -h, --help              Show help information.

        COMMON OPTIONS:
          --config <config>       A file of settings.
          --set <key=value>       One setting.
          -s, --shape <shape>     What it looks like. (values: circle, square, triangle;
                                  default: circle)
        """)
    #expect(help(Items.self).contains("  list (default)"))
    #expect(help(Items.self).contains("See 'tool help items <subcommand>'"))
  }

  @Test("Help is asked for by help, --help and -h anywhere, and the version is at hand below")
  func asking() {
    let draw = help(Draw.self, columns: nil)
    for words in [
      ["draw", "--help"], ["draw", "-h"], ["--help", "draw"], ["help", "draw"],
      ["draw", "--nothing", "-h"], ["draw", "--prompt", "--help"], ["draw", "-vh"],
      ["draw", "--help", "--version"],
    ] {
      #expect(told(words) == draw)
    }
    #expect(told(["items", "--help"]) == help(Items.self, columns: nil))
    #expect(told(["items", "help", "add"]) == help(Items.Add.self, columns: nil))
    #expect(told(["items", "--limit", "3", "-h"]) == help(Items.List.self, columns: nil))
    #expect(told(["help"]) == help(Tool.self, columns: nil))
    for words in [["--version"], ["draw", "--version"], ["draw", "--version", "--help"]] {
      #expect(told(words) == "1.2.3")
    }
    #expect(throws: Never.self) { try Draw.parse(["3", "--times=4", "--", "--help"]) }
  }

  private func told(_ words: [String]) -> String? {
    do {
      _ = try Tool.parseAsRoot(words)
      return nil
    } catch { return Tool.exitCode(for: error) == .success ? Tool.fullMessage(for: error) : nil }
  }

  @Test("No line is wider than the terminal, but for words and lines that somebody set so")
  func widths() {
    for columns in [1, 20, 40, 59, 60, 61, 80, 100, 200] {
      for command in CommandInterface(Tool.self).tree {
        for line in help(command.type, columns: columns).split(separator: "\n") {
          let isLong = line.contains("  tool ") || !line.drop { $0 == " " }.contains(" ")
          let isLabel = line.hasPrefix("  ") && !line.hasPrefix("        ")
          #expect(isLong || isLabel || columns < 60 || Terminal.cells(line) <= columns)
        }
      }
    }
  }

  @Test("Texts are wrapped by the cells that they take, and long lists after commas")
  func wrapping() {
    #expect(Terminal.wrap("ab cd ef", columns: 5) == "ab cd\nef")
    #expect(Terminal.wrap("ab cd ef", columns: 7, indentation: 2) == "ab cd\n  ef")
    #expect(Terminal.wrap("日本 語 ab", columns: 6) == "日本\n語 ab")
    #expect(Terminal.wrap("a\n\nb", columns: 5) == "a\n\nb")
    #expect(Terminal.wrap("  ab cd ef\nab  cd ef", columns: 5) == "  ab cd ef\nab  cd ef")
    #expect(Terminal.wrap("x a,bb,ccc,dd", columns: 6) == "x a,\nbb,\nccc,dd")
    #expect(Terminal.wrap("abcdefghi x", columns: 5) == "abcdefghi\nx")
  }

  @Test("Cells are those of the C library's wcwidth")
  func cells() throws {
    #expect(Terminal.cells("abc") == 3)
    #expect(Terminal.cells("日本") == 4)
    #expect(Terminal.cells("e\u{301}") == 1)
    #expect(Terminal.cells("…√³") == 3)
    typealias Width = @convention(c) (wchar_t) -> Int32
    guard let found = dlsym(nil, "wcwidth"),
      let locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nil)
    else { return }
    defer { freelocale(locale) }
    let previous = uselocale(locale)
    defer { uselocale(previous) }
    let width = unsafeBitCast(found, to: Width.self)
    var (known, equal) = (0, 0)
    for value in UInt32(0x20)...0x3FFFF {
      guard let scalar = Unicode.Scalar(value), scalar.properties.age != nil else { continue }
      let expected = width(wchar_t(value))
      guard expected >= 0 else { continue }
      known += 1
      if Int(expected) == Terminal.cells(String(scalar)) { equal += 1 }
    }
    // The two may know different versions of Unicode.
    #expect(Double(equal) > 0.995 * Double(known), "\(known - equal) of \(known) differ")
  }

  @Test("Writing to a reader that has gone away is no failure")
  func closedPipe() {
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    close(ends[0])
    Terminal.write(String(repeating: "help\n", count: 100_000), to: ends[1])
    close(ends[1])
  }

  @Test("Names become words with dashes")
  func dashed() {
    let names = [
      "limit": "limit", "maxTokens": "max-tokens", "topK": "top-k", "sha256": "sha256",
      "parseURLText": "parse-url-text", "AdminDLQ": "admin-dlq", "snake_case": "snake-case",
    ]
    for (name, dashed) in names { #expect(Spelling.dashed(name) == dashed) }
  }

  @Test("The distance of words counts letters changed, added, left out and swapped")
  func distance() {
    #expect(Spelling.distance("run", "run") == 0)
    #expect(Spelling.distance("rnu", "run") == 1)
    #expect(Spelling.distance("", "run") == 3)
    #expect(Spelling.distance("run", "") == 3)
    #expect(Spelling.distance("kitten", "sitting") == 3)
  }
}
