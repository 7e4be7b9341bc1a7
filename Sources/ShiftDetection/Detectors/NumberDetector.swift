// Whether the numbers of a stream have become larger or smaller.

import Foundation
import RandomNumbers

/// Sequential detection of a change in the location of numbers, for short streams of any distribution.
///
/// Numbers count by their ranks. The first 32 are kept, and at each of them all are ranked anew and given
/// normal scores: without a change all orders are equally likely, whatever the distribution (equal
/// numbers are put into a random order), so one table of thresholds serves all kinds of streams. From
/// then on the 32 are reduced to fifteen cuts, which sort later numbers into sixteen classes, and the
/// scores are summed in a ``SplitHistogram``.
///
/// For every place in the past with at least four values on both sides, z is the difference of the mean
/// scores in standard deviations; the statistic is that of Shiryaev and Roberts, the sum of exp(z² / 2)
/// over all places.
public struct NumberDetector: CompactState {
  /// Which change is looked for.
  public enum Direction: UInt8, Sendable, Hashable {
    case either = 0
    /// Only an increase counts.
    case up
  }

  /// Numbers that are kept and ranked.
  public static let reference = 32
  static let minimumSegment = 4
  private static let classes = 16

  public let direction: Direction
  /// Seeds the order of equal numbers.
  private let seed: UInt32
  /// The first numbers, while there are no cuts; else the cuts, ascending.
  private var kept: [CompactNumber] = []
  private var hasCuts = false
  /// Every number so far equals the first one.
  private var isConstant = true
  private var arrived = 0
  private var histogram = SplitHistogram(stride: 1)
  private var squares = 0

  /// - Parameter seed: of the order in which equal numbers count.
  public init(direction: Direction = .either, seed: UInt32 = 1) {
    self.direction = direction
    self.seed = seed
  }

  /// Values held.
  public var count: Int { hasCuts ? histogram.count : kept.count }

  /// Takes one number; nil where there are too few, or all were equal. Numbers that are not finite are
  /// passed over.
  public mutating func update(_ value: Double) -> Evidence? {
    guard value.isFinite else { return nil }
    append(value)
    return evidence
  }

  mutating func append(_ value: Double) {
    let number = CompactNumber(value)
    if let first = kept.first, number != first { isConstant = false }
    guard hasCuts || kept.count == Self.reference else {
      kept.append(number)
      return
    }
    if !hasCuts { cut() }
    add(number)
  }

  /// While the first numbers are kept: these instead. For numbers that each depend on all the others,
  /// such as the distance of a text from the rest.
  mutating func replaceReference(_ values: [Double]) {
    guard !hasCuts else { return }
    kept = values.prefix(Self.reference).map(CompactNumber.init)
    isConstant = kept.allSatisfy { $0 == kept.first }
  }

  // MARK: Scores

  /// A random number that belongs to the n-th value.
  private func dither(_ n: Int) -> UInt64 {
    var generator = SplitMix64(seed: UInt64(seed) << 32 | UInt64(n))
    return generator.next()
  }

  private mutating func cut() {
    let first = kept
    let sorted = first.sorted()
    // Between neighbours, so that the classes are equally probable.
    let step = Self.reference / Self.classes
    kept = (1..<Self.classes).map { sorted[$0 * step] }
    hasCuts = true
    for number in first { add(number) }
  }

  private mutating func add(_ number: CompactNumber) {
    var low = 0
    while low < kept.count, kept[low] < number { low += 1 }
    var high = low
    while high < kept.count, kept[high] == number { high += 1 }
    var place = low
    if high > low {
      // Equal to cuts: any of the classes that they border.
      place += Int(((dither(arrived) >> 32) &* UInt64(high - low + 1)) >> 32)
    }
    let score = Self.classScores[place]
    histogram.append(score, at: 0)
    squares += Int(score) * Int(score)
    arrived = SplitHistogram.next(arrived)
  }

  private static let classScores = NormalScores.scores(count: classes)
  private static let rankScores = (0...reference).map { NormalScores.scores(count: $0) }

  // MARK: Evidence

  /// What the values held say.
  public var evidence: Evidence? {
    guard !isConstant, count >= 2 * Self.minimumSegment else { return nil }
    return hasCuts ? fromHistogram() : fromRanks()
  }

  private func fromRanks() -> Evidence? {
    let n = kept.count
    return withUnsafeTemporaryAllocation(of: UInt64.self, capacity: n) { keys in
      withUnsafeTemporaryAllocation(of: Int32.self, capacity: n) { scores in
        rank(into: scores, keys: keys)
        var (total, squares) = (0.0, 0.0)
        for score in scores {
          total += Double(score)
          squares += Double(score) * Double(score)
        }
        var scan = Scan(n: n, total: total, squares: squares, direction: direction)
        var after = 0.0
        for m in 1...(n - Self.minimumSegment) {
          after += Double(scores[n - m])
          scan.add(weight: 1, m: m, sum: after)
        }
        return scan.evidence
      }
    }
  }

  /// Normal scores of the kept numbers in order of time; equal numbers rank in random order.
  private func rank(
    into scores: UnsafeMutableBufferPointer<Int32>, keys: UnsafeMutableBufferPointer<UInt64>
  ) {
    let n = kept.count
    let table = Self.rankScores[n]
    for (place, number) in kept.enumerated() {
      let key = UInt64(number.order) << 48 | (dither(place) >> 24) << 8 | UInt64(place)
      var slot = place
      while slot > 0, keys[slot - 1] > key {
        keys[slot] = keys[slot - 1]
        slot -= 1
      }
      keys[slot] = key
    }
    for rank in 0..<n { scores[Int(keys[rank] & 255)] = table[rank] }
  }

