// Curves over events, labelled at their ends.

/// Lines over a horizontal axis. Labelled series are told apart by colour, dashes and the label at
/// their end; series without a label are thin and quiet behind them.
struct LinePlot {
  struct Series {
    var label: String
    var points: [(x: Double, y: Double)]
    var index: Int
  }

  var horizontalAxis: String
  var verticalAxis: String
  var series: [Series]
  var background: [Series] = []
  /// Vertical dashed lines, with what they stand for.
  var events: [Double] = []
  var eventLabel = ""

  private static let labelSize = 11.5

  func drawing(width: Double) -> Drawing {
    let all = (series + background).flatMap(\.points).filter { $0.x.isFinite && $0.y.isFinite }
    let top = events.isEmpty ? 24.0 : 46
    let height = max(250, 78 + Double(series.count) * 15)
    let bottom = height - 40
    let labelRoom = series.map { TextMeasure.width($0.label, size: Self.labelSize) }.max() ?? 0
    let right = width - min(labelRoom + 32, width * 0.42)
    let vertical = Scale(showing: all.map(\.y), start: bottom, end: top)
    let left = PlotAxes.left(of: vertical)
    let horizontal = Scale(
      low: all.map(\.x).min() ?? 0, high: all.map(\.x).max() ?? 1, start: left, end: right)

    var drawing = Drawing(width: width, height: height)
    PlotAxes(
      horizontal: horizontal, vertical: vertical, right: right, bottom: bottom,
      horizontalTitle: horizontalAxis, verticalTitle: verticalAxis
    ).draw(on: &drawing)
    for event in events {
      let x = horizontal.position(event)
      drawing.line(x, top - 8, x, bottom, style: "reference")
    }
    if let first = events.first {
      drawing.text(eventLabel, x: horizontal.position(first), y: top - 13, style: "quiet")
    }
    for line in background {
      draw(line, style: "thin", on: &drawing, horizontal, vertical)
    }
    let ends = series.map { line in
      line.points.last { $0.y.isFinite }.map { vertical.position($0.y) } ?? bottom
    }
    let labels = LabelSpacing.spread(ends, gap: 14, within: top...max(bottom, top))
    for (index, line) in series.enumerated() {
      draw(
        line, style: "line \(Mark.series(line.index).colour)", on: &drawing, horizontal, vertical)
      guard let last = line.points.last(where: { $0.x.isFinite && $0.y.isFinite }) else { continue }
      let x = horizontal.position(last.x)
      // The mark stands beside the label: where lines end together, marks on them would cover
      // each other.
      drawing.line(x + 1, ends[index], right + 13, labels[index], style: "leader")
      drawing.mark(
        Mark.series(line.index), x: right + 18, y: labels[index],
        tip: "\(line.label): \(NumberText.alone(last.y)) at \(NumberText.alone(last.x))")
      drawing.text(
        TextMeasure.fit(line.label, width: width - right - 27, size: Self.labelSize),
        x: right + 27, y: labels[index] + 4, style: "label")
    }
    return drawing
  }

  /// As many points as can be told apart, the first and the last among them.
  private static func thinned(_ points: [(x: Double, y: Double)]) -> [(x: Double, y: Double)] {
    let most = 250
    guard points.count > most else { return points }
    return (0..<most).map { points[$0 * (points.count - 1) / (most - 1)] }
  }

  private func draw(
    _ line: Series, style: String, on drawing: inout Drawing, _ horizontal: Scale,
    _ vertical: Scale
  ) {
    let points = Self.thinned(line.points.filter { $0.x.isFinite && $0.y.isFinite })
    guard points.count > 1 else { return }
    let path = points.enumerated().map { index, point -> Markup in
      "\(index == 0 ? "M" : "L")\(horizontal.position(point.x)) \(vertical.position(point.y))"
    }
    let dashes = style == "thin" ? "none" : Mark.dashes(line.index)
    drawing.body += "<path d=\"\(path)\" class=\"\(style)\" stroke-dasharray=\"\(dashes)\"/>\n"
  }
}
