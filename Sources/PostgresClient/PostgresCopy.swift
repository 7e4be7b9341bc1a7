// COPY … FROM STDIN: the fast way in for many rows.

import CLibPQ
import Foundation

/// Rows in COPY's binary format, written value by value into one buffer.
///
/// Begin each row, then append a value for every column of the COPY, each in the column's own type.
public struct PostgresBinaryRows: Sendable {
  /// COPY's rows, without the header and the end that `copyIn` adds.
  public private(set) var bytes: [UInt8] = []
  /// Rows begun.
  public private(set) var count = 0
  private let width: Int16

  /// - Parameter columns: how many values a row has.
  public init(columns: Int) { width = Int16(clamping: columns) }

  /// Makes room for so many bytes in all.
  public mutating func reserveCapacity(_ bytes: Int) { self.bytes.reserveCapacity(bytes) }

  /// Begins the next row; the one before it must have all its values.
  public mutating func beginRow() {
    bytes.append(bigEndian: width)
    count += 1
  }

  /// NULL, of any type.
  public mutating func appendNull() { bytes.append(bigEndian: Int32(-1)) }

  /// `text`, or another type that COPY reads from plain UTF-8.
  public mutating func append(_ text: String) {
    var text = text
    text.withUTF8 { appendField(UnsafeRawBufferPointer($0)) }
  }

  /// The same; nil is NULL.
  public mutating func append(_ text: String?) {
    if let text { append(text) } else { appendNull() }
  }

  /// `integer`.
  public mutating func append(_ value: Int32) {
    bytes.append(bigEndian: Int32(4))
    bytes.append(bigEndian: value)
  }

  /// `bigint`.
  public mutating func append(_ value: Int64) {
    bytes.append(bigEndian: Int32(8))
    bytes.append(bigEndian: value)
  }

  /// `jsonb`, from one JSON value in UTF-8.
  public mutating func append(json: [UInt8]) {
    bytes.append(bigEndian: Int32(truncatingIfNeeded: json.count + 1))
    bytes.append(1)  // jsonb's wire version
    bytes.append(contentsOf: json)
  }

  /// `timestamptz`, to the microsecond.
  /// - Throws: `PostgresError` for a date outside its range.
  public mutating func append(_ date: Date) throws {
    append(try PostgresTimestamp.microseconds(date))
  }

  /// Overwrites an `int8` that was appended; `offset` is that of its first byte in ``bytes``.
  public mutating func overwrite(_ value: Int64, at offset: Int) {
    bytes.withUnsafeMutableBytes { bytes in
      bytes.storeBytes(of: value.bigEndian, toByteOffset: offset, as: Int64.self)
    }
  }

  private mutating func appendField(_ field: UnsafeRawBufferPointer) {
    bytes.append(bigEndian: Int32(truncatingIfNeeded: field.count))
    bytes.append(contentsOf: field)
  }
}

extension PostgresConnection {
  /// Copies rows in binary format into a table, all or none.
  ///
  /// - Returns: the number of rows copied.
  /// - Throws: `PostgresError` of kind `.server` if the server refuses a value;
  ///   `CancellationError`.
  @discardableResult
  public func copyIn(
    table: String, columns: [String], rows: PostgresBinaryRows
  ) async throws -> Int {
    // The signature, no flags, no header extension; -1 for a column count ends the rows.
    let header: [UInt8] =
      Array("PGCOPY\n".utf8) + [0xFF, 0x0D, 0x0A, 0] + [0, 0, 0, 0, 0, 0, 0, 0]
    return try await copyIn(table: table, columns: columns, format: " (FORMAT binary)") {
      connection, pointer in
      try connection.send(header[...], on: pointer)
      let chunk = 1 << 18
      for start in stride(from: 0, to: rows.bytes.count, by: chunk) {
        try connection.send(
          rows.bytes[start..<min(start + chunk, rows.bytes.count)], on: pointer)
      }
      try connection.send([0xFF, 0xFF], on: pointer)
    }
  }

