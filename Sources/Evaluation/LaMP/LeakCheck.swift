// That no user, query or event stands on both sides of an evaluation.

import JSON
import OPPU
import Personalization

extension LaMPUser {
  /// Throws `OverlapError` where the users that a task adapter is trained on and the users that are
  /// evaluated have a user, a query or an event in common.
  ///
  /// A query or an event is the same where both its id and its content are: LaMP's files may count
  /// from zero in each user, and two users may well say the same about different things.
  public static func requireDisjoint(evaluated: [LaMPUser], others: [LaMPUser]) throws {
    let users = Set(evaluated.map(\.id))
    try OverlapError.refuse("users", others.map(\.id).filter(users.contains))

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
      try OverlapError.refuse(what, rows.filter { judged[$0.key] != nil }.map(\.value))
    }
  }
}
