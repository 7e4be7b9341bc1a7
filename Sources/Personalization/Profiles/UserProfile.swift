// A profile that the model wrote, as it is kept, and when it is out of date.

import Foundation

/// A text that describes a user for a task, with what it was made from. A value: a refreshed
/// profile is a new version.
public struct UserProfile: Codable, Sendable, Hashable {
  /// Who writes the profile that prompts carry.
  public enum Kind: String, Codable, Sendable, CaseIterable {
    /// Counted by `ComputedProfile`, for every prompt anew.
    case computed
    /// Written by the model from `ModelProfile`'s prompt, and kept.
    case model
  }

  /// From 1.
  public var version: Int
  public var text: String
  /// How many items the user's history had.
  public var itemCount: Int
  /// The newest of them.
  public var throughEventID: String
  /// After a shift: the first event of the behaviour that the profile is about; nil where it is
  /// about the whole history.
  public var sinceEventID: String?

  enum CodingKeys: String, CodingKey {
    case version, text
    case itemCount = "item_count"
    case throughEventID = "through_event_id"
    case sinceEventID = "since_event_id"
  }

  /// The profile in a model's answer to `ModelProfile.prompt`: of the whole history, oldest first, or
  /// from the event of a shift on. Nil for an answer without words and for an empty history.
  ///
  /// - Parameter previous: the version before, of which this one is the next.
  public init?(
    _ answer: String, from history: [HistoryItem], since eventID: String? = nil,
    after previous: UserProfile? = nil
  ) {
    guard let text = ModelProfile.description(in: answer), let newest = history.last else {
      return nil
    }
    version = (previous?.version ?? 0) + 1
    self.text = text
    itemCount = history.count
    throughEventID = newest.eventID
    sinceEventID = eventID
  }

  /// The items that a profile is about: those from the event on, all without one or where it is not
  /// among them.
  public static func items(
    of history: [HistoryItem], since eventID: String?
  ) -> ArraySlice<HistoryItem> {
    let first = eventID.flatMap { id in history.firstIndex { $0.eventID == id } } ?? 0
    return history[first...]
  }
}

/// When a profile is written anew.
public struct ProfileRefresh: Sendable, Hashable {
  /// The new items, as a part of what the profile was made from, that call for a new one; never more
  /// than `ModelProfile` looks at.
  public var growth: Double
  /// A history shorter than this has no profile.
  public var minimumItems: Int

  public init(growth: Double = 0.5, minimumItems: Int = 4) {
    self.growth = growth
    self.minimumItems = minimumItems
  }

  /// Why a profile is to be written.
  public enum Reason: String, Sendable {
    /// There is none yet.
    case first
    /// The user's behaviour has shifted since it was made.
    case shift
    /// The history has grown by the stated part.
    case growth
    /// The history has become shorter: events were removed, and the profile may still tell of them.
    case shortened
  }

  /// Whether to write a profile, and why; nil where the current one stands, or where the history is
  /// too short for any.
  ///
  /// - Parameters:
  ///   - history: oldest first; of a long one the newest part will do, as long as it is always cut
  ///     to the same length.
  ///   - shiftEventID: the first event of the behaviour since the last shift; nil without one.
  public func reason(
    toReplace current: UserProfile?, history: [HistoryItem], shiftEventID: String?
  ) -> Reason? {
    guard history.count >= max(1, minimumItems) else { return nil }
    guard let current else { return .first }
    if history.count < current.itemCount { return .shortened }
    if let shiftEventID, shiftEventID != current.sinceEventID { return .shift }
    let known = history.lastIndex { $0.eventID == current.throughEventID }
    let new = known.map { history.count - 1 - $0 } ?? history.count
    let part = (Double(current.itemCount) * max(0, growth)).rounded(.up)
    // Clamped, so that a growth of nothing still waits for a new event.
    let wanted = min(max(1, part), Double(ComputedProfile.window))
    return Double(new) >= wanted ? .growth : nil
  }
}