  private func send(_ bytes: ArraySlice<UInt8>, on pointer: OpaquePointer) throws {
    let sent = bytes.withUnsafeBytes { bytes in
      PQputCopyData(
        pointer, bytes.baseAddress?.assumingMemoryBound(to: CChar.self),
        Int32(clamping: bytes.count))
    }
    guard sent == 1 else { throw statementFailure(on: pointer) }
  }

  /// Copies rows into a table, all or none.
  ///
  /// - Parameters:
  ///   - table: the table's name, `schema.table` allowed; quoted here.
  ///   - columns: the columns that the values of each row fill, in order.
  ///   - rows: nil is NULL. Every row has as many values as there are columns.
  /// - Returns: the number of rows copied.
  /// - Throws: `PostgresError`: of kind `.server` with the row in `detail` if the server refuses a
  ///   value, `.invalidParameter` for a row of the wrong length; `CancellationError`.
  @discardableResult
  public func copyIn(
    table: String, columns: [String], rows: [[PostgresValue?]]
  ) async throws -> Int {
    try await copyIn(table: table, columns: columns, format: "") { connection, pointer in
      try connection.sendRows(rows, width: columns.count, on: pointer)
    }
  }

  private nonisolated func copyIn(
    table: String, columns: [String], format: String,
    _ sendRows: @Sendable (isolated PostgresConnection, OpaquePointer) throws -> Void
  ) async throws -> Int {
    let names = columns.map(quotedIdentifier).joined(separator: ", ")
    let sql = "COPY \(quotedIdentifier(table)) (\(names)) FROM STDIN\(format)"
    if sql.utf8.contains(0) {
      throw PostgresError.invalidParameter("a table or column name contains U+0000")
    }
    return try await cancellable { connection, pointer in
      guard let start = PQexec(pointer, sql) else { throw statementFailure(on: pointer) }
      guard PQresultStatus(start) == PGRES_COPY_IN else {
        return try connection.check(start, on: pointer, query: sql).affectedRows  // throws
      }
      PQclear(start)
      var failure: (any Error)?
      do { try sendRows(connection, pointer) } catch {
        failure = error
      }
      let ended =
        failure == nil
        ? PQputCopyEnd(pointer, nil)
        : PQputCopyEnd(pointer, "the client could not make the next row")
      var copied = 0
      // The final result and then nil; every result must be read before the next statement.
      while let result = PQgetResult(pointer) {
        do { copied = try connection.check(result, on: pointer, query: sql).affectedRows } catch {
          failure = failure ?? error
        }
      }
      if let failure { throw failure }
      guard ended == 1 else { throw statementFailure(on: pointer) }
      return copied
    }
  }

  private func sendRows(
    _ rows: [[PostgresValue?]], width: Int, on pointer: OpaquePointer
  ) throws {
    let chunk = 1 << 16
    var buffer: [UInt8] = []
    buffer.reserveCapacity(chunk * 2)
    func flush() throws {
      guard
        buffer.withUnsafeBufferPointer({ bytes in
          bytes.withMemoryRebound(to: CChar.self) {
            PQputCopyData(pointer, $0.baseAddress, Int32(clamping: $0.count))
          }
        }) == 1
      else { throw statementFailure(on: pointer) }
      buffer.removeAll(keepingCapacity: true)
    }
    for (index, row) in rows.enumerated() {
      guard row.count == width else {
        throw PostgresError.invalidParameter(
          "row \(index) of a COPY has \(row.count) values for \(width) columns")
      }
      let start = buffer.count
      for (column, value) in row.enumerated() {
        if column > 0 { buffer.append(0x09) }
        if let value {
          try value.appendCopyText(to: &buffer)
        } else {
          buffer.append(contentsOf: [0x5C, 0x4E])  // \N
        }
      }
      buffer.append(0x0A)
      guard buffer.count - start < 1 << 30 else {
        throw PostgresError.invalidParameter("row \(index) of a COPY is longer than 1 GiB")
      }
      if buffer.count >= chunk { try flush() }
    }
    if !buffer.isEmpty { try flush() }
  }
}
