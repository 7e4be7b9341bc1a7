// ADWIN: a window that shrinks when its older and its newer part have different means.

import Foundation
import ShiftDetection

/// Adaptive windowing, ADWIN2 (Bifet and Gavaldà, 2007), with the parameters of River's detector of that
/// name, and its alarms: after an alarm the next value starts it anew.
///
/// The window is an exponential histogram: rows of up to `maximumBuckets` buckets, those of row i with
/// 2^i values each.
public struct ADWIN: CompactState {
  public let delta: Double
  /// Looks for a change at every so many values.
  public let clock: Int
  public let maximumBuckets: Int
  public let minimumWindowLength: Int
  public let gracePeriod: Int

  private struct Bucket: Sendable, Hashable {
    var total: Double
    /// Sum of squared distances from the bucket's mean.
    var variance: Double
  }

  /// Row i, oldest bucket first.
  private var rows: [[Bucket]] = [[]]
  private var tick = 0
  /// Values in the window.
  public private(set) var width = 0
  private var total = 0.0
  private var variance = 0.0
  public private(set) var isDriftDetected = false

  public init(
    delta: Double = 0.002, clock: Int = 32, maximumBuckets: Int = 5, minimumWindowLength: Int = 5,
    gracePeriod: Int = 10
  ) {
    self.delta = delta
    self.clock = max(1, clock)
    self.maximumBuckets = max(1, maximumBuckets)
    self.minimumWindowLength = max(1, minimumWindowLength)
    self.gracePeriod = gracePeriod
  }

  /// Takes one value; true where it raises the alarm. Values that are not finite are passed over.
  @discardableResult
  public mutating func update(_ value: Double) -> Bool {
    guard value.isFinite else { return false }
    if isDriftDetected {
      self = ADWIN(
        delta: delta, clock: clock, maximumBuckets: maximumBuckets,
        minimumWindowLength: minimumWindowLength, gracePeriod: gracePeriod)
    }
    insert(value)
    compress()
    tick += 1
    if tick % clock == 0, width > gracePeriod {
      while cut() != nil {
        removeOldest()
        isDriftDetected = true
      }
    }
    return isDriftDetected
  }

  private mutating func insert(_ value: Double) {
    rows[0].append(Bucket(total: value, variance: 0))
    width += 1
    if width > 1 {
      let before = Double(width - 1)
      let distance = value - total / before
      variance += before * distance * distance / Double(width)
    }
    total += value
  }

  private mutating func compress() {
    var row = 0
    while row < rows.count, rows[row].count > maximumBuckets {
      if row + 1 == rows.count { rows.append([]) }
      let size = Double(1 << row)
      let first = rows[row][0]
      let second = rows[row][1]
      let distance = first.total / size - second.total / size
      rows[row + 1].append(
        Bucket(
          total: first.total + second.total,
          variance: first.variance + second.variance + size * size * distance * distance
            / (size + size)))
      rows[row].removeFirst(2)
      row += 1
    }
  }

  /// The size of the oldest part whose mean differs from the rest by more than chance allows.
  private func cut() -> Int? {
    var older = 0.0
    var newer = Double(width)
    var olderTotal = 0.0
    var newerTotal = total
    let minimum = Double(minimumWindowLength)
    let logarithm = log(2 * log(Double(width)) / delta)
    let spread = variance / Double(width)
    for row in rows.indices.reversed() {
      let size = Double(1 << row)
      for bucket in rows[row] {
        older += size
        newer -= size
        olderTotal += bucket.total
        newerTotal -= bucket.total
        guard newer > 0 else { return nil }
        guard newer >= minimum, older >= minimum else { continue }
        let harmonic = 1 / (older - minimum + 1) + 1 / (newer - minimum + 1)
        let bias = 2 / 3 * logarithm * harmonic
        let excess = abs(olderTotal / older - newerTotal / newer) - bias
        let bound = 2 * harmonic * spread * logarithm
        // Far below the bound no root is needed to tell.
        guard excess > 0, excess * excess > 0.999 * bound else { continue }
        if abs(olderTotal / older - newerTotal / newer) > bound.squareRoot() + bias {
          return Int(older)
        }
      }
    }
    return nil
  }

  private mutating func removeOldest() {
    let row = rows.count - 1
    guard let bucket = rows[row].first else { return }
    let size = Double(1 << row)
    rows[row].removeFirst()
    if rows[row].isEmpty, row > 0 { rows.removeLast() }
    width -= 1 << row
    total -= bucket.total
    let left = Double(width)
    let distance = bucket.total / size - total / left
    variance -= bucket.variance + size * left * distance * distance / (size + left)
  }

  public func write(to writer: inout StateWriter) {
    writer.double(delta)
    for number in [clock, maximumBuckets, minimumWindowLength, max(0, gracePeriod), tick, width] {
      writer.unsigned(number)
    }
    writer.double(total)
    writer.double(variance)
    writer.byte(isDriftDetected ? 1 : 0)
    writer.unsigned(rows.count)
    for row in rows {
      writer.unsigned(row.count)
      for bucket in row {
        writer.double(bucket.total)
        writer.double(bucket.variance)
      }
    }
  }

  public init(reading reader: inout StateReader) throws {
    delta = try reader.double()
    clock = max(1, try reader.unsigned())
    maximumBuckets = max(1, try reader.unsigned())
    minimumWindowLength = max(1, try reader.unsigned())
    gracePeriod = try reader.unsigned()
    tick = try reader.unsigned()
    width = try reader.unsigned()
    total = try reader.double()
    variance = try reader.double()
    isDriftDetected = try reader.byte() != 0
    rows = []
    for _ in 0..<(try reader.unsigned(upTo: 60)) {
      var row: [Bucket] = []
      for _ in 0..<(try reader.unsigned(upTo: maximumBuckets + 1)) {
        row.append(Bucket(total: try reader.double(), variance: try reader.double()))
      }
      rows.append(row)
    }
    let held = rows.enumerated().reduce(0) { $0 + ($1.element.count << $1.offset) }
    guard !rows.isEmpty, held == width else {
      throw StateError("ADWIN's buckets do not hold its \(width) values")
    }
  }
}