  private func fromHistogram() -> Evidence? {
    let n = histogram.count
    let mean = Double(squares) / Double(n)
    var scan = Scan(
      n: n, total: Double(histogram.totals[0]), squares: mean * Double(n), direction: direction)
    histogram.sizes.withUnsafeBufferPointer { sizes in
      histogram.sums.withUnsafeBufferPointer { sums in
        var after: Int32 = 0
        var m = 0
        for stretch in stride(from: histogram.stretches - 1, to: 0, by: -1) {
          m += Int(sizes[stretch])
          after &+= sums[stretch]
          if n - m < Self.minimumSegment { break }
          scan.add(weight: Double(sizes[stretch]), m: m, sum: Double(after))
        }
      }
    }
    return scan.evidence
  }

  /// The sum over places.
  private struct Scan {
    private let n: Double
    private let mean: Double
    private let scale: Double
    private let isUp: Bool
    private var sum = 0.0
    private var best = (value: -1.0, after: NumberDetector.minimumSegment)

    init(n: Int, total: Double, squares: Double, direction: Direction) {
      self.n = Double(n)
      mean = total / self.n
      // Variance under random order, n − 1 in the denominator.
      let variance = (squares - total * mean) / (self.n - 1)
      scale = variance > 0 ? self.n / variance : 0
      isUp = direction == .up
    }

    @inline(__always)
    mutating func add(weight: Double, m: Int, sum after: Double) {
      guard m >= NumberDetector.minimumSegment else { return }
      let newer = Double(m)
      let excess = after - newer * mean
      let squared = excess * excess * scale / (newer * (n - newer))
      if isUp, excess < 0 {
        sum += weight
        return
      }
      if squared > best.value { best = (squared, m) }
      // Below one standard deviation evidence counts as none.
      sum += weight * (squared > 1 ? exp(min(squared / 2, 300)) : 1)
    }

    var evidence: Evidence? {
      guard sum > 0, scale > 0 else { return nil }
      return Evidence(
        statistic: log(sum), after: best.after, count: Int(n),
        level: ThresholdTable.numbers(count: Int(n), isOneSided: isUp))
    }
  }

  // MARK: For people

  /// Values after the change, between the borders of stretches.
  func refined(after m: Int) -> Int { hasCuts ? histogram.parts(after: m).after : m }

  /// A typical number before and after a place.
  func summary(after m: Int) -> (before: Double, after: Double)? {
    guard m > 0, m < count else { return nil }
    if !hasCuts {
      func mean(_ part: ArraySlice<CompactNumber>) -> Double {
        part.reduce(0) { $0 + $1.value } / Double(part.count)
      }
      return (mean(kept.dropLast(m)), mean(kept.suffix(m)))
    }
    let parts = histogram.parts(after: m)
    return (typical(parts.older[0]), typical(parts.newer[0]))
  }

  /// The number whose class has a score: the median of a stream with that mean score.
  private func typical(_ score: Double) -> Double {
    let scores = Self.classScores.map(Double.init)
    // Between classes i and i + 1 lies cut i.
    var middle: [Double] = []
    for index in kept.indices { middle.append((scores[index] + scores[index + 1]) / 2) }
    guard let above = middle.firstIndex(where: { $0 >= score }) else { return kept[14].value }
    guard above > 0 else { return kept[0].value }
    let part = (score - middle[above - 1]) / (middle[above] - middle[above - 1])
    return kept[above - 1].value + part * (kept[above].value - kept[above - 1].value)
  }

  // MARK: State

  public func write(to writer: inout StateWriter) { write(to: &writer, withReference: true) }

  /// - Parameter withReference: false where the numbers kept can be had again, for `replaceReference`.
  func write(to writer: inout StateWriter, withReference: Bool) {
    writer.byte((hasCuts ? 1 : 0) | (isConstant ? 2 : 0) | direction.rawValue << 2)
    writer.fixed(seed)
    if hasCuts || withReference {
      writer.unsigned(kept.count)
      for number in kept { writer.fixed(number.bits) }
    } else {
      writer.unsigned(0)
    }
    guard hasCuts else { return }
    writer.unsigned(arrived)
    writer.unsigned(squares)
    for sum in histogram.sums.prefix(histogram.stretches) { writer.signed(Int(sum)) }
  }

  public init(reading reader: inout StateReader) throws {
    let flags = try reader.byte()
    guard let direction = Direction(rawValue: flags >> 2) else {
      throw StateError("an unknown direction")
    }
    self.direction = direction
    hasCuts = flags & 1 != 0
    isConstant = flags & 2 != 0
    seed = try reader.fixed(UInt32.self)
    for _ in 0..<(try reader.unsigned(upTo: Self.reference)) {
      kept.append(CompactNumber(bits: try reader.fixed(UInt16.self)))
    }
    guard hasCuts else { return }
    guard kept.count == Self.classes - 1 else { throw StateError("\(kept.count) cuts") }
    arrived = try reader.unsigned(upTo: 5 * SplitHistogram.largestStretch)
    squares = try reader.unsigned()
    histogram = try SplitHistogram(stride: 1, arrived: arrived) { size in
      let sum = try reader.signed()
      guard abs(sum) <= 64 * size else { throw StateError("a sum of \(sum) of \(size) scores") }
      return [Int32(sum)]
    }
  }
}
