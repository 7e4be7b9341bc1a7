// Rows of a result: views into libpq's own memory, decoded when asked.

import CLibPQ
import Foundation

/// One result of libpq and its memory.
///
/// `@unchecked Sendable`: a PGresult is never changed after `PQgetResult` returned it, and libpq
/// documents it as safe to read from any thread; it is freed once, when the last row is gone.
final class PostgresResultSet: @unchecked Sendable {
  let pointer: OpaquePointer
  let rowCount: Int
  let columns: [String]
  let typeOIDs: [UInt32]
  let indexOfColumn: [String: Int]

  /// Takes ownership of a PGresult.
  init(owning pointer: OpaquePointer) {
    self.pointer = pointer
    rowCount = Int(PQntuples(pointer))
    let fields = PQnfields(pointer)
    columns = (0..<fields).map { PQfname(pointer, $0).map { String(cString: $0) } ?? "" }
    typeOIDs = (0..<fields).map { PQftype(pointer, $0) }
    indexOfColumn = Dictionary(
      columns.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
  }

  deinit { PQclear(pointer) }

  var rows: [PostgresRow] { (0..<rowCount).map { PostgresRow(result: self, index: $0) } }

  /// Rows that the statement inserted, changed, deleted or returned.
  var affectedRows: Int {
    PQcmdTuples(pointer).flatMap { Int(String(cString: $0)) } ?? 0
  }
}

/// One row of a result. Keeps the result's memory alive.
public struct PostgresRow: Sendable {
  let result: PostgresResultSet
  let index: Int

  /// The names of the columns, in order.
  public var columns: [String] { result.columns }

  /// The value of a column.
  ///
  /// NULL decodes into an optional type only.
  /// - Throws: `PostgresError` of kind `.decoding` that names the column, the type asked for and
  ///   what the column holds.
  public func decode<T: PostgresDecodable>(_ column: String, as type: T.Type = T.self) throws -> T {
    guard let field = result.indexOfColumn[column] else {
      throw PostgresError.decoding(
        "there is no column \"\(column)\"; the columns are \(columns.joined(separator: ", "))")
    }
    return try decode(at: field, as: type)
  }

  /// The value of a column by its position from 0.
  ///
  /// - Throws: as `decode(_:as:)`.
  public func decode<T: PostgresDecodable>(at field: Int, as type: T.Type = T.self) throws -> T {
    guard result.columns.indices.contains(field) else {
      throw PostgresError.decoding(
        "there is no column \(field); the result has \(columns.count) columns")
    }
    let (row, column) = (Int32(index), Int32(field))
    var content: UnsafeRawBufferPointer?
    if PQgetisnull(result.pointer, row, column) == 0 {
      content = UnsafeRawBufferPointer(
        start: PQgetvalue(result.pointer, row, column),
        count: Int(PQgetlength(result.pointer, row, column)))
    }
    return try withExtendedLifetime(result) {
      try T(
        postgres: PostgresCell(
          column: result.columns[field], typeOID: result.typeOIDs[field], content: content))
    }
  }
}

/// One column of one row while it is decoded; valid only during `PostgresDecodable.init`.
public struct PostgresCell {
  public let column: String
  /// PostgreSQL's object id of the column's type.
  public let typeOID: UInt32
  let content: UnsafeRawBufferPointer?

  /// Whether it is NULL.
  public var isNull: Bool { content == nil }

  /// The value in PostgreSQL's binary format.
  ///
  /// - Throws: `PostgresError` of kind `.decoding` if the value is NULL.
  public func bytes<T>(as type: T.Type) throws -> UnsafeRawBufferPointer {
    guard let content else {
      throw PostgresError.decoding(
        "column \"\(column)\" is NULL where \(type) was asked for; decode it as \(type)?")
    }
    return content
  }

  /// The error for a column whose type does not fit `type`.
  public func mismatch<T>(_ type: T.Type) -> PostgresError {
    .decoding(
      "column \"\(column)\" holds \(Self.name(of: typeOID)) of \(content?.count ?? 0) bytes,"
        + " which does not decode as \(type)")
  }

  private static func name(of oid: UInt32) -> String {
    let names: [UInt32: String] = [
      16: "bool", 17: "bytea", 19: "name", 20: "int8", 21: "int2", 23: "int4", 25: "text",
      26: "oid", 114: "json", 700: "float4", 701: "float8", 1000: "bool[]", 1007: "int4[]",
      1009: "text[]", 1016: "int8[]", 1022: "float8[]", 1043: "varchar", 1082: "date",
      1083: "time", 1114: "timestamp", 1184: "timestamptz", 1185: "timestamptz[]",
      1186: "interval", 1700: "numeric", 2278: "void", 2950: "uuid", 2951: "uuid[]",
      3802: "jsonb",
    ]
    return names[oid] ?? "type \(oid)"
  }
}
