import Foundation
import Testing
import TextTables

@Suite struct TextTableTests {
  private static var table: TextTable<(String, String, String)> {
    TextTable { row in
      [
        Column(title: "Name", value: row.0), Column(title: "Count", value: row.1, align: .right),
        Column(title: "What it is", value: row.2),
      ]
    }
  }

  @Test("columns are as wide as their cells, under titles and a rule, without spaces at the end")
  func plain() {
    #expect(
      Self.table.string(for: [("first", "1", "a"), ("a longer one", "12345678", "")]) == """
        Name             Count  What it is
        ------------  --------  ----------
        first                1  a
        a longer one  12345678
        """)
  }

  @Test("without rows there is no table, and a row without all columns has empty cells")
  func awkward() {
    #expect(Self.table.string(for: []) == "")
    #expect(TextTable<Int> { _ in [] }.string(for: [1]).filter { $0 != "\n" } == "")
    let ragged = TextTable<Int> { count in
      (0..<count).map { Column(title: "c\($0)", value: "\(count)") }
    }
    #expect(
      ragged.string(for: [1, 3]) == """
        c0  c1  c2
        --  --  --
        1
        3   3   3
        """)
  }

  @Test("wide characters have two cells and combining ones none")
  func cells() {
    let text = Self.table.string(for: [
      ("日本語", "1", "x"), ("e\u{301}te\u{301}", "２", "x"), ("été", "3", "x"), ("한국", "4", "x"),
    ])
    #expect(
      text == """
        Name    Count  What it is
        ------  -----  ----------
        日本語      1  x
        e\u{301}te\u{301}        ２  x
        été         3  x
        한국        4  x
        """)
  }

  @Test("the locale and the form of numbers stay as they were")
  func locale() {
    let before = setlocale(LC_ALL, nil).map { String(cString: $0) }
    let own = uselocale(nil)
    _ = Self.table.string(for: [("日本", "1", "x")])
    #expect(setlocale(LC_ALL, nil).map { String(cString: $0) } == before)
    #expect(uselocale(nil) == own && String(format: "%.1f", 1.5) == "1.5")
  }

  @Test("the widest columns give way first, and what is cut says so")
  func cut() {
    let rows = [
      ("a name of some length", "123456789012", String(repeating: "long ", count: 20)),
      ("short", "1", "short"),
    ]
    let text = Self.table.string(for: rows, maximumWidth: 60)
    #expect(
      text == """
        Name                          Count  What it is
        ---------------------  ------------  -----------------------
        a name of some length  123456789012  long long long long lo…
        short                             1  short
        """)
    let narrow = Self.table.string(for: rows, maximumWidth: 10)
    #expect(
      narrow == """
        Name             Count  What it is
        ----------  ----------  ----------
        a name of…  123456789…  long long…
        short                1  short
        """)
    #expect(
      Self.table.string(for: rows, maximumWidth: 35).contains("\na name of…  1234567890…  long"))
    #expect(Self.table.string(for: rows, maximumWidth: 200) == Self.table.string(for: rows))
  }

  @Test("a cut splits no character, and leaves equal columns")
  func cutCells() {
    let rows = [
      ("x", "1", String(repeating: "日", count: 30)),
      ("x", "2", String(repeating: "e\u{301}", count: 60)),
      ("x", "3", String(repeating: "🇩🇪", count: 30)),
    ]
    for width in 24...40 {
      for line in Self.table.string(for: rows, maximumWidth: width).split(separator: "\n")
        .dropFirst(2)
      {
        let cell = line.dropFirst(13)
        #expect(cell.hasSuffix("…"))
        let kept = cell.dropLast()
        #expect(kept.allSatisfy { "日e\u{301}🇩🇪".contains($0) })
        let cells = kept.reduce(1) { $0 + ($1 == "e\u{301}" ? 1 : 2) }
        #expect(cells <= width - 13 && cells >= width - 14)
      }
    }
  }

  @Test("a hostile cell makes no line and reaches no terminal as a command")
  func hostile() {
    let text = Self.table.string(for: [
      ("a\nb\r\n", "\u{1B}[31m", "\u{9B}\u{202E}\u{2028}\t\u{0}")
    ])
    #expect(
      text
        == #"""
        Name              Count  What it is
        -----------  ----------  --------------------------------
        a\nb\u{d}\n  \u{1b}[31m  \u{9b}\u{202e}\u{2028}\u{9}\u{0}
        """#)
    #expect(text.split(separator: "\n").count == 3)
  }

  @Test("tables of eight threads at once are right")
  func threads() {
    DispatchQueue.concurrentPerform(iterations: 64) { number in
      let text = Self.table.string(for: [("日本", "\(number)", "x"), ("a", "1", "x")])
      let numbers = text.split(separator: "\n")[2]
      #expect(numbers.hasPrefix("日本" + String(repeating: " ", count: number < 10 ? 6 : 5)))
    }
  }
}
