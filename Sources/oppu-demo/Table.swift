// A table that fits the terminal, of rows that are lists of texts.

import TextTables

struct Table {
  var titles: [String]
  var rows: [[String]] = []
  /// Titles of columns that are aligned to the right.
  var numeric: Set<String> = []

  /// The table as text, at most `width` cells wide where its titles and numbers allow.
  func text(width: Int) -> String {
    TextTable<[String]> { row in
      titles.indices.map { index in
        Column(
          title: titles[index], value: Self.oneLine(row[index]),
          align: numeric.contains(titles[index]) ? .right : .left)
      }
    }.string(for: rows, maximumWidth: width)
  }

  private static func oneLine(_ text: String) -> String {
    text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }
}
