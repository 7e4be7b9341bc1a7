// Dots with interval bars, one row each: arms, levels, differences.

/// Panels under each other, each with an axis of its own. Labels stand on the left, numbers on the
/// right, so that the plot needs no legend.
struct DotPlot {
  struct Row {
    var label: String
    /// A second, quieter line under the label.
    var detail = ""
    var estimate: IntervalEstimate
    /// The number on the right.
    var text: String
    var mark: Mark
    var isStrong = false
  }

  struct Group {
    var title = ""
    var rows: [Row]
  }

  struct Panel {
    var title = ""
    var axis: String
    var groups: [Group]
    /// A dashed line and what it stands for.
    var reference: (value: Double, label: String)?
    /// Whether the numbers are differences: zero is a line, ticks have signs.
    var isDifference = false
  }

  var panels: [Panel]

  private static let labelSize = 12.0
  private static let detailSize = 10.5

  func drawing(width: Double) -> Drawing {
    let rows = panels.flatMap(\.groups).flatMap(\.rows)
    let widest =
      rows.map {
        max(
          TextMeasure.width($0.label, size: Self.labelSize) * ($0.isStrong ? 1.07 : 1),
          TextMeasure.width($0.detail, size: Self.detailSize))
      }.max() ?? 0
    let left = min(max(widest + 12, 56), width * 0.4)
    let value = rows.map { TextMeasure.width($0.text, size: Self.labelSize) * 1.05 }.max() ?? 0
    var frame = Frame(
      drawing: Drawing(width: width, height: 0), left: left, right: width - value - 12)
    for (index, panel) in panels.enumerated() {
      if index > 0 { frame.y += 22 }
      frame.draw(panel, scale: scale(panel, frame))
    }
    frame.drawing.height = frame.y + 4
    return frame.drawing
  }

  private func scale(_ panel: Panel, _ frame: Frame) -> Scale {
    let (start, end) = (frame.left + 5, frame.right - 5)
    guard panel.isDifference else {
      return Scale(
        showing: panel.values + (panel.reference.map { [$0.value] } ?? []), start: start, end: end)
    }
    // Zero stands at the same place in all panels of differences.
    let reaches = panels.filter(\.isDifference).map(\.reach)
    let share = reaches.map { $0.below / max($0.below + $0.above, 1e-300) }.max() ?? 0
    let below = min(max(share, 0.08), 0.92)
    let reach = panel.reach
    let above = max(reach.above, reach.below * (1 - below) / below, 1e-9) * 1.06
    return Scale(low: -above * below / (1 - below), high: above, start: start, end: end)
  }

  /// Where drawing stands.
  private struct Frame {
    var drawing: Drawing
    var y = 0.0
    let left: Double
    let right: Double

    init(drawing: Drawing, left: Double, right: Double) {
      self.drawing = drawing
      self.left = left
      self.right = right
    }

    mutating func draw(_ panel: Panel, scale: Scale) {
      if !panel.title.isEmpty {
        drawing.text(panel.title, x: 0, y: y + 13, style: "strong")
        y += 22
      }
      if let reference = panel.reference {
        let x = scale.position(reference.value)
        let width = TextMeasure.width(reference.label, size: 11)
        let anchor: Drawing.Anchor =
          x + width / 2 > drawing.width ? .end : x - width / 2 < 0 ? .start : .middle
        drawing.text(
          reference.label, x: anchor == .end ? max(x, width) : x, y: y + 11, anchor: anchor,
          style: "quiet")
        y += 17
      }
      let top = y
      let write = panel.isDifference ? NumberText.signed : NumberText.plain
      let ticks = scale.ticks(size: 11) { write($0, $1) }
      let bottom = top + panel.height(left: left)
      for tick in ticks.values {
        let x = scale.position(tick)
        let isZero = panel.isDifference && abs(tick) < 1e-12
        drawing.line(x, top, x, bottom, style: isZero ? "zero" : "grid")
        drawing.text(
          write(tick, ticks.decimals), x: x, y: bottom + 14, anchor: .middle, style: "tick")
      }
      if let reference = panel.reference, !panel.isDifference {
        let x = scale.position(reference.value)
        drawing.line(x, top - 2, x, bottom, style: "reference")
      }
      for (index, group) in panel.groups.enumerated() {
        if !group.title.isEmpty {
          if index > 0 { y += 6 }
          let title = TextMeasure.fit(group.title, width: drawing.width, size: 11.5)
          drawing.text(title, x: 0, y: y + 14, style: "group")
          y += 20
        }
        for row in group.rows { draw(row, scale: scale) }
      }
      y = bottom + 18
      drawing.axisTitle(panel.axis, x: left, y: y + 12)
      y += 16
    }

    private mutating func draw(_ row: Row, scale: Scale) {
      let height = DotPlot.height(row, left: left)
      let middle = y + height / 2
      let room = (left - 8) / (row.isStrong ? 1.07 : 1)
      let style = row.isStrong ? "label strong" : "label"
      var lines = TextMeasure.lines(row.label, width: room, size: DotPlot.labelSize)
      if !row.detail.isEmpty { lines = [lines.joined(separator: " "), row.detail] }
      for (index, line) in lines.enumerated() {
        let isDetail = index == 1 && !row.detail.isEmpty
        let size = isDetail ? DotPlot.detailSize : DotPlot.labelSize
        let offset = lines.count == 1 ? 4.0 : index == 0 ? -2 : 11
        drawing.text(
          TextMeasure.fit(line, width: isDetail ? left - 8 : room, size: size), x: 0,
          y: middle + offset, style: isDetail ? "detail" : style)
      }
      drawing.line(left, middle, right, middle, style: "guide")
      if let low = row.estimate.low, let high = row.estimate.high {
        drawing.line(
          scale.position(low), middle, scale.position(high), middle,
          style: "bar \(row.mark.colour)")
      }
      if let value = row.estimate.value {
        drawing.mark(
          row.mark, x: scale.position(value), y: middle, tip: "\(row.label): \(row.tip)")
      }
      drawing.text(
        row.text, x: drawing.width, y: middle + 4, anchor: .end,
        style: row.isStrong ? "value strong" : "value")
      y += height
    }
  }

  /// Rows of two lines are higher.
  fileprivate static func height(_ row: Row, left: Double) -> Double {
    let room = (left - 8) / (row.isStrong ? 1.07 : 1)
    let isTall = !row.detail.isEmpty || TextMeasure.width(row.label, size: labelSize) > room
    return isTall ? 36 : 24
  }
}

extension DotPlot.Row {
  /// The number and its interval, for pointing at.
  var tip: String {
    guard let low = estimate.low, let high = estimate.high else { return text }
    let decimals = NumberText.decimals([low, high, estimate.value ?? 0])
    return "\(text) (95 % interval \(NumberText.plain(low, decimals: decimals)) to "
      + "\(NumberText.plain(high, decimals: decimals)))"
  }
}

extension DotPlot.Panel {
  var values: [Double] {
    groups.flatMap(\.rows).map(\.estimate).flatMap {
      [$0.value, $0.low, $0.high].compactMap(\.self)
    }
  }

  /// How far the numbers reach below and above zero.
  var reach: (below: Double, above: Double) {
    (max(-(values.min() ?? 0), 0), max(values.max() ?? 0, 0))
  }

  func height(left: Double) -> Double {
    groups.enumerated().reduce(0) { sum, entry in
      let title = entry.element.title.isEmpty ? 0.0 : entry.offset > 0 ? 26 : 20
      return sum + title + entry.element.rows.reduce(0) { $0 + DotPlot.height($1, left: left) }
    }
  }
}
