import Foundation
import Testing

@testable import EvaluationReport

/// The plots, read back from their SVG.
@Suite struct PlotTests {
  /// The numbers of an attribute of the elements with a class, in order.
  static func numbers(_ attribute: String, of style: String, in drawing: Drawing) throws -> [Double]
  {
    let pattern = try Regex(
      "<[a-z]+ [^>]*?\\b\(attribute)=\"([-−0-9.,]+)\"[^>]*class=\"\(style)[^>]*>")
    return drawing.body.string.matches(of: pattern).compactMap {
      Double($0.output[1].substring ?? "")
    }
  }

  private func plot(_ estimates: [IntervalEstimate], isDifference: Bool = false) -> Drawing {
    DotPlot(panels: [
      .init(
        axis: "Accuracy",
        groups: [
          .init(
            rows: estimates.enumerated().map {
              .init(label: "Arm \($0)", estimate: $1, text: "x", mark: Mark(.prompt))
            })
        ], isDifference: isDifference)
    ]).drawing(width: 360)
  }

  @Test("a larger value stands further right, in its row, within its interval")
  func positions() throws {
    let values = [0.05, 0.3, 0.31, 0.7, 0.99]
    let drawing = plot(values.map { IntervalEstimate($0, low: $0 - 0.04, high: $0 + 0.1) })
    let x = try Self.numbers("cx", of: "mark", in: drawing)
    let y = try Self.numbers("cy", of: "mark", in: drawing)
    let low = try Self.numbers("x1", of: "bar", in: drawing)
    let high = try Self.numbers("x2", of: "bar", in: drawing)
    try #require(x.count == 5 && low.count == 5 && high.count == 5)
    #expect(x == x.sorted() && Set(x).count == 5)
    #expect(y == y.sorted() && Set(y).count == 5)
    for index in x.indices { #expect(low[index] < x[index] && x[index] < high[index]) }
    // Distances are in proportion.
    #expect(abs((x[3] - x[0]) / (x[1] - x[0]) - 0.65 / 0.25) < 0.02)
    #expect(low.min()! >= 0 && high.max()! <= 360)
  }

  @Test("zero stands at the same place in all panels of differences")
  func zeros() throws {
    let panels = [0.2, 0.004].map { size in
      DotPlot.Panel(
        axis: "x",
        groups: [
          .init(rows: [
            .init(
              label: "a", estimate: .init(size, low: -size / 2, high: 2 * size), text: "",
              mark: Mark(.oppu))
          ])
        ], isDifference: true)
    }
    let zeros = try Self.numbers("x1", of: "zero", in: DotPlot(panels: panels).drawing(width: 360))
    try #require(zeros.count == 2)
    #expect(zeros[0] == zeros[1])
  }

  @Test("a point without a number or interval has no mark or bar, and breaks nothing")
  func missing() throws {
    let drawing = plot([.init(nil), .init(0.5), .init(.nan, low: .nan, high: 1)])
    #expect(try Self.numbers("cx", of: "mark", in: drawing).count == 1)
    #expect(try Self.numbers("x1", of: "bar", in: drawing).isEmpty)
    #expect(!drawing.body.string.contains("nan") && !drawing.body.string.contains("inf"))
    #expect(drawing.height.isFinite && drawing.height > 0)
  }

  @Test("every number of a label fits its place: nothing lies outside the drawing")
  func inside() throws {
    let findings = Findings(Samples.news)
    let figures =
      [
        findings.armsFigure(Samples.accuracy, id: "a"), findings.differencesFigure(id: "b"),
        findings.activityFigure(id: "c"), findings.shiftFigure(id: "d"),
        findings.learningFigure(id: "e"), HTMLReport([Samples.news]).forestFigure,
      ].compactMap(\.self) + findings.streamingFigures(Samples.stream, id: "f")
    #expect(figures.count == 9)
    for figure in figures {
      let drawing = figure.drawing(360)
      for attribute in ["x", "x1", "x2", "cx"] {
        let all = drawing.body.string.matches(of: try Regex(" \(attribute)=\"([^\"]*)\""))
          .compactMap { Double($0.output[1].substring ?? "") }
        #expect(all.allSatisfy { (-0.5...360.5).contains($0) }, "\(figure.id) \(attribute)")
      }
      for attribute in ["y", "y1", "y2", "cy"] {
        let all = drawing.body.string.matches(of: try Regex(" \(attribute)=\"([^\"]*)\""))
          .compactMap { Double($0.output[1].substring ?? "") }
        #expect(
          all.allSatisfy { (-0.5...drawing.height + 0.5).contains($0) }, "\(figure.id) \(attribute)"
        )
      }
    }
  }

  @Test("a lower loss is drawn lower, later events further right")
  func curves() throws {
    let points = [(0.0, 2.3), (8, 1.7), (40, 1.1), (100, 0.9)]
    let drawing = LinePlot(
      horizontalAxis: "Events", verticalAxis: "Loss",
      series: [.init(label: "OPPU", points: points.map { (x: $0.0, y: $0.1) }, index: 0)]
    ).drawing(width: 360)
    let path = try #require(drawing.body.string.firstMatch(of: /<path d="(M[^"]*)" class="line/))
    let numbers = path.output.1.split { "ML ".contains($0) }.compactMap { Double($0) }
    try #require(numbers.count == 8)
    let x = stride(from: 0, to: 8, by: 2).map { numbers[$0] }
    let y = stride(from: 1, to: 8, by: 2).map { numbers[$0] }
    #expect(x == x.sorted() && y == y.sorted())
  }

  @Test("ticks are round, within the axis, and end where a label would cover the next")
  func ticks() {
    for (low, high) in [(0.0, 1.0), (0.123, 0.127), (-3e4, 8e5), (0, 1e-9), (5, 5), (.nan, 1)] {
      let scale = Scale(low: low, high: high, start: 0, end: 200)
      let ticks = scale.ticks(size: 11) { NumberText.plain($0, decimals: $1) }
      #expect(ticks.values == ticks.values.sorted())
      #expect(ticks.values.count <= 9)
      for tick in ticks.values { #expect((-0.001...200.001).contains(scale.position(tick))) }
    }
    #expect(Scale(low: 0, high: 1, start: 0, end: 300).ticks(5).values.count == 6)
  }

  @Test("labels that would cover each other are moved apart, in order and within the plot")
  func labels() {
    let free = LabelSpacing.spread([10, 50, 90], gap: 14, within: 0...100)
    #expect(free == [10, 50, 90])
    let crowded = LabelSpacing.spread([90, 95, 95, 20], gap: 14, within: 0...100)
    let sorted = crowded.sorted()
    #expect(zip(sorted, sorted.dropFirst()).allSatisfy { $1 - $0 >= 14 })
    #expect(crowded[3] == 20 && crowded.max()! <= 100)
    #expect(crowded[0] < crowded[1])
    #expect(LabelSpacing.spread([1, 0, 0], gap: 14, within: 0...100) == [28, 0, 14])
  }

  @Test("a long label takes two lines and ends in an ellipsis after them")
  func longLabels() throws {
    let long = "As questions and answers about the headlines of other newspapers"
    let lines = TextMeasure.lines(long, width: 130, size: 12)
    try #require(lines.count == 2)
    #expect(lines[0] == "As questions and")
    #expect(TextMeasure.fit(lines[1], width: 130, size: 12).hasSuffix("…"))
    #expect(TextMeasure.fit("OPPU", width: 130, size: 12) == "OPPU")
  }
}
