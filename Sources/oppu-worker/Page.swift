// Lists a page at a time: how many rows there are, and where the next page begins.

import ArgumentParsing
import Foundation
import JSON
import Personalization

/// Which page of a list is wanted.
struct PageOptions: ParsableArguments {
  @Option(name: .long, help: "Rows at most, from 1.") var limit = 200
  @Option(name: .long, help: "Only rows behind this place, which the page before names.")
  var after: String?

  func validate() throws {
    guard limit >= 1 else { throw ValidationError("--limit takes 1 or more, found \(limit).") }
  }

  /// The values of the place that `--after` names: one, or several as a JSON array.
  /// - Throws: `ValidationError` for what is no place of a list that is ordered by so many values.
  func place(_ count: Int) throws -> [JSONValue]? {
    guard let after else { return nil }
    let value = try? JSONValue(text: after)
    let place = count == 1 ? value.map { [$0] } : value?.array
    guard let place, place.count == count else {
      throw ValidationError(
        "--after \(after): that is no place of this list; a page before names one.")
    }
    return place
  }

  /// The number that `--after` names.
  func number() throws -> Int64? {
    guard let value = try place(1)?.first else { return nil }
    return try Self.number(value)
  }

  static func number(_ value: JSONValue) throws -> Int64 {
    guard let number = value.number, let whole = Int64(exactly: number) else {
      throw ValidationError("--after: \(value.canonical) is not a whole number.")
    }
    return whole
  }
}

/// A part of a list.
struct Page<Row: Encodable>: Encodable {
  let rows: [Row]
  /// Of the whole list.
  let total: Int
  /// For `--after`; nil where nothing follows.
  let next: String?

  /// - Parameters:
  ///   - rows: one more than the page takes, where there are so many.
  ///   - place: where a row stands, for ``PageOptions/place(_:)``.
  init(_ rows: [Row], limit: Int, total: Int, place: (Row) -> [JSONValue]) {
    self.rows = Array(rows.prefix(limit))
    self.total = total
    next =
      rows.count > limit
      ? self.rows.last.map { row in
        let place = place(row)
        return place.count == 1 ? place[0].canonical : JSONValue.array(place).canonical
      } : nil
  }
}

extension OutputOptions {
  /// Prints a page: with `-o json` its rows, the total and the next place in one document. For people, and where
  /// each line is a row, what was left out is said on stderr.
  func print<Row: Encodable>(_ page: Page<Row>, empty: String, columns: [TableColumn<Row>]) throws {
    if output == .json {
      Swift.print(try Self.json(page, pretty: true))
    } else {
      try print(page.rows, empty: page.total == 0 ? empty : "Nothing follows.", columns: columns)
    }
    if output != .json, let next = page.next {
      Failure.say("\(page.rows.count) of \(page.total) shown; the next: --after '\(next)'")
    }
  }
}
