// libpq's failures turned into PostgresError, and the opening of a connection.

import CLibPQ
import Foundation

func trimmed(_ message: String) -> String {
  message.split { $0.isNewline }.map { $0.trimmingCharacters(in: .whitespaces) }
    .filter { !$0.isEmpty }.joined(separator: " ")
}

/// The error of a failed result. Does not free the result.
func serverFailure(
  _ result: OpaquePointer, on connection: OpaquePointer, query: String
) -> PostgresError {
  func field(_ code: Character) -> String? {
    guard let ascii = code.asciiValue else { return nil }
    return PQresultErrorField(result, Int32(ascii)).map { String(cString: $0) }
  }
  // The codes are those of postgres_ext.h: PG_DIAG_SQLSTATE 'C', _MESSAGE_PRIMARY 'M', …
  let isBroken = PQstatus(connection) != CONNECTION_OK
  let sqlState = field("C")
  let message =
    field("M") ?? PQresultErrorMessage(result).map { trimmed(String(cString: $0)) } ?? ""
  return PostgresError(
    kind: isBroken ? .connection : .server, sqlState: sqlState,
    message: message.isEmpty ? "the statement failed without a message" : message,
    detail: field("D"), hint: field("H"), constraint: field("n"), query: query)
}

/// The error of a call that gave no result at all.
func statementFailure(on connection: OpaquePointer) -> PostgresError {
  let text = PQerrorMessage(connection).map { trimmed(String(cString: $0)) } ?? ""
  return PostgresError(
    kind: PQstatus(connection) == CONNECTION_OK ? .server : .connection,
    message: text.isEmpty ? "the connection was lost" : text)
}

/// The error of a connection that could not be opened.
func connectionFailure(_ connection: OpaquePointer) -> PostgresError {
  func text(_ value: UnsafePointer<CChar>?) -> String {
    value.map { String(cString: $0) } ?? ""
  }
  let host = text(PQhost(connection))
  if host.contains("@") {
    // The rest of a password with a bare @ would be taken, and shown, as the host.
    return .invalidParameter(
      "the connection string holds a second @; write an @ inside user or password as %40")
  }
  let reason = trimmed(text(PQerrorMessage(connection)))
  return PostgresError(
    kind: .connection,
    message: "cannot connect to database \"\(text(PQdb(connection)))\" at"
      + " \(host.isEmpty ? "the local socket" : host), port \(text(PQport(connection))): \(reason)")
}

/// Opens a connection, blocking. The caller checks `PQstatus` and owns the pointer.
func openConnection(_ configuration: PostgresConfiguration) throws -> OpaquePointer {
  let given = try settings(in: configuration.connectionString)
  var keywords = ["dbname"]
  var values = [configuration.connectionString]
  // What the user set stays; these only fill gaps. The keepalives find a vanished server.
  let defaults = [
    ("connect_timeout", "10"), ("keepalives_idle", "30"), ("keepalives_interval", "10"),
    ("keepalives_count", "3"),
    ("fallback_application_name", configuration.applicationName),
  ]
  for (keyword, value) in defaults where !given.contains(keyword) {
    keywords.append(keyword)
    values.append(value)
  }
  keywords.append("client_encoding")
  values.append("UTF8")
  let keywordPointers = keywords.map { UnsafePointer(strdup($0)) } + [nil]
  let valuePointers = values.map { UnsafePointer(strdup($0)) } + [nil]
  defer {
    for pointer in keywordPointers + valuePointers { free(UnsafeMutablePointer(mutating: pointer)) }
  }
  guard let connection = PQconnectdbParams(keywordPointers, valuePointers, 1) else {
    throw PostgresError(kind: .connection, message: "out of memory for a connection")
  }
  return connection
}

/// The keywords that a connection string sets itself.
private func settings(in connectionString: String) throws -> Set<String> {
  var message: UnsafeMutablePointer<CChar>?
  guard let options = PQconninfoParse(connectionString, &message) else {
    defer { PQfreemem(message) }
    // libpq's message quotes the string, which may hold a password: show it only if it cannot.
    let mayHoldPassword = connectionString.contains("@") || connectionString.contains("password")
    let reason = message.map { trimmed(String(cString: $0)) } ?? "out of memory"
    throw PostgresError.invalidParameter(
      "malformed connection string; expected postgresql://user@host:port/database or"
        + " keyword=value pairs\(mayHoldPassword ? "" : ": \(reason)")")
  }
  defer { PQconninfoFree(options) }
  var given: Set<String> = []
  var option = options
  while let keyword = option.pointee.keyword {
    if option.pointee.val != nil { given.insert(String(cString: keyword)) }
    option += 1
  }
  return given
}

/// Waits until a socket has something to read (or has ended).
///
/// - Parameter timeoutMilliseconds: 0 asks without waiting; -1 waits for ever.
func isReadable(_ socket: Int32, timeoutMilliseconds: Int32) -> Bool {
  guard socket >= 0 else { return true }
  var descriptor = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
  return poll(&descriptor, 1, timeoutMilliseconds) > 0
}
