// The axes of plots with two of them: grid lines with their values, ticks below, both titles.

/// Two scales and where their plot ends. The values of the vertical one stand left of it.
struct PlotAxes {
  var horizontal: Scale
  var vertical: Scale
  var right: Double
  var bottom: Double
  var horizontalTitle: String
  var verticalTitle: String

  /// Where the plot begins: the values of the vertical scale have room before it.
  static func left(of vertical: Scale) -> Double {
    (labels(of: vertical).map { TextMeasure.width($0.text, size: 11) }.max() ?? 0) + 8
  }

  private static func labels(of vertical: Scale) -> [(value: Double, text: String)] {
    let ticks = vertical.ticks(5)
    return ticks.values.map { ($0, NumberText.plain($0, decimals: ticks.decimals)) }
  }

  func draw(on drawing: inout Drawing) {
    let left = Self.left(of: vertical)
    drawing.text(
      TextMeasure.fit(verticalTitle, width: drawing.width, size: 11), x: 0, y: 11, style: "quiet")
    for (value, text) in Self.labels(of: vertical) {
      let y = vertical.position(value)
      drawing.line(left, y, right, y, style: "grid")
      drawing.text(text, x: left - 6, y: y + 4, anchor: .end, style: "tick")
    }
    drawing.line(left, bottom, right, bottom, style: "axis")
    let ticks = horizontal.ticks(size: 11) { NumberText.plain($0, decimals: $1) }
    for value in ticks.values {
      let x = horizontal.position(value)
      drawing.line(x, bottom, x, bottom + 4, style: "axis")
      drawing.text(
        NumberText.plain(value, decimals: ticks.decimals), x: x, y: bottom + 16, anchor: .middle,
        style: "tick")
    }
    drawing.axisTitle(horizontalTitle, x: left, y: bottom + 34)
  }
}
