// The places in a stream's past at which it may have changed, fewer the longer ago.

import Foundation

/// Vectors summed over stretches of a stream: an exponential histogram.
///
/// At most two stretches of each size 1, 2, 4, … 512; where a third comes, the two oldest of that size
/// become one of the next, and where a third of 512 comes, the oldest is forgotten. So the last 1,534 to
/// 2,046 values are held in at most twenty stretches, and every place in the past is near a border: half
/// its own distance at most.
struct SplitHistogram: Sendable, Hashable {
  static let largestStretch = 512
  static let perSize = 2
  /// Most values that are held.
  static let largest = 2 * perSize * largestStretch - perSize

  /// Stretches, and one more until the oldest two are merged.
  private static let capacity = 22

  /// Numbers of a vector.
  let stride: Int
  /// Values held.
  private(set) var count = 0
  /// Stretches held.
  private(set) var stretches = 0
  /// Values in each stretch, oldest first; zero beyond `stretches`.
  private(set) var sizes: [Int32]
  /// [stretch × stride], the same.
  private(set) var sums: [Int32]
  /// [stride]
  private(set) var totals: [Int32]

  init(stride: Int) {
    self.stride = stride
    sizes = Array(repeating: 0, count: Self.capacity)
    sums = Array(repeating: 0, count: Self.capacity * stride)
    totals = Array(repeating: 0, count: stride)
  }

  /// Appends a vector that is `value` at `place` and 0 elsewhere.
  mutating func append(_ value: Int32, at place: Int) {
    sizes[stretches] = 1
    sums[stretches * stride + place] = value
    totals[place] += value
    stretches += 1
    count += 1
    var size: Int32 = 1
    var end = stretches
    while true {
      var start = end
      while start > 0, sizes[start - 1] == size { start -= 1 }
      guard end - start > Self.perSize else { return }
      if size == Self.largestStretch {
        count -= Int(size)
        for column in 0..<stride { totals[column] -= sums[column] }
        remove(at: 0)
        return
      }
      sizes[start + 1] += size
      let from = start * stride
      sums.withUnsafeMutableBufferPointer { sums in
        for column in from..<(from + stride) { sums[column + stride] &+= sums[column] }
      }
      remove(at: start)
      size *= 2
      end = start + 1
    }
  }

  private mutating func remove(at index: Int) {
    stretches -= 1
    sizes.withUnsafeMutableBufferPointer { sizes in
      for place in index..<stretches { sizes[place] = sizes[place + 1] }
      sizes[stretches] = 0
    }
    sums.withUnsafeMutableBufferPointer { sums in
      for place in (index * stride)..<(stretches * stride) { sums[place] = sums[place + stride] }
      for place in (stretches * stride)..<((stretches + 1) * stride) { sums[place] = 0 }
    }
  }

  /// Means before and after a border, and where between the borders around it the change was.
  ///
  /// The two stretches at the border may hold values of both sides. Where there are others on both sides,
  /// those give the means, and how much of either mean is in the two gives the place.
  func parts(after border: Int) -> (older: [Double], newer: [Double], after: Int) {
    var first = stretches
    var m = 0
    while first > 1, m < border {
      first -= 1
      m += Int(sizes[first])
    }
    func mean(_ range: Range<Int>) -> [Double] {
      let values = max(1, sizes[range].reduce(0, +))
      return (0..<stride).map { column in
        Double(range.reduce(0) { $0 + sums[$1 * stride + column] }) / Double(values)
      }
    }
    guard first > 1, first < stretches - 1 else {
      return (mean(0..<first), mean(first..<stretches), m)
    }
    let older = mean(0..<(first - 1))
    let newer = mean((first + 1)..<stretches)
    let between = mean((first - 1)..<(first + 1))
    let difference = zip(newer, older).map { $0 - $1 }
    let length = difference.reduce(0) { $0 + $1 * $1 }
    guard length > 0 else { return (older, newer, m) }
    let excess = zip(zip(between, older), difference).reduce(0) { $0 + ($1.0.0 - $1.0.1) * $1.1 }
    let size = Double(sizes[first - 1] + sizes[first])
    let part = min(max(excess / length, 0), 1)
    return (older, newer, m - Int(sizes[first]) + Int((part * size).rounded()))
  }

  /// Reads a histogram of `count` values whose stretches' sums `read` gives; the sizes follow from how
  /// many values came.
  init(
    stride: Int, arrived: Int, _ read: (_ size: Int) throws -> [Int32]
  ) rethrows {
    self.init(stride: stride)
    for size in Self.sizes(after: arrived) {
      let sum = try read(size)
      sizes[stretches] = Int32(size)
      for column in 0..<stride {
        sums[stretches * stride + column] = sum[column]
        totals[column] += sum[column]
      }
      stretches += 1
      count += size
    }
  }

  /// One value more. The number is kept small: beyond a full histogram only how far the smaller stretches
  /// are from carrying matters, which repeats with the largest size.
  static func next(_ arrived: Int) -> Int {
    let limit = 5 * largestStretch
    return arrived + 1 >= limit ? arrived + 1 - largestStretch : arrived + 1
  }

  /// The sizes of the stretches after so many values, oldest first.
  static func sizes(after arrived: Int) -> [Int] {
    // Of each size there is one stretch or, where a carry has not come yet, two: as in counting with the
    // digits 1 and 2.
    var left = arrived
    var result: [Int] = []
    var size = 1
    while left > 0, size <= largestStretch {
      let digit = size == largestStretch ? min(left, perSize) : left % 2 == 0 ? 2 : 1
      result += Array(repeating: size, count: digit)
      left = (left - digit) / 2
      size *= 2
    }
    return result.reversed()
  }
}
