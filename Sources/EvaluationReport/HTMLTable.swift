// Tables of the report: aligned numbers, row heads, and rows that become cards on a phone.

struct HTMLTable {
  struct Cell {
    var text: String
    var isNumber = false
    var isStrong = false
    var mark: Mark?
    /// A quieter line under the text.
    var detail = ""

    static func text(_ text: String, mark: Mark? = nil) -> Cell { Cell(text: text, mark: mark) }
    static func number(_ text: String, isStrong: Bool = false) -> Cell {
      Cell(text: text, isNumber: true, isStrong: isStrong)
    }
  }

  var headers: [Cell]
  var rows: [[Cell]]

  /// - Parameter stacks: on a narrow screen each row is a card of names and values; other tables
  ///   scroll sideways.
  func markup(label: String, stacks: Bool = false) -> Markup {
    let head = headers.map { header -> Markup in
      "<th scope=\"col\"\(Markup.when(header.isNumber, " class=\"number\""))>\(header.text)</th>"
    }
    let body = rows.map { row -> Markup in
      let cells = zip(row, headers).enumerated().map { index, entry -> Markup in
        let (cell, header) = entry
        let style: Markup =
          cell.isNumber || cell.isStrong
          ? " class=\"\(cell.isNumber ? "number" : "")\(cell.isStrong ? " best" : "")\"" : ""
        if index == 0 { return "<th scope=\"row\"\(style)>\(cell.content)</th>" }
        return "<td data-label=\"\(header.text)\"\(style)><span>\(cell.content)</span></td>"
      }
      return "<tr>\(cells)</tr>\n"
    }
    return """
      <div class="scroll" role="region" aria-label="\(label)" tabindex="0">
      <table\(Markup.when(stacks, " class=\"stacks\""))><thead><tr>\(head)</tr></thead>
      <tbody>
      \(body)</tbody></table></div>

      """
  }
}

extension HTMLTable.Cell {
  fileprivate var content: Markup {
    let line = Markup.when(!detail.isEmpty, "<small>\(detail)</small>")
    return "\(mark.map(HTMLTable.key) ?? "")\(text)\(line)"
  }
}

extension HTMLTable {
  /// A mark of the plots within text.
  static func key(_ mark: Mark) -> Markup {
    var drawing = Drawing(width: 14, height: 14)
    drawing.mark(mark, x: 7, y: 7, tip: "")
    return """
      <svg class="key" viewBox="0 0 14 14" aria-hidden="true">\(drawing.body)</svg>
      """
  }
}

/// A plot with its title, what it is about, and its numbers.
struct Figure {
  /// Unique in the page.
  var id: String
  /// What there is to see.
  var title: String
  /// For those who do not see the plot: what is drawn, and the main numbers.
  var description: String
  var table: HTMLTable
  /// Draws the plot at a width.
  var drawing: (Double) -> Drawing
  /// A second width for wide screens, where the figure has the room.
  var wideWidth: Double?
  /// A line under the plot: what a reader needs to know and the plot does not say.
  var note = ""

  /// The width of a plot on a phone, in units of which one is about a pixel there.
  static let narrowWidth = 360.0

  var markup: Markup {
    var plots = drawing(Self.narrowWidth).svg(
      id: "\(id)-n", title: title, description: description,
      style: wideWidth == nil ? "plot" : "plot narrow")
    if let wideWidth {
      plots += drawing(wideWidth).svg(
        id: "\(id)-w", title: title, description: description, style: "plot wide")
    }
    return """
      <figure>
      <figcaption>\(title)</figcaption>
      \(plots)
      \(Markup.when(!note.isEmpty, "<p class=\"note\">\(note)</p>\n"))<details><summary>Numbers</summary>
      \(table.markup(label: title))</details>
      </figure>

      """
  }
}
