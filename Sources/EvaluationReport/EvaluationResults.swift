// What an evaluation of one task found: the value that results.json holds and that reports show.

import Foundation
import JSON
import Personalization

/// The results of one task, as results.json keeps them. docs/evaluation.md explains every key.
///
/// Numbers that could not be computed (no queries, one user) are left out or null, never NaN.
/// Differences and intervals are in the metric's own unit; where a lower value is the better one
/// (`MetricInfo.higherIsBetter`) the report turns the sign, the file does not.
public struct EvaluationResults: Codable, Sendable, Equatable {
  public var task: String
  /// label, rating or text.
  public var kind: String
  /// The task's metrics; the first is the one that decides which arm is best.
  public var metrics: [MetricInfo]
  /// The arms in the order of tables and plots, with what kind of arm each is.
  public var armList: [ArmInfo]
  /// What each arm reached, by its name.
  public var arms: [String: ArmResult]
  /// 95 % intervals of the arms' metrics: arm, metric, [low, high].
  public var armIntervals: [String: [String: Interval]]
  /// Pairs of arms on the same queries.
  public var comparisons: [ArmComparison]
  /// The arms by how much history users have.
  public var activity: [ActivityLevel]
  /// The arms with histories like the queries and unlike them.
  public var shift: ShiftStudy?
  /// Held-out loss while adapters learn.
  public var heldOut: [LearningCurve]
  /// Prequential studies: each event is predicted before it is learned.
  public var streaming: [StreamingStudy]
  /// Further studies: PEFT methods, history in other formats.
  public var studies: [Study]
  public var users: EvaluatedUsers
  /// Problems of the data that were worked around.
  public var notes: [DataNote]
  /// The settings as a tree.
  public var configuration: JSONValue
  public var provenance: Provenance

  public init(
    task: String, kind: String, metrics: [MetricInfo], armList: [ArmInfo] = [],
    arms: [String: ArmResult] = [:], armIntervals: [String: [String: Interval]] = [:],
    comparisons: [ArmComparison] = [], activity: [ActivityLevel] = [], shift: ShiftStudy? = nil,
    heldOut: [LearningCurve] = [], streaming: [StreamingStudy] = [], studies: [Study] = [],
    users: EvaluatedUsers = .init(), notes: [DataNote] = [],
    configuration: JSONValue = .object([:]), provenance: Provenance
  ) {
    self.task = task
    self.kind = kind
    self.metrics = metrics
    self.armList = armList
    self.arms = arms
    self.armIntervals = armIntervals
    self.comparisons = comparisons
    self.activity = activity
    self.shift = shift
    self.heldOut = heldOut
    self.streaming = streaming
    self.studies = studies
    self.users = users
    self.notes = notes
    self.configuration = configuration
    self.provenance = provenance
  }

  private enum CodingKeys: String, CodingKey {
    case task, kind, metrics, arms, comparisons, activity, shift, streaming, studies, users, notes
    case configuration, provenance
    case armList = "arm_list"
    case armIntervals = "arm_intervals"
    case heldOut = "held_out"
  }
}

/// A metric of the task.
public struct MetricInfo: Codable, Sendable, Equatable {
  /// As in the task catalogue: accuracy, macro_f1, mae, rmse, rouge_1, rouge_l, …
  public var name: String
  public var higherIsBetter: Bool

  public init(_ name: String, higherIsBetter: Bool) {
    self.name = name
    self.higherIsBetter = higherIsBetter
  }

  private enum CodingKeys: String, CodingKey {
    case name
    case higherIsBetter = "higher_is_better"
  }
}

/// What an arm is, for tables and plots.
public struct ArmInfo: Codable, Sendable, Equatable {
  /// What kind of arm it is, and so what it is compared with.
  public enum Family: String, Codable, Sendable, CaseIterable {
    /// No model: the user's commonest label, the nearest of the user's own outputs.
    case baseline
    /// What a prompt can do without training on the user: base, RAG, PAG. The best of these by the
    /// first metric is what others are compared with.
    case prompt
    /// The task adapter, which knows the task and no user.
    case task
    /// The user's own adapter, with or without retrieval and profile.
    case oppu
  }

