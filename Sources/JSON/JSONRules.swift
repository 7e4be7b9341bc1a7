// What of JSON is taken beside what RFC 8259 says, by where a text comes from.

/// Always: UTF-8 without gaps, no number that a double cannot tell from 0 or from infinity, a bounded depth.
public struct JSONRules: Sendable {
  /// How deep arrays and objects may stand in each other.
  public var maximumDepth: Int
  /// Digits behind a number's point, its exponent reckoned in; nil: any number of them.
  public var maximumScale: Int?
  /// Whether a text may hold the character U+0000.
  public var allowsNUL: Bool
  /// Whether half of a surrogate pair stands for U+FFFD, as many writers leave them behind; else it is refused.
  public var repairsSurrogates: Bool
  /// Whether a member may stand twice in an object, the last one counting; else that is refused, for two readers would
  /// see two texts.
  public var lastMemberCounts: Bool
  /// Whether a text may begin with a byte order mark.
  public var allowsByteOrderMark: Bool

  /// For messages: nothing that PostgreSQL cannot store (the character U+0000; of numbers its `numeric` has 16,383
  /// digits behind the point).
  public static let strict = JSONRules(
    maximumDepth: 32, maximumScale: 16_383, allowsNUL: false, repairsSurrogates: false,
    lastMemberCounts: false, allowsByteOrderMark: false)
  /// For files that belong to a model.
  public static let modelFiles = JSONRules(
    maximumDepth: 64, maximumScale: nil, allowsNUL: true, repairsSurrogates: false,
    lastMemberCounts: false, allowsByteOrderMark: false)
  /// For published data, as its authors left it.
  public static let datasets = JSONRules(
    maximumDepth: 128, maximumScale: nil, allowsNUL: true, repairsSurrogates: true,
    lastMemberCounts: true, allowsByteOrderMark: true)
}
