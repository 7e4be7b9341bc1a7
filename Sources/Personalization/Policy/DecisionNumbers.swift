// The numbers that a decision rests on, as they are kept with it.

import Foundation

/// What was counted of a stream, and what the rules ask for.
public struct ScheduleNumbers: Codable, Sendable, Hashable {
  public var events: Int64
  /// The newest event at the last decision to train; nil: there was none.
  public var lastTrainedAt: Int64?
  /// To a tenth of an hour.
  public var hoursSinceTraining: Double?
  public var openJob: Bool
  public var firstAdapterEvents: Int
  public var newEvents: Int
  public var shiftEvents: Int
  public var shiftPatience: Double
  public var maximumAgeHours: Int
  public var ageEvents: Int
  /// In so many events a stream that does not change alarms once.
  public var falseAlarmEvents: Double

  /// - Parameter arl0: the detectors' mean number of events to a false alarm.
  public init(_ facts: StreamFacts, rules: ScheduleRules, arl0: Double) {
    events = facts.eventCount
    lastTrainedAt = facts.lastTrainOrdinal
    hoursSinceTraining = facts.lastTrainAt.map {
      (facts.now.timeIntervalSince($0) / 360).rounded() / 10
    }
    openJob = facts.hasOpenJob
    firstAdapterEvents = rules.firstAdapterEvents
    newEvents = rules.newEvents
    shiftEvents = rules.shiftEvents
    shiftPatience = rules.shiftPatience / .seconds(1)
    maximumAgeHours = rules.maximumAgeHours
    ageEvents = rules.ageEvents
    falseAlarmEvents = arl0.rounded()
  }

  enum CodingKeys: String, CodingKey {
    case events
    case lastTrainedAt = "last_trained_at"
    case hoursSinceTraining = "hours_since_training"
    case openJob = "open_job"
    case firstAdapterEvents = "first_adapter_events"
    case newEvents = "new_events"
    case shiftEvents = "shift_events"
    case shiftPatience = "shift_patience_s"
    case maximumAgeHours = "maximum_age_hours"
    case ageEvents = "age_events"
    case falseAlarmEvents = "false_alarm_events"
  }
}

/// A trial that a version lost.
public struct LostTrial: Codable, Sendable, Equatable {
  public var trial: LiveTrial
  /// The version that was taken back.
  public var version: Int?
  /// Mean losses of the version and of what it had replaced, in nats per token.
  public var meanLoss: Double
  public var meanLossBefore: Double
  /// The chance of taking back a version that is not worse, and the share by which its mean loss had to be higher.
  public var error: Double
  public var margin: Double

  public init(_ trial: LiveTrial, version: Int?, rules: LiveTrial.Rules) {
    self.trial = trial
    self.version = version
    meanLoss = trial.meanLoss
    meanLossBefore = trial.meanLossBefore
    error = rules.error
    margin = rules.margin
  }

  enum CodingKeys: String, CodingKey {
    case version, error, margin
    case meanLoss = "mean_loss"
    case meanLossBefore = "mean_loss_before"
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    trial = try LiveTrial(from: decoder)
    version = try container.decodeIfPresent(Int.self, forKey: .version)
    meanLoss = try container.decode(Double.self, forKey: .meanLoss)
    meanLossBefore = try container.decode(Double.self, forKey: .meanLossBefore)
    error = try container.decode(Double.self, forKey: .error)
    margin = try container.decode(Double.self, forKey: .margin)
  }

  public func encode(to encoder: any Encoder) throws {
    try trial.encode(to: encoder)
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encodeIfPresent(version, forKey: .version)
    try container.encode(meanLoss, forKey: .meanLoss)
    try container.encode(meanLossBefore, forKey: .meanLossBefore)
    try container.encode(error, forKey: .error)
    try container.encode(margin, forKey: .margin)
  }
}

/// What a decision compared.
public enum DecisionNumbers: Codable, Sendable, Equatable {
  /// To train, or to wait.
  case schedule(ScheduleNumbers)
  /// To roll a version back.
  case trial(LostTrial)
  /// To train because an operator asks for it, on so many events.
  case `operator`(events: Int64, note: String)
  /// To leave a stream alone whose task none of these is.
  case unknownTask(known: [String])

  enum CodingKeys: String, CodingKey {
    case events, note, tasks
    case meanLoss = "mean_loss"
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    if container.contains(.meanLoss) {
      self = .trial(try LostTrial(from: decoder))
    } else if let known = try container.decodeIfPresent([String].self, forKey: .tasks) {
      self = .unknownTask(known: known)
    } else if let note = try container.decodeIfPresent(String.self, forKey: .note) {
      self = .operator(events: try container.decode(Int64.self, forKey: .events), note: note)
    } else {
      self = .schedule(try ScheduleNumbers(from: decoder))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    switch self {
    case .schedule(let numbers): try numbers.encode(to: encoder)
    case .trial(let numbers): try numbers.encode(to: encoder)
    case .operator(let events, let note):
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(events, forKey: .events)
      try container.encode(note, forKey: .note)
    case .unknownTask(let known):
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(known, forKey: .tasks)
    }
  }
}
