// Tables of text for a terminal, as wide as their cells or as the terminal.

import Foundation

/// A cell of a row, and the title of its column.
public struct Column: Sendable {
  /// On which side of its column a cell stands.
  public enum Alignment: Sendable { case left, right }

  let title: String
  let value: String
  let align: Alignment

  public init(title: String, value: String, align: Alignment = .left) {
    self.title = title
    self.value = value
    self.align = align
  }
}

/// Rows under titles and a rule of dashes, with two spaces between columns.
///
/// Columns are even in a terminal's cells: a wide character has two, a combining one none. What a
/// terminal would act on, or what would start another line, is shown as an escape.
public struct TextTable<Row> {
  private let columns: (Row) -> [Column]

  /// - Parameter columns: of a row; the same titles for every row.
  public init(_ columns: @escaping (Row) -> [Column]) { self.columns = columns }

  /// The lines, without spaces at their ends and without a line break after the last; empty where
  /// there are no rows.
  /// - Parameter maximumWidth: cells to fit into, where the titles allow; nil: as wide as it gets.
  ///   The widest columns give way first, those aligned to the right last, down to ten cells or
  ///   the title's; what is cut ends in `…`.
  public func string(for rows: some Sequence<Row>, maximumWidth: Int? = nil) -> String {
    let rows = rows.map(columns)
    guard let columns = rows.max(by: { $0.count < $1.count }) else { return "" }
    let cells = rows.map { row in
      columns.indices.map { row.indices.contains($0) ? row[$0].value.visible : "" }
    }
    let titles = columns.map(\.title.visible)
    return withUnicodeLocale {
      var widths = titles.indices.map { index in
        cells.reduce(titles[index].cellWidth) { max($0, $1[index].cellWidth) }
      }
      let minima = titles.map { max(10, $0.cellWidth) }
      func size(_ index: Int) -> (Int, Int) {
        (columns[index].align == .left ? 1 : 0, widths[index])
      }
      while let maximumWidth, widths.reduce(2 * widths.count - 2, +) > maximumWidth,
        let widest = widths.indices.filter({ widths[$0] > minima[$0] })
          .max(by: { size($0) < size($1) })
      {
        widths[widest] -= 1
      }
      let rule = widths.map { String(repeating: "-", count: $0) }
      return ([titles, rule] + cells).map { line in
        var text = line.indices.map { index in
          let cell = line[index].cut(toCells: widths[index])
          let space = String(repeating: " ", count: widths[index] - cell.cellWidth)
          return columns[index].align == .right ? space + cell : cell + space
        }.joined(separator: "  ")
        while text.last == " " { text.removeLast() }
        return text
      }.joined(separator: "\n")
    }
  }
}

/// The width of the terminal that standard output is, in cells; nil where it is none.
public func terminalWidth() -> Int? {
  var size = winsize()
  guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
  return Int(size.ws_col)
}
