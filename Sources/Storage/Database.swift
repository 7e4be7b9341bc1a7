// What every repository needs of a database: a pooled client or a connection inside a transaction.

import Foundation
import Personalization
import PostgresClient

/// Runs statements: the pool (each statement on its own) or one connection (inside its transaction).
public protocol Database: Sendable {
  func query(_ query: PostgresQuery) async throws -> [PostgresRow]
  @discardableResult func execute(_ query: PostgresQuery) async throws -> Int
}

extension PostgresClient: Database {}
extension PostgresConnection: Database {}

/// One user's stream of one task.
public struct StreamID: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
  public let userID: String
  public let task: String

  public init(userID: String, task: String) {
    self.userID = userID
    self.task = task
  }

  /// For people: stands in sentences, so what a terminal would act on, or what ends a line, is written out.
  public var description: String {
    "\(userID)/\(task)".unicodeScalars.reduce(into: "") { text, scalar in
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator:
        text += scalar.escaped(asASCII: true)
      default: text.unicodeScalars.append(scalar)
      }
    }
  }

  // By bytes, as PostgreSQL compares ids: Swift's own == takes "é" in one code point and in two for the same.
  public static func == (a: StreamID, b: StreamID) -> Bool {
    a.userID.utf8.elementsEqual(b.userID.utf8) && a.task.utf8.elementsEqual(b.task.utf8)
  }

  public func hash(into hasher: inout Hasher) {
    for text in [userID, task] {
      var text = text
      text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
      hasher.combine(UInt8(0xFF))
    }
  }

  /// The order in which rows are locked everywhere, so that transactions do not deadlock.
  public static func < (a: StreamID, b: StreamID) -> Bool {
    a.userID.utf8.elementsEqual(b.userID.utf8)
      ? a.task.utf8.lexicographicallyPrecedes(b.task.utf8)
      : a.userID.utf8.lexicographicallyPrecedes(b.userID.utf8)
  }
}

extension JSONValue {
  /// With the names of fields in snake_case: numbers of the detectors are stored under the names of their types.
  var withFieldNames: JSONValue {
    switch self {
    case .array(let values): .array(values.map(\.withFieldNames))
    case .object(let fields):
      .object(
        Dictionary(
          fields.map { key, value in
            let name = key.reduce(into: "") { name, letter in
              name += letter.isUppercase ? "_\(letter.lowercased())" : String(letter)
            }
            return (name, value.withFieldNames)
          }, uniquingKeysWith: { $1 }))
    default: self
    }
  }
}

extension PostgresRow {
  func stream() throws -> StreamID {
    StreamID(userID: try decode("user_id"), task: try decode("task"))
  }

  /// The pair of texts in a column and the next one.
  func stream(at field: Int) throws -> StreamID {
    StreamID(userID: try decode(at: field), task: try decode(at: field + 1))
  }

  func json<T: Codable & Sendable>(_ column: String, as type: T.Type = T.self) throws -> T {
    try decode(column, as: PostgresJSON<T>.self).value
  }

  func optionalJSON<T: Codable & Sendable>(_ column: String, as type: T.Type = T.self) throws -> T?
  {
    try decode(column, as: PostgresJSON<T>?.self)?.value
  }
}
