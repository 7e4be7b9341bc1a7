// Page-Hinkley: a cumulative sum of distances from the running mean.

import ShiftDetection

/// The Page-Hinkley test (Page, 1954) with the parameters of River's detector of that name, and its
/// alarms: after an alarm the next value starts it anew.
public struct PageHinkley: CompactState {
  /// Which changes of the mean count.
  public enum Mode: UInt8, Sendable, Hashable {
    case both = 0
    case up
    case down
  }

  public let minimumInstances: Int
  public let delta: Double
  public let threshold: Double
  /// Forgetting factor of the sums.
  public let alpha: Double
  public let mode: Mode
  private var count = 0
  private var mean = 0.0
  private var increase = 0.0
  private var decrease = 0.0
  private var lowestIncrease = Double.infinity
  private var highestDecrease = -1.0
  /// Whether the last value raised the alarm.
  public private(set) var isDriftDetected = false

  public init(
    minimumInstances: Int = 30, delta: Double = 0.005, threshold: Double = 50,
    alpha: Double = 1 - 0.0001, mode: Mode = .both
  ) {
    self.minimumInstances = minimumInstances
    self.delta = delta
    self.threshold = threshold
    self.alpha = alpha
    self.mode = mode
  }

  /// Takes one value; true where it raises the alarm. Values that are not finite are passed over.
  @discardableResult
  public mutating func update(_ value: Double) -> Bool {
    guard value.isFinite else { return false }
    if isDriftDetected {
      self = PageHinkley(
        minimumInstances: minimumInstances, delta: delta, threshold: threshold, alpha: alpha,
        mode: mode)
    }
    count += 1
    mean += (value - mean) / Double(count)
    let distance = value - mean
    increase = alpha * increase + distance - delta
    decrease = alpha * decrease + distance + delta
    lowestIncrease = min(lowestIncrease, increase)
    highestDecrease = max(highestDecrease, decrease)
    guard count >= minimumInstances else { return false }
    let hasRisen = increase - lowestIncrease > threshold
    let hasFallen = highestDecrease - decrease > threshold
    isDriftDetected =
      switch mode {
      case .both: hasRisen || hasFallen
      case .up: hasRisen
      case .down: hasFallen
      }
    return isDriftDetected
  }

  public func write(to writer: inout StateWriter) {
    writer.unsigned(minimumInstances)
    for number in [delta, threshold, alpha] { writer.double(number) }
    writer.byte(mode.rawValue)
    writer.unsigned(count)
    for number in [mean, increase, decrease, lowestIncrease, highestDecrease] {
      writer.double(number)
    }
    writer.byte(isDriftDetected ? 1 : 0)
  }

  public init(reading reader: inout StateReader) throws {
    minimumInstances = try reader.unsigned()
    delta = try reader.double()
    threshold = try reader.double()
    alpha = try reader.double()
    guard let mode = Mode(rawValue: try reader.byte()) else {
      throw StateError("an unknown mode of Page-Hinkley")
    }
    self.mode = mode
    count = try reader.unsigned()
    mean = try reader.double()
    increase = try reader.double()
    decrease = try reader.double()
    lowestIncrease = try reader.double()
    highestDecrease = try reader.double()
    isDriftDetected = try reader.byte() != 0
  }
}
