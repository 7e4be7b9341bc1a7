// The first inputs of a user and what was made of them: how new a text is, and how outputs go with inputs.

import Foundation

/// Up to 32 events, each as eight words of eight bits and a number for its output.
///
/// From them come two numbers for every event. *Novelty*: how seldom the words of its input come in the
/// others, as the mean of −ln of their shares. *Fit*: how much its output goes against those that came
/// with its words; it shows a change that the outputs alone do not: the same ratings, given to other
/// films. While there are at most 32 events each one is compared with all others, so that without a
/// change no order of the numbers is likelier than another; later events are compared with these 32.
struct ReferenceInputs: Sendable, Hashable {
  static let capacity = NumberDetector.reference
  static let words = 8

  struct Event: Sendable, Hashable {
    /// Hashes of words, 1 … 255, each in a byte; 0 where there are fewer.
    var words: UInt64
    /// Label number or rating; nil where the output is neither.
    var output: Output?
  }

  enum Output: Sendable, Hashable {
    case label(UInt8)
    case rating(CompactNumber)
  }

  private(set) var events: [Event] = []
  var isFull: Bool { events.count == Self.capacity }

  mutating func append(_ event: Event) {
    if !isFull { events.append(event) }
  }

  /// Novelty and fit of each event among the others, in order of time; outputs that are neither labels
  /// nor ratings have no fit.
  func measures() -> (novelty: [Double], fit: [Double]) {
    let counts = WordCounts(events)
    var novelty: [Double] = []
    var fit: [Double] = []
    for event in events {
      novelty.append(counts.novelty(event))
      if let against = counts.fit(event) { fit.append(against) }
    }
    return (novelty, fit)
  }

  /// Those of a later event, which takes the place of one of them: so it is one of 32, too.
  func measure(_ event: Event, insteadOf place: Int) -> (novelty: Double, fit: Double?) {
    var all = events
    all[place % max(1, all.count)] = event
    let counts = WordCounts(all)
    return (counts.novelty(event), counts.fit(event))
  }

  /// What came with each word.
  private struct WordCounts {
    private static let width = LabelDetector.maximumLabels + 1
    private let events: Double
    private let logarithms: [Double]
    /// Events with a word.
    private var holders = [Int](repeating: 0, count: 256)
    private var ratings = 0.0
    private var ratingCount = 0.0
    private var ratingSums = [Double](repeating: 0, count: 256)
    private var ratingHolders = [Double](repeating: 0, count: 256)
    private var labelCount = 0.0
    private var labels = [Double](repeating: 0, count: width)
    /// [word × label]; empty where there are none.
    private var labelSums: [Double] = []

    init(_ all: [Event]) {
      events = Double(all.count)
      logarithms = Self.logarithms
      if all.contains(where: { if case .label = $0.output { true } else { false } }) {
        labelSums = Array(repeating: 0, count: 256 * Self.width)
      }
      for event in all { add(event) }
    }

    /// ln (count + ½).
    private static let logarithms = (0...ReferenceInputs.capacity).map { log(Double($0) + 0.5) }

    private mutating func add(_ event: Event) {
      switch event.output {
      case .rating(let number):
        ratings += number.value
        ratingCount += 1
      case .label(let label):
        labels[Int(label) & 15] += 1
        labelCount += 1
      case nil: break
      }
      event.forEachWord { word in
        holders[word] += 1
        switch event.output {
        case .rating(let number):
          ratingSums[word] += number.value
          ratingHolders[word] += 1
        case .label(let label): labelSums[word * Self.width + Int(label) & 15] += 1
        case nil: break
        }
      }
    }

    /// Of one of the events.
    func novelty(_ event: Event) -> Double {
      var sum = 0.0
      var words = 0.0
      event.forEachWord { word in
        sum -= logarithms[max(0, holders[word] - 1)]
        words += 1
      }
      return words > 0 ? sum / words + log(events) : 0
    }

    /// The product of how far an output is from the mean and how far those with its words are, negated;
    /// of a label, how much less often it came with the words than at all.
    func fit(_ event: Event) -> Double? {
      var expected = 0.0
      var words = 0.0
      switch event.output {
      case .rating(let number):
        guard ratingCount > 1 else { return 0 }
        let mean = ratings / ratingCount
        let distance = number.value - mean
        event.forEachWord { word in
          let count = ratingHolders[word] - 1
          let sum = ratingSums[word] - number.value
          // As if one more event with the word had the mean.
          expected += (sum - count * mean) / (count + 1)
          words += 1
        }
        return words > 0 ? -distance * expected / words : 0
      case .label(let label):
        guard labelCount > 1 else { return 0 }
        let cell = Int(label) & 15
        let share = (labels[cell] - 1) / (labelCount - 1)
        event.forEachWord { word in
          var count = -1.0
          for other in 0..<Self.width { count += labelSums[word * Self.width + other] }
          let same = labelSums[word * Self.width + cell] - 1
          expected += (same - count * share) / (count + 1)
          words += 1
        }
        return words > 0 ? -expected / words : 0
      case nil:
        return nil
      }
    }
  }

  func write(to writer: inout StateWriter) {
    writer.unsigned(events.count)
    for event in events {
      writer.fixed(event.words)
      switch event.output {
      case .label(let label): writer.byte(label)
      case .rating(let number):
        writer.byte(Self.isRating)
        writer.fixed(number.bits)
      case nil: writer.byte(Self.isNothing)
      }
    }
  }

  private static let isRating: UInt8 = 254
  private static let isNothing: UInt8 = 255

  init() {}

  init(reading reader: inout StateReader) throws {
    for _ in 0..<(try reader.unsigned(upTo: Self.capacity)) {
      let words = try reader.fixed(UInt64.self)
      let output: Output? =
        switch try reader.byte() {
        case Self.isRating: .rating(CompactNumber(bits: try reader.fixed(UInt16.self)))
        case Self.isNothing: nil
        case let label: .label(label)
        }
      events.append(Event(words: words, output: output))
    }
  }
}

extension ReferenceInputs.Event {
  @inline(__always)
  func forEachWord(_ body: (Int) -> Void) {
    var left = words
    while left != 0 {
      body(Int(left & 255))
      left >>= 8
    }
  }
}
