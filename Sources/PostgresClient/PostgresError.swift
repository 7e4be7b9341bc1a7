// The one error type of this client: what failed, where, and whether trying again helps.

import Foundation

/// An error of PostgreSQL, of the connection to it, or of a value on the way in or out.
public struct PostgresError: Error, Sendable, CustomStringConvertible, LocalizedError {
  /// Where something went wrong.
  public enum Kind: Sendable, Hashable {
    /// The server refused a statement; `sqlState` says why.
    case server
    /// There is no connection: the server is missing, refuses it, or the connection broke.
    case connection
    /// A parameter or a connection string has no valid form; nothing was sent.
    case invalidParameter
    /// A column is missing or holds another type than was asked for.
    case decoding
    /// The client was closed, or was used in a way that its documentation rules out.
    case misuse
  }

  public var kind: Kind
  /// The five-character SQLSTATE, if the server sent one.
  public var sqlState: String?
  /// One sentence for a person; never holds a password.
  public var message: String
  /// What the server adds in detail; it may quote values.
  public var detail: String?
  /// What the server advises.
  public var hint: String?
  /// The constraint that was violated.
  public var constraint: String?
  /// The start of the statement, with `$n` in place of values.
  public var query: String?

  /// - Parameter query: only its beginning is kept.
  public init(
    kind: Kind, sqlState: String? = nil, message: String, detail: String? = nil,
    hint: String? = nil, constraint: String? = nil, query: String? = nil
  ) {
    self.kind = kind
    self.sqlState = sqlState
    self.message = message
    self.detail = detail
    self.hint = hint
    self.constraint = constraint
    self.query = query.map { Self.excerpt($0) }
  }

  static func invalidParameter(_ message: String) -> PostgresError {
    PostgresError(kind: .invalidParameter, message: message)
  }

  static func decoding(_ message: String) -> PostgresError {
    PostgresError(kind: .decoding, message: message)
  }

  private static func excerpt(_ sql: String) -> String {
    let oneLine = sql.split { $0.isWhitespace }.joined(separator: " ")
    return oneLine.count <= 200 ? oneLine : oneLine.prefix(200) + "…"
  }

  /// Whether the same work may succeed when it is tried again: serialization failure, deadlock,
  /// lost connection (also one that idled in a transaction for longer than it may), server starting
  /// or shutting down, and what somebody mends or what passes: no room on disk, in memory or for
  /// connections (class 53), errors of the server's system (class 58), a server that has become a
  /// standby (25006), a statement or a lock that took longer than it may (57014, 55P03).
  public var isRetryable: Bool {
    if kind == .server || kind == .connection, let sqlState {
      return Self.passingClasses.contains { sqlState.hasPrefix($0) }
        || Self.passing.contains(sqlState)
    }
    return kind == .connection
  }

  private static let passingClasses = ["08", "53", "57P0", "58"]
  private static let passing: Set = ["40001", "40P01", "25006", "25P03", "55P03", "57014"]

  /// Whether there is no usable connection (any more).
  public var isConnectionFailure: Bool {
    kind == .connection || sqlState?.hasPrefix("08") == true
      || sqlState?.hasPrefix("57P0") == true
  }

  /// Whether it is about a value that was sent: of a wrong form or out of range (class 22), against a constraint
  /// (23), larger than a limit of the server (54000), or none that could be sent at all. No retry helps; other values
  /// may be taken.
  public var isDataError: Bool {
    kind == .invalidParameter || sqlState?.hasPrefix("22") == true
      || sqlState?.hasPrefix("23") == true || sqlState == "54000"
  }

  /// SQLSTATE 23505.
  public var isUniqueViolation: Bool { sqlState == "23505" }

  public var description: String {
    var text =
      switch kind {
      case .server, .connection: "PostgreSQL: "
      case .invalidParameter: "PostgreSQL parameter: "
      case .decoding: "PostgreSQL result: "
      case .misuse: "PostgreSQL client: "
      }
    text += message
    if let sqlState { text += " [\(sqlState)]" }
    if let detail { text += " (\(detail))" }
    if let hint { text += " Hint: \(hint)" }
    if let query { text += " Statement: \(query)" }
    return text
  }

  public var errorDescription: String? { description }
}
