// That no user is judged by a task adapter which has seen them.

import Foundation

/// Users or texts that stand on both sides of an evaluation.
public struct OverlapError: Error, Equatable, CustomStringConvertible, LocalizedError {
  /// What overlaps, in a plural, such as `users`.
  public let what: String
  /// Ids or texts, each once, sorted.
  public let overlap: [String]

  public var description: String {
    let shown = overlap.prefix(5).joined(separator: ", ")
    let more = overlap.count > 5 ? ", … (\(overlap.count) in all)" : ""
    return "the task adapter must never have seen the users that are evaluated, but these \(what) "
      + "are on both sides: \(shown)\(more); take them out of others.json"
  }
  public var errorDescription: String? { description }

  /// - Throws: the error where anything overlaps.
  public static func refuse(_ what: String, _ overlap: [String]) throws {
    guard overlap.isEmpty else { throw OverlapError(what: what, overlap: Set(overlap).sorted()) }
  }
}