  /// The key in `arms`, and the name in predictions-NAME.json.
  public var name: String
  /// For people: "OPPU + RAG".
  public var title: String
  public var family: Family

  public init(name: String, title: String, family: Family) {
    self.name = name
    self.title = title
    self.family = family
  }
}

/// What an arm reached: in JSON one flat map of numbers, the metrics beside `n` and `seconds`.
public struct ArmResult: Codable, Sendable, Equatable {
  /// By metric; other numbers may stand beside them (`training_seconds`). Finite.
  public var values: [String: Double] {
    didSet { values = values.filter { $0.value.isFinite } }
  }
  /// Queries answered.
  public var n: Int
  /// Time for training and answering, in seconds.
  public var seconds: Double

  /// Values that are not finite are left out.
  public init(values: [String: Double], n: Int, seconds: Double) {
    self.values = values.filter { $0.value.isFinite }
    self.n = n
    self.seconds = seconds.isFinite ? seconds : 0
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: NameKey.self)
    self.init(values: [:], n: 0, seconds: 0)
    for key in container.allKeys {
      switch key.stringValue {
      case "n": n = try container.decode(Int.self, forKey: key)
      case "seconds": seconds = try container.decode(Double.self, forKey: key)
      default: values[key.stringValue] = try container.decode(Double?.self, forKey: key)
      }
    }
    guard container.contains("n") else { throw container.missing("n") }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: NameKey.self)
    for (name, value) in values { try container.encode(value, forKey: NameKey(name)) }
    try container.encode(n, forKey: "n")
    try container.encode(seconds, forKey: "seconds")
  }
}

/// `a` minus `b` in one metric, over the same users and queries.
public struct ArmComparison: Codable, Sendable, Equatable {
  /// The names of the two arms.
  public var a: String
  public var b: String
  /// A metric's name.
  public var metric: String
  /// In the metric's unit, null where it could not be computed: value of `a` minus value of `b`.
  public var difference: Double?
  /// The ends of the paired 95 % interval.
  public var low: Double?
  public var high: Double?

  /// Numbers that are not finite become nil.
  public init(a: String, b: String, metric: String, difference: Double, low: Double, high: Double) {
    self.a = a
    self.b = b
    self.metric = metric
    self.difference = difference.finite
    self.low = low.finite
    self.high = high.finite
  }

  private enum CodingKeys: String, CodingKey { case a, b, metric, difference, low, high }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(a, forKey: .a)
    try container.encode(b, forKey: .b)
    try container.encode(metric, forKey: .metric)
    try container.encode(difference, forKey: .difference)
    try container.encode(low, forKey: .low)
    try container.encode(high, forKey: .high)
  }
}

/// The users of an evaluation: those done, and those left out with the reason.
public struct EvaluatedUsers: Codable, Sendable, Equatable {
  /// A user who has no results, and why.
  public struct LeftOut: Codable, Sendable, Equatable {
    public var user: String
    /// A few words: "the time budget of 15 minutes was spent".
    public var reason: String

    public init(user: String, reason: String) {
      self.user = user
      self.reason = reason
    }
  }

  /// Their ids.
  public var done: [String]
  public var leftOut: [LeftOut]

  public init(done: [String] = [], leftOut: [LeftOut] = []) {
    self.done = done
    self.leftOut = leftOut
  }

  private enum CodingKeys: String, CodingKey {
    case done
    case leftOut = "left_out"
  }
}

/// A problem in a data file that was worked around.
public struct DataNote: Codable, Sendable, Equatable {
  public var file: String
  /// The row, from 1, where there is one.
  public var row: Int?
  /// A sentence: what was wrong and what was done.
  public var text: String

  public init(file: String, row: Int? = nil, text: String) {
    self.file = file
    self.row = row
    self.text = text
  }
}
