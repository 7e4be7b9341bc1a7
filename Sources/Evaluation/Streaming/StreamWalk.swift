// One stream under one policy: each event is predicted, then shown to the policy, then learnt if it says so.

import Foundation
import OPPU
import Personalization

/// One user's events of a task, oldest first.
public struct UserStream: Codable, Sendable, Hashable {
  /// What the stream is called: the user's id, or both ids where two users' events were joined.
  public var user: String
  /// The users whose events they are.
  public var people: [String]
  /// Oldest first.
  public var items: [HistoryItem]
  /// Events after which the behaviour is known to change.
  public var shifts: [Int]

  /// A stream of one user, whose behaviour is not known to change.
  public init(user: String, items: [HistoryItem]) {
    self.user = user
    people = [user]
    self.items = items
    shifts = []
  }

  /// A stream whose behaviour changes at a known place: the first events of one user, then the first of
  /// another, as if they were one user's. The texts are real, only the change is made.
  /// - Parameter events: of each of the two.
  /// - Returns: nil where one of them has fewer.
  public init?(planting second: UserStream, after first: UserStream, events: Int) {
    guard events > 0, first.items.count >= events, second.items.count >= events else { return nil }
    user = "\(first.user) → \(second.user)"
    people = first.people + second.people
    items = Array(first.items.prefix(events))
    shifts = [events]
    let known = Set(items.map(\.eventID))
    // Times go on, too: the second user's events may be older.
    let gap = items[events - 1].occurredAt.timeIntervalSince(second.items[0].occurredAt)
    for var item in second.items.prefix(events) {
      if known.contains(item.eventID) { item.eventID = "\(second.user)/\(item.eventID)" }
      item.occurredAt += max(0, gap) + 1
      items.append(item)
    }
  }
}

/// What a policy came to on a stream; the unit that a stopped study goes on after.
public struct StreamOutcome: Codable, Sendable, Hashable {
  /// One training on the way.
  public struct Training: Codable, Sendable, Hashable {
    /// Events there were; the next one is the first that profits.
    public var after: Int
    public var reason: StreamingSchedule.Reason
    /// The position of the first event of the behaviour that was to be learnt; nil: the whole
    /// history.
    public var changedAt: Int?
    public var cost: StreamTrainingCost
  }

  /// What the stream is called.
  public var user: String
  public var policy: StreamingPolicy
  /// What the user really did, event by event.
  public var golds: [String]
  /// Nil where no answer could be read.
  public var predictions: [String?]
  /// In order.
  public var trainings: [Training]
  /// The shifts that were reported, by `on_shift` alone.
  public var alarms: [StreamingSchedule.Alarm]
  /// Events after which the behaviour is known to change.
  public var shifts: [Int]
  /// Of everything, training included.
  public var seconds: Double
  /// Why the stream could not be walked to its end under this policy.
  public var failure: String?
}

extension StreamOutcome {
  /// Of a stream on which the policy came to nothing.
  init(_ user: String, _ policy: StreamingPolicy, failure: String) {
    self.init(
      user: user, policy: policy, golds: [], predictions: [], trainings: [], alarms: [], shifts: [],
      seconds: 0, failure: failure)
  }
}

/// Walks along a stream.
struct StreamWalk<Learner: StreamLearner> {
  let task: TaskDefinition
  let rules: StreamingRules
  let retrieval: RetrievalMethod
  let learner: Learner

  /// - Parameter onEvent: called before each event with its position; returns false to stop.
  /// - Returns: nil where `onEvent` stopped it.
  func run(
    _ stream: UserStream, policy: StreamingPolicy, onEvent: (Int) -> Bool = { _ in true }
  ) throws -> StreamOutcome? {
    let clock = ContinuousClock()
    let begin = clock.now
    var outcome = StreamOutcome(
      user: stream.user, policy: policy, golds: stream.items.map(\.output), predictions: [],
      trainings: [], alarms: [], shifts: stream.shifts, seconds: 0)
    var schedule = StreamingSchedule(
      policy: policy, rules: rules, signals: task.watchedSignals)
    var earlier = HistoryRetriever(task: task, method: retrieval)
    var knowledge: Learner.Knowledge?
    for (position, item) in stream.items.enumerated() {
      guard onEvent(position) else { return nil }
      // Test, then train: the answer is given before anything else sees the event.
      outcome.predictions.append(
        try learner.answer(item.input, earlier: earlier, with: knowledge))
      var loss: Double?
      if schedule.wantsLoss, let knowledge {
        loss = try learner.loss(of: item, earlier: earlier, with: knowledge)
      }
      earlier.append(item)
      let due = schedule.observe(task.observation(of: item.input, output: item.output, loss: loss))
      // After the last event no prediction would profit.
      guard let due, position + 1 < stream.items.count else { continue }
      let learnt = try learner.learn(
        earlier.items, from: knowledge, changedAt: due.changedAt)
      guard let learnt else { continue }
      knowledge = learnt.knowledge
      outcome.trainings.append(
        .init(
          after: position + 1, reason: due.reason, changedAt: due.changedAt, cost: learnt.cost))
    }
    outcome.alarms = schedule.alarms
    outcome.seconds = (clock.now - begin) / .seconds(1)
    return outcome
  }
}
