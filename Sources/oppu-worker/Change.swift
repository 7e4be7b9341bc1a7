// What a verb that changes something would do, or did: one document, and one way to both.

import ArgumentParsing
import Foundation
import JSON
import Personalization

extension OutputOptions {
  /// Prints what a verb did or, without `--execute`, would do: a sentence, or the fields beside `action` and
  /// `executed`.
  func print<Detail: Encodable>(
    _ action: String, executed: Bool, _ detail: Detail, plan: String, done: String
  ) throws {
    guard output == .text else {
      var fields = try DocumentEncoder.json(detail).object ?? [:]
      fields["action"] = .string(action)
      fields["executed"] = .bool(executed)
      return Swift.print(try Self.json(JSONValue.object(fields), pretty: output == .json))
    }
    guard executed else {
      oppu_worker.print(plan)
      return Plan.notDone()
    }
    oppu_worker.print(done)
  }
}

enum Plan {
  static func notDone() { print("Nothing was changed; run again with --execute.") }
}
