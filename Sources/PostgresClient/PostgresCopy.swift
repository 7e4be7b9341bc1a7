// COPY … FROM STDIN: the fast way in for many rows.

import CLibPQ

extension PostgresConnection {
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
    let names = columns.map(quotedIdentifier).joined(separator: ", ")
    let sql = "COPY \(quotedIdentifier(table)) (\(names)) FROM STDIN"
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
      do { try connection.sendRows(rows, width: columns.count, on: pointer) } catch {
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
