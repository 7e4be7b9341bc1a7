// KSWIN: the newest values against a random sample of those before them, by Kolmogorov and Smirnov.

import Foundation
import RandomNumbers
import ShiftDetection

/// Kolmogorov-Smirnov windowing (Raab, Heusinger and Schleif, 2020), with the parameters of River's
/// detector of that name. It draws at random from another generator, so it raises alarms as often, not
/// at the same values.
public struct KSWIN: CompactState {
  public let alpha: Double
  public let windowSize: Int
  public let sampleSize: Int
  public let seed: UInt64
  private var window: [Double] = []
  private var generator: SplitMix64
  public private(set) var isDriftDetected = false
  public private(set) var pValue = 0.0
  /// The p-value of every difference in counts.
  private let pValues: [Double]
  /// Places in the window in ascending order of their values; follows from `window`.
  private var order: [Int32] = []
  /// What a place is: +1 newest, −1 drawn, 0 neither.
  private var marks: [Int8] = []

  /// Sizes that cannot work are brought to the nearest that can.
  public init(alpha: Double = 0.005, windowSize: Int = 100, sampleSize: Int = 30, seed: UInt64 = 1)
  {
    self.alpha = min(max(alpha, 0), 1)
    self.sampleSize = min(max(sampleSize, 1), 1_000)
    self.windowSize = min(max(windowSize, 2 * self.sampleSize), 10_000)
    self.seed = seed
    generator = SplitMix64(seed: seed)
    pValues = (0...self.sampleSize).map { [size = self.sampleSize] in
      Self.pValue(difference: $0, size: size)
    }
  }

  /// Takes one value; true where it raises the alarm. Values that are not finite are passed over.
  @discardableResult
  public mutating func update(_ value: Double) -> Bool {
    guard value.isFinite else { return false }
    if isDriftDetected {
      window = []
      order = []
      generator = SplitMix64(seed: seed)
      isDriftDetected = false
    }
    append(value)
    guard window.count == windowSize else { return false }
    let difference = largestDifference()
    pValue = pValues[difference]
    isDriftDetected = pValue <= alpha && 10 * difference > sampleSize
    return isDriftDetected
  }

  private mutating func append(_ value: Double) {
    if window.count == windowSize {
      window.removeFirst()
      order.removeAll { $0 == 0 }
      for index in order.indices { order[index] -= 1 }
    }
    var low = 0
    var high = order.count
    while low < high {
      let middle = (low + high) / 2
      if window[Int(order[middle])] <= value { low = middle + 1 } else { high = middle }
    }
    order.insert(Int32(window.count), at: low)
    window.append(value)
  }

  /// n · D of the newest n values against n of the others, drawn without replacement.
  private mutating func largestDifference() -> Int {
    let older = windowSize - sampleSize
    if marks.count != windowSize { marks = Array(repeating: 0, count: windowSize) }
    for index in 0..<older { marks[index] = 0 }
    for index in older..<windowSize { marks[index] = 1 }
    // Floyd's sampling.
    for last in (older - sampleSize)..<older {
      let drawn = generator.index(below: last + 1)
      marks[marks[drawn] == 0 ? drawn : last] = -1
    }
    var sum = 0
    var largest = 0
    var previous = -Double.infinity
    for place in order {
      let value = window[Int(place)]
      if value != previous {
        largest = max(largest, abs(sum))
        previous = value
      }
      sum += Int(marks[Int(place)])
    }
    return largest
  }

  /// P(n D ≥ h) of two samples of n values each: 2 Σ (−1)^(j − 1) C(2n, n − jh) / C(2n, n).
  static func pValue(difference: Int, size: Int) -> Double {
    guard difference > 0 else { return 1 }
    let n = Double(size)
    func choose(_ k: Double) -> Double { lgamma(2 * n + 1) - lgamma(k + 1) - lgamma(2 * n - k + 1) }
    var sum = 0.0
    var sign = 1.0
    for reach in stride(from: difference, through: size, by: difference) {
      sum += sign * exp(choose(n - Double(reach)) - choose(n))
      sign = -sign
    }
    return min(1, 2 * sum)
  }

  public func write(to writer: inout StateWriter) {
    writer.double(alpha)
    writer.unsigned(windowSize)
    writer.unsigned(sampleSize)
    writer.fixed(seed)
    writer.fixed(generator.state)
    writer.byte(isDriftDetected ? 1 : 0)
    writer.double(pValue)
    writer.unsigned(window.count)
    for value in window { writer.double(value) }
  }

  public init(reading reader: inout StateReader) throws {
    self.init(
      alpha: try reader.double(), windowSize: try reader.unsigned(upTo: 10_000),
      sampleSize: try reader.unsigned(upTo: 1_000), seed: try reader.fixed(UInt64.self))
    generator = SplitMix64(seed: try reader.fixed(UInt64.self))
    isDriftDetected = try reader.byte() != 0
    pValue = try reader.double()
    for _ in 0..<(try reader.unsigned(upTo: windowSize)) { append(try reader.double()) }
  }

  public static func == (left: KSWIN, right: KSWIN) -> Bool { left.bytes == right.bytes }
  public func hash(into hasher: inout Hasher) { hasher.combine(bytes) }
}
