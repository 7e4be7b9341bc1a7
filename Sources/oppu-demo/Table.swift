// A table that fits the terminal: the widest columns give way first.

import TextTable

struct Table {
  var titles: [String]
  var rows: [[String]] = []
  /// Titles of columns that are aligned to the right.
  var numeric: Set<String> = []

  /// The table as text, at most `width` characters wide where its titles allow.
  func text(width: Int) -> String {
    let cells = rows.map { row in row.map(Self.oneLine) }
    var widths = titles.indices.map { index in
      cells.reduce(titles[index].count) { max($0, $1[index].count) }
    }
    let minima = titles.map { max(10, $0.count) }
    while widths.reduce(2 * widths.count, +) > width,
      let widest = widths.indices.filter({ widths[$0] > minima[$0] })
        .max(by: { widths[$0] < widths[$1] })
    {
      widths[widest] -= 1
    }
    let table = TextTable<[String]> { row in
      titles.indices.map { index in
        Column(
          title: titles[index], value: Self.cut(row[index], to: widths[index]),
          width: widths[index], align: numeric.contains(titles[index]) ? .right : .left)
      }
    }
    // Without the line end that the table brings along.
    return (table.string(for: cells, style: Style.simple) ?? "").trimmingLineEnd
  }

  private static func oneLine(_ text: String) -> String {
    text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }

  private static func cut(_ text: String, to width: Int) -> String {
    text.count > width ? text.prefix(max(1, width - 1)) + "…" : text
  }
}

extension String {
  fileprivate var trimmingLineEnd: String {
    var text = Substring(self)
    while text.last?.isNewline == true { text.removeLast() }
    return String(text)
  }
}
