// The SVG around every plot: its size, its text alternative, and the parts that plots share.

/// An SVG drawing in a coordinate system of its own; the page scales it.
struct Drawing {
  var width: Double
  var height: Double
  var body = Markup()

  /// - Parameter id: unique in the page; `title` and `description` are its text alternative.
  func svg(id: String, title: String, description: String, style: String) -> Markup {
    """
    <svg class="\(style)" viewBox="0 0 \(width) \(height)" role="img" \
    aria-labelledby="\(id)-title \(id)-desc" preserveAspectRatio="xMinYMin meet">
    <title id="\(id)-title">\(title)</title>
    <desc id="\(id)-desc">\(description)</desc>
    \(body)</svg>
    """
  }

  enum Anchor: String { case start, middle, end }

  mutating func text(
    _ text: String, x: Double, y: Double, anchor: Anchor = .start, style: String = ""
  ) {
    body += """
      <text x="\(x)" y="\(y)" text-anchor="\(anchor.rawValue)" class="\(style)">\(text)</text>

      """
  }

  mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, style: String) {
    body += """
      <line x1="\(x1)" y1="\(y1)" x2="\(x2)" y2="\(y2)" class="\(style)"/>

      """
  }

  /// The title of an axis under it: from where the axis starts, or to the right edge where it is
  /// too long for that.
  mutating func axisTitle(_ title: String, x: Double, y: Double) {
    let size = 11.0
    let fits = x + TextMeasure.width(title, size: size) <= width
    text(
      TextMeasure.fit(title, width: width, size: size), x: fits ? x : width, y: y,
      anchor: fits ? .start : .end, style: "quiet")
  }

  /// A mark whose shape says as much as its colour.
  mutating func mark(_ mark: Mark, x: Double, y: Double, tip: String) {
    let style = "mark \(mark.colour)\(mark.isOpen ? " open" : "")"
    let shape: Markup
    switch mark.shape {
    case .circle: shape = "<circle cx=\"\(x)\" cy=\"\(y)\" r=\"4.4\""
    case .square:
      shape = "<rect x=\"\(x - 4.2)\" y=\"\(y - 4.2)\" width=\"8.4\" height=\"8.4\""
    case .triangle:
      shape = "<path d=\"M\(x) \(y - 5.4)L\(x + 5) \(y + 3.8)L\(x - 5) \(y + 3.8)Z\""
    case .diamond:
      shape =
        "<path d=\"M\(x) \(y - 5.4)L\(x + 5.4) \(y)L\(x) \(y + 5.4)L\(x - 5.4) \(y)Z\""
    }
    body += "\(shape) class=\"\(style)\"><title>\(tip)</title></\(mark.shape.element)>\n"
  }
}

/// The look of a point: a colour class of the style sheet and a shape.
struct Mark: Equatable {
  enum Shape {
    case circle, square, triangle, diamond

    var element: Markup {
      switch self {
      case .circle: "circle"
      case .square: "rect"
      case .triangle, .diamond: "path"
      }
    }
  }

  var colour: String
  var shape: Shape
  var isOpen = false

  init(colour: String, shape: Shape, isOpen: Bool = false) {
    self.colour = colour
    self.shape = shape
    self.isOpen = isOpen
  }

  init(_ family: ArmInfo.Family) {
    switch family {
    case .baseline: self.init(colour: "grey", shape: .diamond)
    case .prompt: self.init(colour: "blue", shape: .circle)
    case .task: self.init(colour: "purple", shape: .triangle)
    case .oppu: self.init(colour: "red", shape: .square)
    }
  }

  /// The looks of lines and policies, told apart without colour by shape and dashes.
  static func series(_ index: Int) -> Mark {
    let colours = ["red", "blue", "green", "purple", "grey"]
    let shapes: [Shape] = [.square, .circle, .triangle, .diamond]
    return Mark(
      colour: colours[index % colours.count], shape: shapes[index % shapes.count],
      isOpen: index >= colours.count)
  }

  /// The dashes of the line of a series.
  static func dashes(_ index: Int) -> String {
    ["none", "7 3", "2 2.5", "9 3 2 3", "4 2"][index % 5]
  }
}

/// Moves labels apart so that none covers another.
enum LabelSpacing {
  /// - Returns: positions in the order given, at least `gap` apart, within `range` where they fit.
  static func spread(_ wanted: [Double], gap: Double, within range: ClosedRange<Double>) -> [Double]
  {
    let order = wanted.indices.sorted { wanted[$0] < wanted[$1] }
    var placed: [Double] = []
    for index in order {
      placed.append(max(wanted[index], (placed.last ?? -.infinity) + gap, range.lowerBound))
    }
    // What ran over the end is pushed back up.
    var limit = range.upperBound
    for index in placed.indices.reversed() {
      placed[index] = min(placed[index], limit)
      limit = placed[index] - gap
    }
    var result = wanted
    for (rank, index) in order.enumerated() { result[index] = placed[rank] }
    return result
  }
}
