// A user's profile as it is kept, and when it is out of date.

import Foundation

/// A text that describes a user for a task, with what it was made from. A value: a refreshed
/// profile is a new version.
public struct UserProfile: Codable, Sendable, Hashable {
  public enum Kind: String, Codable, Sendable, CaseIterable {
    /// Counted by `ComputedProfile`.
    case computed
    /// Written by the model from `ModelProfile`'s prompt.
    case model
  }

  /// From 1.
  public var version: Int
  public var text: String
  public var kind: Kind
  /// How many items the user's history had.
  public var itemCount: Int
  /// The newest of them.
  public var throughEventID: String
  /// After a shift: the first event of the behaviour that the profile is about; nil where it is
  /// about the whole history.
  public var sinceEventID: String?

  public init(
    version: Int, text: String, kind: Kind, itemCount: Int, throughEventID: String,
    sinceEventID: String? = nil
  ) {
    self.version = version
    self.text = text
    self.kind = kind
    self.itemCount = itemCount
    self.throughEventID = throughEventID
    self.sinceEventID = sinceEventID
  }

  /// The computed profile of a history: of the whole, or from the event of a shift on. Nil for a
  /// history that says nothing.
  ///
  /// - Parameter previous: the version before, of which this one is the next.
  public static func computed(
    from history: [HistoryItem], task: TaskDefinition, since eventID: String? = nil,
    after previous: UserProfile? = nil
  ) -> UserProfile? {
    let described = items(of: history, since: eventID)
    guard let text = ComputedProfile.text(for: described, task: task) else { return nil }
    return UserProfile(text, .computed, history, since: eventID, after: previous)
  }

  /// The profile in a model's answer to `ModelProfile.prompt`. Nil for an answer without words and
  /// for an empty history.
  public static func written(
    _ answer: String, from history: [HistoryItem], since eventID: String? = nil,
    after previous: UserProfile? = nil
  ) -> UserProfile? {
    guard let text = ModelProfile.description(in: answer) else { return nil }
    return UserProfile(text, .model, history, since: eventID, after: previous)
  }

  /// The items that a profile is about: those from the event on, all without one or where it is not
  /// among them.
  public static func items(
    of history: [HistoryItem], since eventID: String?
  ) -> ArraySlice<HistoryItem> {
    let first = eventID.flatMap { id in history.firstIndex { $0.eventID == id } } ?? 0
    return history[first...]
  }

  private init?(
    _ text: String, _ kind: Kind, _ history: [HistoryItem], since eventID: String?,
    after previous: UserProfile?
  ) {
    guard let newest = history.last else { return nil }
    self.init(
      version: (previous?.version ?? 0) + 1, text: text, kind: kind, itemCount: history.count,
      throughEventID: newest.eventID, sinceEventID: eventID)
  }
}

/// When a profile is made anew.
public struct ProfileRefresh: Codable, Sendable, Hashable {
  /// The growth of the history, as a part of what the profile was made from, that calls for a new
  /// one.
  public var growth: Double
  /// A history shorter than this has no profile.
  public var minimumItems: Int

  public init(growth: Double = 0.5, minimumItems: Int = 4) {
    self.growth = growth
    self.minimumItems = minimumItems
  }

  /// Why a profile is to be made.
  public enum Reason: String, Codable, Sendable {
    /// There is none yet.
    case first
    /// The user's behaviour has shifted since it was made.
    case shift
    /// The history has grown by the stated part.
    case growth
    /// The history has become shorter: events were erased, and the profile may still tell of them.
    case erased
  }

  /// Whether to make a profile, and why; nil where the current one stands, or where the history is
  /// too short for any.
  ///
  /// - Parameters:
  ///   - itemCount: the length of the history now.
  ///   - shiftEventID: the first event of the behaviour since the last shift; nil without one.
  public func needsRefresh(
    _ current: UserProfile?, itemCount: Int, shiftEventID: String?
  ) -> Reason? {
    guard itemCount >= max(1, minimumItems) else { return nil }
    guard let current else { return .first }
    if itemCount < current.itemCount { return .erased }
    if let shiftEventID, shiftEventID != current.sinceEventID { return .shift }
    // Clamped, so that a growth of nothing still waits for a new event.
    let wanted = max(1, (Double(current.itemCount) * max(0, growth)).rounded(.up))
    return Double(itemCount - current.itemCount) >= wanted ? .growth : nil
  }
}
