// Sequences laid one after the other in one matrix of rows, without padding, and with the tokens
// that they all begin with computed once.

/// Rows of a pass. Rows `0 ..< prefixCount` hold the common prefix; each segment's rows attend to
/// the prefix and, causally, to their own segment. This is exact: a row sees the same tokens at the
/// same positions as in its sequence alone.
struct PackedBatch: Sendable {
  struct Segment: Sendable {
    var start: Int
    var count: Int
    /// Rows before the segment's own that it attends to: the prefix, or none for the prefix itself.
    var prefix: Int
  }

  struct Loss: Sendable {
    var row: Int
    var target: Int32
    /// Index into the examples that were packed.
    var example: Int
  }

  private(set) var tokens: [Int32] = []
  private(set) var positions: [Int] = []
  private(set) var segments: [Segment] = []
  private(set) var losses: [Loss] = []
  private(set) var prefixCount = 0

  var rows: Int { tokens.count }

  /// Packs `examples` in their order, `virtualTokens` before each, virtual token i as the token
  /// -1 - i. A sequence's last token predicts nothing and gets no row.
  init(_ examples: [TrainingExample], sharePrefix: Bool, virtualTokens: Int = 0) {
    let virtual = (0..<virtualTokens).map { -1 - Int32($0) }
    let shared = sharePrefix ? virtualTokens + Self.commonPrefix(examples) : 0
    prefixCount = shared
    if shared > 0, let first = examples.first {
      append((virtual + first.prompt)[..<shared], prefix: 0, position: 0)
    }
    for (index, example) in examples.enumerated() {
      guard example.tokenCount > 1 else { continue }
      let sequence = virtual + example.prompt + example.completion
      let start = rows
      append(sequence[shared..<(sequence.count - 1)], prefix: shared, position: shared)
      for place in virtualTokens + max(example.prompt.count, 1)..<sequence.count {
        losses.append(
          Loss(row: start + place - 1 - shared, target: sequence[place], example: index))
      }
    }
  }

  private mutating func append(_ new: ArraySlice<Int32>, prefix: Int, position: Int) {
    segments.append(Segment(start: rows, count: new.count, prefix: prefix))
    tokens.append(contentsOf: new)
    positions.append(contentsOf: position..<(position + new.count))
  }

  /// How many tokens all prompts begin with, leaving each prompt at least its last token, whose row
  /// has a loss. Sharing needs two examples.
  static func commonPrefix(_ examples: [TrainingExample]) -> Int {
    guard let first = examples.first, examples.count > 1 else { return 0 }
    var length = first.prompt.count - 1
    for example in examples.dropFirst() {
      length = min(length, example.prompt.count - 1)
      var common = 0
      while common < length, example.prompt[common] == first.prompt[common] { common += 1 }
      length = common
    }
    return max(0, length)
  }

  /// Splits examples, in order, into packs of at most `rowLimit` rows (a single longer example is a
  /// pack of its own). Also gives the index of each pack's first example.
  static func split(
    _ examples: [TrainingExample], rowLimit: Int, sharePrefix: Bool, virtualTokens: Int = 0
  ) -> [(first: Int, batch: PackedBatch)] {
    let shared = sharePrefix ? virtualTokens + commonPrefix(examples) : 0
    func pack(_ range: Range<Int>) -> (first: Int, batch: PackedBatch) {
      (
        range.lowerBound,
        PackedBatch(
          Array(examples[range]), sharePrefix: sharePrefix, virtualTokens: virtualTokens)
      )
    }
    var packs: [(first: Int, batch: PackedBatch)] = []
    var start = 0
    var rows = shared
    for (index, example) in examples.enumerated() {
      let own = max(0, virtualTokens + example.tokenCount - 1 - shared)
      if index > start, rows + own > rowLimit {
        packs.append(pack(start..<index))
        start = index
        rows = shared
      }
      rows += own
    }
    if start < examples.count { packs.append(pack(start..<examples.count)) }
    return packs
  }
}
