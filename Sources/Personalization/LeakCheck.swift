// That no user is judged by a task adapter which has seen them.

import Foundation

/// Users or texts that stand on both sides of an evaluation.
public struct OverlapError: Error, Equatable, CustomStringConvertible, LocalizedError {
  /// What overlaps, in a plural, such as `users`.
  public let what: String
  public let overlap: [String]

  public var description: String {
    let shown = overlap.prefix(5).joined(separator: ", ")
    let more = overlap.count > 5 ? ", … (\(overlap.count) in all)" : ""
    return "the task adapter must never have seen the users that are evaluated, but these \(what) "
      + "are on both sides: \(shown)\(more); take them out of others.json"
  }
  public var errorDescription: String? { description }
}

extension LaMPUser {
  /// Throws `OverlapError` where the users that a task adapter is trained on and the users that are
  /// evaluated have a user, a query or an event in common.
  ///
  /// A query or an event is the same where both its id and its content are: LaMP's files may count
  /// from zero in each user, and two users may well say the same about different things.
  public static func requireDisjoint(evaluated: [LaMPUser], others: [LaMPUser]) throws {
    let users = Set(evaluated.map(\.id))
    try refuse("users", others.map(\.id).filter(users.contains))

    func content(_ id: String, _ input: [String: JSONValue], _ output: String) -> String {
      // The separator cannot stand in canonical JSON.
      "\(id)\n\(JSONValue.object(input).canonical)\n\(output)"
    }
    func queries(_ users: [LaMPUser]) -> [String: String] {
      pairs(users.flatMap { $0.queries.map { (content($0.id, $0.input, $0.gold ?? ""), $0.id) } })
    }
    func events(_ users: [LaMPUser]) -> [String: String] {
      pairs(
        users.flatMap { user in
          user.history.map { (content($0.eventID, $0.input, $0.output), $0.eventID) }
        })
    }
    func pairs(_ list: [(String, String)]) -> [String: String] {
      Dictionary(list, uniquingKeysWith: { first, _ in first })
    }
    // A query of one side that is an event of the other gives its answer away just the same.
    let judged = queries(evaluated).merging(events(evaluated)) { first, _ in first }
    for (what, rows) in [("queries", queries(others)), ("events", events(others))] {
      try refuse(what, rows.filter { judged[$0.key] != nil }.map(\.value))
    }
  }

  private static func refuse(_ what: String, _ overlap: [String]) throws {
    guard overlap.isEmpty else { throw OverlapError(what: what, overlap: Set(overlap).sorted()) }
  }
}
