// What a policy reaches against what it costs.

/// Points with vertical intervals and direct labels, and a region that is the goal.
struct ScatterPlot {
  struct Point {
    var label: String
    /// A second, quieter line.
    var detail: String
    var x: Double
    var estimate: IntervalEstimate
    var mark: Mark
  }

  var horizontalAxis: String
  var verticalAxis: String
  var points: [Point]
  /// At most so much of x, and a y on the good side of this.
  var goal: (x: Double, y: Double, isAbove: Bool)?

  func drawing(width: Double) -> Drawing {
    let shown = points.filter { $0.x.isFinite && $0.estimate.value != nil }.map { point in
      var point = point
      point.label = TextMeasure.fit(point.label, width: width * 0.45, size: 12)
      return point
    }
    let height = 280.0
    let (top, bottom) = (26.0, height - 40)
    let values = shown.flatMap { point in
      [point.estimate.value, point.estimate.low, point.estimate.high].compactMap(\.self)
    }
    let vertical = Scale(
      showing: values + (goal.map { [$0.y] } ?? []), start: bottom - 6, end: top + 4)
    let left = PlotAxes.left(of: vertical)
    let horizontal = Scale(
      low: 0, high: max(shown.map(\.x).max() ?? 1, 1e-6), start: left + 10, end: width - 12)

    var drawing = Drawing(width: width, height: height)
    if let goal {
      let right = horizontal.position(goal.x)
      let y = vertical.position(goal.y)
      let (from, to) = goal.isAbove ? (top, y) : (y, bottom)
      drawing.body += """
        <rect x="\(left)" y="\(from)" width="\(max(right - left, 0))" \
        height="\(max(to - from, 0))" class="goal"/>

        """
    }
    PlotAxes(
      horizontal: horizontal, vertical: vertical, right: width, bottom: bottom,
      horizontalTitle: horizontalAxis, verticalTitle: verticalAxis
    ).draw(on: &drawing)

    let middles = shown.map { vertical.position($0.estimate.value ?? 0) }
    let labels = LabelSpacing.spread(middles, gap: 28, within: (top + 20)...(bottom - 14))
    for (index, point) in shown.enumerated() {
      let x = horizontal.position(point.x)
      if let low = point.estimate.low, let high = point.estimate.high {
        drawing.line(
          x, vertical.position(low), x, vertical.position(high), style: "bar \(point.mark.colour)")
      }
      drawing.mark(
        point.mark, x: x, y: middles[index], tip: "\(point.label): \(point.detail)")
      let room = max(
        TextMeasure.width(point.label, size: 12) * 1.07,
        TextMeasure.width(point.detail, size: 10.5))
      let isLeft = x + 10 + room > width
      let anchor: Drawing.Anchor = isLeft ? .end : .start
      var labelX = isLeft ? x - 10 : x + 10
      if !isLeft {
        // Past the bars of points to the right that the label would cover.
        for other in shown.sorted(by: { $0.x < $1.x }) {
          let otherX = horizontal.position(other.x)
          let high = vertical.position(other.estimate.high ?? other.estimate.value ?? 0)
          let low = vertical.position(other.estimate.low ?? other.estimate.value ?? 0)
          if otherX > x, otherX > labelX - 10, otherX < labelX + room, low > labels[index] - 12,
            high < labels[index] + 16
          {
            labelX = min(otherX + 10, width - room)
          }
        }
      }
      if abs(labels[index] - middles[index]) > 6 || labelX > x + 12 {
        drawing.line(
          x + (isLeft ? -5 : 5), middles[index], labelX + (isLeft ? 2 : -2), labels[index] - 3,
          style: "leader")
      }
      drawing.text(point.label, x: labelX, y: labels[index], anchor: anchor, style: "label strong")
      drawing.text(point.detail, x: labelX, y: labels[index] + 13, anchor: anchor, style: "detail")
    }
    return drawing
  }
}
