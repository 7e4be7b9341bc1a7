// The studies beside the arms' results: activity, shift, learning curves, streaming and others.

import Foundation

/// A number and its 95 % interval; in JSON {value, low, high}, without the ends where unknown.
public struct IntervalEstimate: Codable, Sendable, Equatable {
  /// Null where it could not be computed.
  public var value: Double?
  /// The ends of the interval; nil where unknown.
  public var low: Double?
  public var high: Double?

  /// Numbers that are not finite become nil.
  public init(_ value: Double?, low: Double? = nil, high: Double? = nil) {
    self.value = value?.finite
    self.low = low?.finite
    self.high = high?.finite
  }

  private enum CodingKeys: String, CodingKey { case value, low, high }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(value, forKey: .value)
    try container.encodeIfPresent(low, forKey: .low)
    try container.encodeIfPresent(high, forKey: .high)
  }
}

/// The ends of a 95 % interval; in JSON [low, high].
public struct Interval: Codable, Sendable, Equatable {
  /// Not above `high`.
  public var low: Double
  public var high: Double

  /// Nil unless both ends are finite.
  public init?(_ low: Double, _ high: Double) {
    guard low.isFinite, high.isFinite else { return nil }
    self.low = min(low, high)
    self.high = max(low, high)
  }

  public init(from decoder: any Decoder) throws {
    var container = try decoder.unkeyedContainer()
    let (first, second) = (try container.decode(Double.self), try container.decode(Double.self))
    low = min(first, second)
    high = max(first, second)
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.unkeyedContainer()
    try container.encode(low)
    try container.encode(high)
  }
}

/// The arms' results on a part of the users or queries: arm, metric, estimate.
public struct Slice: Codable, Sendable, Equatable {
  public var users: Int
  /// Queries.
  public var n: Int
  /// By arm, then by metric.
  public var arms: [String: [String: IntervalEstimate]]

  public init(users: Int, n: Int, arms: [String: [String: IntervalEstimate]]) {
    self.users = users
    self.n = n
    self.arms = arms
  }
}

/// The results of users with about as much history.
public struct ActivityLevel: Codable, Sendable, Equatable {
  /// "low", "middle", "high".
  public var level: String
  /// The smallest and largest number of history items among these users.
  public var lowItems: Int
  public var highItems: Int
  public var users: Int
  /// Their queries.
  public var n: Int
  /// By arm, then by metric.
  public var arms: [String: [String: IntervalEstimate]]

  public init(
    level: String, lowItems: Int, highItems: Int, users: Int, n: Int,
    arms: [String: [String: IntervalEstimate]]
  ) {
    self.level = level
    self.lowItems = lowItems
    self.highItems = highItems
    self.users = users
    self.n = n
    self.arms = arms
  }

  private enum CodingKeys: String, CodingKey {
    case level, users, n, arms
    case lowItems = "low_items"
    case highItems = "high_items"
  }
}

/// The same queries with histories like them and with histories unlike them.
public struct ShiftStudy: Codable, Sendable, Equatable {
  /// A sentence: how the two sets of histories were made.
  public var text: String
  /// With the histories that are like the queries.
  public var before: Slice
  /// With those that are unlike them.
  public var after: Slice

  public init(text: String, before: Slice, after: Slice) {
    self.text = text
    self.before = before
    self.after = after
  }
}

/// Held-out loss of an adapter, or the mean of several, after so many events.
public struct LearningCurve: Codable, Sendable, Equatable {
  /// A curve's value at one place.
  public struct Point: Codable, Sendable, Equatable {
    /// Trained on so far.
    public var events: Int
    /// Nats per token of the output.
    public var loss: Double?

    public init(events: Int, loss: Double) {
      self.events = events
      self.loss = loss.finite
    }
  }

  /// An arm's name.
  public var arm: String
  /// Absent for the mean over users.
  public var user: String?
  /// By ascending number of events; 0 events is before any training.
  public var points: [Point]

  public init(arm: String, user: String? = nil, points: [Point]) {
    self.arm = arm
    self.user = user
    self.points = points
  }
}

