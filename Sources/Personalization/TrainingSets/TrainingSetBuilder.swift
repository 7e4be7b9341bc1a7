// From one user's history to training and held-out examples.

import Foundation
import RandomNumbers

/// What the training set of one run is made of. Lengths count events.
public struct TrainingSetSettings: Codable, Sendable, Hashable {
  /// How past items are chosen for prompts.
  public var retrieval: RetrievalMethod = .bm25
  /// The input fields that examples are asked with; nil for all. Where a history tells more than
  /// questions will (LaMP's articles have titles, its questions do not), examples are to look like
  /// the questions. Retrieved lines still tell everything.
  public var inputFields: Set<String>?
  /// The part of the new events that is held out, the newest ones.
  public var heldOutFraction: Double = 0.2
  /// At least so many, whatever the fraction says, but never more than half of the new events.
  public var heldOutMinimum: Int = 3
  /// At most so many, where the fraction is more.
  public var heldOutMaximum: Int = 32
  /// A shorter history holds nothing out.
  public var heldOutNeedsHistory: Int = 8
  /// Older events, already learnt by the parent version, that are trained on again.
  public var replay: Int = 32
  /// The age, in events, at which an older event is half as likely to be replayed.
  public var replayHalfLife: Double = 32
  /// After a shift: how many of the events before it may still be trained on.
  public var replayBeforeShift: Int = 4
  /// After a shift: whether prompts retrieve only from events after it.
  public var retrieveOnlyAfterShift: Bool = true
  /// Decides which events are replayed.
  public var seed: UInt64 = 1

  public init() {}
}

/// One training pair, as text.
public struct TrainingText: Codable, Sendable, Hashable {
  public let eventID: String
  /// Without white space at its end.
  public let prompt: String
  /// Begins with one space; the end-of-text token is appended by whoever tokenises it.
  public let completion: String
  /// The events whose lines stand in the prompt; all older than this one.
  public let retrieved: [String]
  /// Whether the parent version has already learnt this event.
  public let isReplay: Bool
}

/// The examples of one training run. Both lists oldest first, and no event in both.
public struct TrainingSet: Codable, Sendable, Hashable {
  /// Without what is held out; replayed events among them.
  public let training: [TrainingText]
  /// The newest of the new events.
  public let heldOut: [TrainingText]
  /// The `trainedThrough` to give for the next version: events before this position were available
  /// for training, later ones were held out and are new to the next version.
  public let trainedThrough: Int
}

/// Makes training sets.
///
/// A value without state that changes: a set depends on the arguments of the one call and nothing
/// else, so no user's text can reach another user's set.
public struct TrainingSetBuilder: Sendable {
  public let prompts: PromptBuilder
  public let settings: TrainingSetSettings

  public init(prompts: PromptBuilder, settings: TrainingSetSettings = TrainingSetSettings()) {
    self.prompts = prompts
    self.settings = settings
  }

  /// The training and held-out examples of one user for one task.
  ///
  /// - Parameters:
  ///   - history: one user's items for the task, oldest first, with distinct event ids.
  ///   - trainedThrough: how many of the oldest items the parent version's training had, from
  ///     `TrainingSet.trainedThrough`; 0 for a first version.
  ///   - changedAt: after a shift, the position in `history` of the first event of the new
  ///     behaviour. Of the events before it only `replayBeforeShift` are trained on, and none is
  ///     held out.
  ///   - profile: the profile that questions will carry, such as one written by the model, where
  ///     prompts have one. Without it each example has the computed profile of the items before it.
  /// - Throws: `PromptError` where a prompt's instruction alone is over budget.
  public func build(
    history: [HistoryItem], trainedThrough: Int = 0, changedAt: Int? = nil, profile: String? = nil
  ) throws -> TrainingSet {
    let change = min(max(changedAt ?? 0, 0), history.count)
    let learnt = min(max(trainedThrough, 0), history.count)
    let firstNew = max(change, learnt)
    let heldOut = history.count - heldOutCount(new: history.count - firstNew, of: history.count)

    var generator = SplitMix64(seed: settings.seed)
    // Events before the change tell of the old behaviour, whether the parent has learnt them or not.
    let before = sample(0..<change, newest: change, settings.replayBeforeShift, &generator)
    let replayed = change < learnt ? change..<min(learnt, heldOut) : 0..<0
    let again = sample(
      replayed, newest: learnt, max(0, settings.replay - before.count), &generator)
    let chosen = Set(before).union(again).union(firstNew < heldOut ? firstNew..<heldOut : 0..<0)

    // Where nothing is retrieved, nothing need be indexed.
    var retriever = HistoryRetriever(
      task: prompts.task, method: prompts.variant.retrieve > 0 ? settings.retrieval : .recency)
    var training: [TrainingText] = []
    var held: [TrainingText] = []
    for (position, item) in history.enumerated() {
      if position >= heldOut || chosen.contains(position) {
        let first = settings.retrieveOnlyAfterShift && position >= change ? change : 0
        let example = try example(
          item, retriever: retriever, from: first, profile: profile, isReplay: position < learnt)
        if position >= heldOut { held.append(example) } else { training.append(example) }
      }
      // Only now: an example never finds itself nor anything newer.
      retriever.append(item)
    }
    return TrainingSet(training: training, heldOut: held, trainedThrough: heldOut)
  }

  private func example(
    _ item: HistoryItem, retriever: HistoryRetriever, from first: Int, profile: String?,
    isReplay: Bool
  ) throws -> TrainingText {
    let prompt = try prompts.build(
      item: item, fields: settings.inputFields, after: retriever, from: first, profile: profile)
    return TrainingText(
      eventID: item.eventID, prompt: prompt.text,
      completion: prompts.task.completion(for: item.output), retrieved: prompt.retrieved,
      isReplay: isReplay)
  }

  /// A fraction of the new events within the limits, and never more than half of them.
  private func heldOutCount(new: Int, of total: Int) -> Int {
    guard total >= settings.heldOutNeedsHistory else { return 0 }
    let fraction = Int((Double(new) * settings.heldOutFraction).rounded())
    let wanted = max(settings.heldOutMinimum, min(settings.heldOutMaximum, fraction))
    return max(0, min(wanted, new / 2))
  }

  /// Positions drawn without replacement, newer ones likelier (Efraimidis and Spirakis, 2006: the
  /// largest u^(1/w)); weights halve every `replayHalfLife` events.
  private func sample(
    _ range: Range<Int>, newest: Int, _ count: Int, _ generator: inout SplitMix64
  ) -> [Int] {
    guard count > 0, !range.isEmpty else { return [] }
    let keyed = range.map { position in
      let age = Double(newest - position) / max(settings.replayHalfLife, 1e-3)
      // ln(−ln(u) / w): the smallest of these is the largest u^(1/w), and no weight underflows.
      let key = log(-log(generator.unit())) + age * log(2)
      return (position: position, key: key)
    }
    let best = keyed.sorted { ($0.key, $1.position) < ($1.key, $0.position) }
    return best.prefix(count).map(\.position)
  }
}