/// One stream, predicted event by event under several training policies.
public struct StreamingStudy: Codable, Sendable, Equatable {
  /// What one policy came to.
  public struct Policy: Codable, Sendable, Equatable {
    /// "never", "scheduled", "on_shift", "oracle".
    public var name: String
    /// For people: "on schedule".
    public var title: String
    /// Events predicted.
    public var n: Int
    /// The metric over all events.
    public var value: Double?
    /// The ends of its interval; nil where unknown.
    public var low: Double?
    public var high: Double?
    /// Of all trainings.
    public var trainingSeconds: Double
    public var trainings: Int
    /// Tokens of all trainings, every epoch counted; nil where nobody counted.
    public var trainingTokens: Int?
    /// This policy's metric over the oracle's; for an error the oracle's over this one's.
    public var shareOfOracleMetric: Double?
    /// Of tokens where they were counted, else of seconds.
    public var shareOfOracleCost: Double?
    /// The metric and the costs as events go by.
    public var curve: [Point]

    public init(
      name: String, title: String, n: Int, value: IntervalEstimate, trainingSeconds: Double,
      trainings: Int, trainingTokens: Int? = nil, shareOfOracleMetric: Double? = nil,
      shareOfOracleCost: Double? = nil, curve: [Point] = []
    ) {
      self.trainingTokens = trainingTokens
      self.name = name
      self.title = title
      self.n = n
      self.value = value.value
      self.low = value.low
      self.high = value.high
      self.trainingSeconds = trainingSeconds.finite ?? 0
      self.trainings = trainings
      self.shareOfOracleMetric = shareOfOracleMetric?.finite
      self.shareOfOracleCost = shareOfOracleCost?.finite
      self.curve = curve
    }

    private enum CodingKeys: String, CodingKey {
      case name, title, n, value, low, high, trainings, curve
      case trainingSeconds = "training_seconds"
      case trainingTokens = "training_tokens"
      case shareOfOracleMetric = "share_of_oracle_metric"
      case shareOfOracleCost = "share_of_oracle_cost"
    }
  }

  /// Where a policy stands after an event.
  public struct Point: Codable, Sendable, Equatable {
    /// From 1.
    public var event: Int
    /// The metric over all events so far.
    public var value: Double?
    /// Training time so far, in seconds.
    public var seconds: Double
    /// Tokens trained so far; nil where nobody counted.
    public var tokens: Int?

    public init(event: Int, value: Double, seconds: Double, tokens: Int? = nil) {
      self.tokens = tokens
      self.event = event
      self.value = value.finite
      self.seconds = seconds.finite ?? 0
    }
  }

  /// For people: "Events of shared/data", "Planted shift after 40 events".
  public var title: String
  /// The one that policies are compared by.
  public var metric: MetricInfo
  public var users: Int
  /// Of all streams together.
  public var events: Int
  public var policies: [Policy]
  /// Events after which the behaviour is known to change, in planted streams.
  public var shifts: [Int]

  public init(
    title: String, metric: MetricInfo, users: Int, events: Int, policies: [Policy],
    shifts: [Int] = []
  ) {
    self.title = title
    self.metric = metric
    self.users = users
    self.events = events
    self.policies = policies
    self.shifts = shifts
  }
}

/// A study that is a table of rows: PEFT methods, history in other formats.
public struct Study: Codable, Sendable, Equatable {
  /// In JSON flat: {label, METRIC: {value, low, high}, …, n, seconds}.
  public struct Row: Codable, Sendable, Equatable {
    public var label: String
    /// By metric; other numbers may stand beside them (`parameters`).
    public var values: [String: IntervalEstimate]
    /// Queries.
    public var n: Int
    /// Wall-clock time.
    public var seconds: Double

    public init(label: String, values: [String: IntervalEstimate], n: Int, seconds: Double) {
      self.label = label
      self.values = values
      self.n = n
      self.seconds = seconds.finite ?? 0
    }

    public init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: NameKey.self)
      label = try container.decode(String.self, forKey: "label")
      n = try container.decode(Int.self, forKey: "n")
      seconds = try container.decode(Double.self, forKey: "seconds")
      values = [:]
      for key in container.allKeys where !["label", "n", "seconds"].contains(key.stringValue) {
        values[key.stringValue] = try container.decode(IntervalEstimate.self, forKey: key)
      }
    }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: NameKey.self)
      for (name, value) in values { try container.encode(value, forKey: NameKey(name)) }
      try container.encode(label, forKey: "label")
      try container.encode(n, forKey: "n")
      try container.encode(seconds, forKey: "seconds")
    }
  }

  /// "methods", "formats".
  public var name: String
  /// For people: "PEFT methods".
  public var title: String
  public var rows: [Row]

  public init(name: String, title: String, rows: [Row]) {
    self.name = name
    self.title = title
    self.rows = rows
  }
}
