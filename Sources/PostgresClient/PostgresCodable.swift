// Which Swift types go into a query and come out of a row, and how.

import Foundation

/// A Swift value that can be a query parameter.
public protocol PostgresEncodable: Sendable {
  /// The PostgreSQL type of a value of this Swift type; it also types NULL and array elements.
  static var postgresType: PostgresType { get }
  /// The value to send; nil is NULL.
  ///
  /// - Throws: `PostgresError` of kind `.invalidParameter` if the value has no PostgreSQL form.
  func postgresValue() throws -> PostgresValue?
  /// The object id that a NULL of this Swift type is declared with. Has a default.
  static var nullParameterOID: UInt32 { get }
}

extension PostgresEncodable {
  public static var nullParameterOID: UInt32 { postgresType.parameterOID }
}

extension String: PostgresEncodable {
  public static var postgresType: PostgresType { .text }
  public func postgresValue() -> PostgresValue? { .text(self) }
}

extension Int: PostgresEncodable {
  public static var postgresType: PostgresType { .int8 }
  public func postgresValue() -> PostgresValue? { .int(Int64(self)) }
}

extension Int64: PostgresEncodable {
  public static var postgresType: PostgresType { .int8 }
  public func postgresValue() -> PostgresValue? { .int(self) }
}

extension Int32: PostgresEncodable {
  public static var postgresType: PostgresType { .int4 }
  public func postgresValue() -> PostgresValue? { .int32(self) }
}

extension Double: PostgresEncodable {
  public static var postgresType: PostgresType { .float8 }
  public func postgresValue() -> PostgresValue? { .double(self) }
}

extension Float: PostgresEncodable {
  public static var postgresType: PostgresType { .float4 }
  public func postgresValue() -> PostgresValue? { .float(self) }
}

extension Bool: PostgresEncodable {
  public static var postgresType: PostgresType { .bool }
  public func postgresValue() -> PostgresValue? { .bool(self) }
}

extension Data: PostgresEncodable {
  public static var postgresType: PostgresType { .bytea }
  public func postgresValue() -> PostgresValue? { .bytes(self) }
}

extension Date: PostgresEncodable {
  public static var postgresType: PostgresType { .timestamptz }
  public func postgresValue() -> PostgresValue? { .timestamp(self) }
}

extension UUID: PostgresEncodable {
  public static var postgresType: PostgresType { .uuid }
  public func postgresValue() -> PostgresValue? { .uuid(self) }
}

extension Optional: PostgresEncodable where Wrapped: PostgresEncodable {
  public static var postgresType: PostgresType { Wrapped.postgresType }
  public static var nullParameterOID: UInt32 { Wrapped.nullParameterOID }
  public func postgresValue() throws -> PostgresValue? { try self?.postgresValue() }
}

extension Array: PostgresEncodable where Element: PostgresEncodable {
  public static var postgresType: PostgresType { Element.postgresType }
  public static var nullParameterOID: UInt32 { Element.postgresType.arrayOID }
  public func postgresValue() throws -> PostgresValue? {
    .array(Element.postgresType, try map { try $0.postgresValue() })
  }
}

/// Wraps a `Codable` value that is kept as `jsonb` (or `json`, when read).
public struct PostgresJSON<Value: Codable & Sendable>: Sendable {
  public var value: Value
  public init(_ value: Value) { self.value = value }
}

extension PostgresJSON: PostgresEncodable {
  public static var postgresType: PostgresType { .jsonb }
  public func postgresValue() throws -> PostgresValue? { try .json(encoding: value) }
}

extension PostgresJSON: Equatable where Value: Equatable {}

// MARK: - Decoding

/// A Swift value that can be read from a column.
public protocol PostgresDecodable {
  /// Reads a value.
  ///
  /// - Throws: `PostgresError` of kind `.decoding` that names the column and both types.
  init(postgres cell: PostgresCell) throws
}

extension Optional: PostgresDecodable where Wrapped: PostgresDecodable {
  public init(postgres cell: PostgresCell) throws {
    self = cell.isNull ? nil : try Wrapped(postgres: cell)
  }
}

extension String: PostgresDecodable {
  /// Reads texts, names, JSON and enums as they are, and numbers and UUIDs in their written form.
  public init(postgres cell: PostgresCell) throws {
    let bytes = try cell.bytes(as: String.self)
    switch cell.typeOID {
    case 25, 1043, 1042, 19, 18, 114, 705:  // text, varchar, bpchar, name, char, json, unknown
      self = String(decoding: bytes, as: UTF8.self)
    case 16384...:  // an enum; a domain reports its base type
      self = String(decoding: bytes, as: UTF8.self)
    case 3802 where bytes.first == 1: self = String(decoding: bytes.dropFirst(), as: UTF8.self)
    case 1700: self = try PostgresNumeric(bytes, cell).text
    case 2950: self = try UUID(postgres: cell).uuidString.lowercased()
    case 20, 21, 23: self = String(try Int64(postgres: cell))
    default: throw cell.mismatch(String.self)
    }
  }
}

extension Int64: PostgresDecodable {
  /// Reads `int2`, `int4`, `int8` and `oid`, and a `numeric` that is whole.
  public init(postgres cell: PostgresCell) throws {
    let bytes = try cell.bytes(as: Int64.self)
    switch (cell.typeOID, bytes.count) {
    case (20, 8): self = bytes.bigEndian(Int64.self, at: 0)
    case (23, 4): self = Int64(bytes.bigEndian(Int32.self, at: 0))
    case (21, 2): self = Int64(bytes.bigEndian(Int16.self, at: 0))
    case (26, 4): self = Int64(bytes.bigEndian(UInt32.self, at: 0))  // oid
    case (1700, _):
      guard let value = Int64(try PostgresNumeric(bytes, cell).text) else {
        throw cell.mismatch(Int64.self)
      }
      self = value
    default: throw cell.mismatch(Int64.self)
    }
  }
}

extension Int: PostgresDecodable {
  /// As `Int64`.
  public init(postgres cell: PostgresCell) throws {
    guard let value = Int(exactly: try Int64(postgres: cell)) else {
      throw cell.mismatch(Int.self)
    }
    self = value
  }
}

extension Int32: PostgresDecodable {
  /// As `Int64`, where the number fits.
  public init(postgres cell: PostgresCell) throws {
    guard let value = Int32(exactly: try Int64(postgres: cell)) else {
      throw cell.mismatch(Int32.self)
    }
    self = value
  }
}

extension Double: PostgresDecodable {
  /// Reads `float4`, `float8`, `int2`, `int4`, `int8` and `numeric`, to the nearest.
  public init(postgres cell: PostgresCell) throws {
    let bytes = try cell.bytes(as: Double.self)
    switch (cell.typeOID, bytes.count) {
    case (701, 8): self = Double(bitPattern: bytes.bigEndian(UInt64.self, at: 0))
    case (700, 4): self = Double(Float(bitPattern: bytes.bigEndian(UInt32.self, at: 0)))
    case (20, 8), (23, 4), (21, 2): self = Double(try Int64(postgres: cell))
    case (1700, _):
      guard let value = Double(try PostgresNumeric(bytes, cell).text) else {
        throw cell.mismatch(Double.self)
      }
      self = value
    default: throw cell.mismatch(Double.self)
    }
  }
}

extension Float: PostgresDecodable {
  /// As `Double`, to the nearest.
  public init(postgres cell: PostgresCell) throws { self = Float(try Double(postgres: cell)) }
}

extension Bool: PostgresDecodable {
  public init(postgres cell: PostgresCell) throws {
    let bytes = try cell.bytes(as: Bool.self)
    guard cell.typeOID == 16, bytes.count == 1 else { throw cell.mismatch(Bool.self) }
    self = bytes[0] != 0
  }
}

extension Data: PostgresDecodable {
  /// Reads `bytea`, and texts and JSON as their UTF-8.
  public init(postgres cell: PostgresCell) throws {
    let bytes = try cell.bytes(as: Data.self)
    switch cell.typeOID {
    case 17, 25, 1043, 114: self = Data(bytes)
    case 3802 where bytes.first == 1: self = Data(bytes.dropFirst())
    default: throw cell.mismatch(Data.self)
    }
  }
}

extension Date: PostgresDecodable {
  /// Reads `timestamptz`, `timestamp` (taken as UTC) or `date` (its midnight in UTC).
  public init(postgres cell: PostgresCell) throws {
    let bytes = try cell.bytes(as: Date.self)
    switch (cell.typeOID, bytes.count) {
    case (1184, 8), (1114, 8):
      self = PostgresTimestamp.date(microseconds: bytes.bigEndian(Int64.self, at: 0))
    case (1082, 4):
      let days = Int64(bytes.bigEndian(Int32.self, at: 0))
      self = PostgresTimestamp.date(microseconds: days * 86_400_000_000)
    default: throw cell.mismatch(Date.self)
    }
  }
}

extension UUID: PostgresDecodable {
  public init(postgres cell: PostgresCell) throws {
    let bytes = try cell.bytes(as: UUID.self)
    guard cell.typeOID == 2950, bytes.count == 16 else { throw cell.mismatch(UUID.self) }
    self.init(uuid: bytes.loadUnaligned(as: uuid_t.self))
  }
}

extension PostgresJSON: PostgresDecodable {
  /// Reads `json` and `jsonb`, and text or bytes that hold JSON.
  public init(postgres cell: PostgresCell) throws {
    let data = try Data(postgres: cell)
    do { value = try PostgresJSONCoding.decode(Value.self, from: data) } catch {
      throw PostgresError.decoding(
        "column \"\(cell.column)\": its JSON is no \(Value.self): \(error)")
    }
  }
}

extension Array: PostgresDecodable where Element: PostgresDecodable {
  /// Reads a one-dimensional array; NULL elements need an optional `Element`.
  public init(postgres cell: PostgresCell) throws {
    let bytes = try cell.bytes(as: [Element].self)
    guard bytes.count >= 12 else { throw cell.mismatch([Element].self) }
    let dimensions = bytes.bigEndian(Int32.self, at: 0)
    let elementOID = bytes.bigEndian(UInt32.self, at: 8)
    if dimensions == 0 {
      self = []
      return
    }
    guard dimensions == 1, bytes.count >= 20 else { throw cell.mismatch([Element].self) }
    let count = Int(bytes.bigEndian(Int32.self, at: 12))
    guard count >= 0, count <= bytes.count / 4 else { throw cell.mismatch([Element].self) }
    var elements: [Element] = []
    elements.reserveCapacity(count)
    var position = 20
    for _ in 0..<count {
      guard position + 4 <= bytes.count else { throw cell.mismatch([Element].self) }
      let length = Int(bytes.bigEndian(Int32.self, at: position))
      position += 4
      guard length <= bytes.count - position else { throw cell.mismatch([Element].self) }
      let content =
        length < 0 ? nil : UnsafeRawBufferPointer(rebasing: bytes[position..<position + length])
      elements.append(
        try Element(
          postgres: PostgresCell(column: cell.column, typeOID: elementOID, content: content)))
      position += Swift.max(0, length)
    }
    self = elements
  }
}

/// `numeric` in its wire form: base-10000 digits with a weight, written out as decimal text.
private struct PostgresNumeric {
  let text: String

  init(_ bytes: UnsafeRawBufferPointer, _ cell: PostgresCell) throws {
    guard bytes.count >= 8 else { throw cell.mismatch(String.self) }
    let count = Int(bytes.bigEndian(UInt16.self, at: 0))
    let weight = Int(bytes.bigEndian(Int16.self, at: 2))
    let sign = bytes.bigEndian(UInt16.self, at: 4)
    let scale = Int(bytes.bigEndian(UInt16.self, at: 6))
    guard bytes.count == 8 + 2 * count else { throw cell.mismatch(String.self) }
    switch sign {
    case 0xC000:
      text = "NaN"
      return
    case 0xD000:
      text = "inf"
      return
    case 0xF000:
      text = "-inf"
      return
    default: break
    }
    // The digit group that stands for 10000^power; groups beyond those sent are zero.
    func group(_ power: Int) -> String {
      let index = weight - power
      let value = index >= 0 && index < count ? bytes.bigEndian(UInt16.self, at: 8 + 2 * index) : 0
      let digits = String(value)
      return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
    var whole = weight < 0 ? "0" : (0...weight).reversed().map(group).joined()
    whole = String(whole.drop { $0 == "0" })
    var result = (sign == 0x4000 ? "-" : "") + (whole.isEmpty ? "0" : whole)
    if scale > 0 {
      let groups = (scale + 3) / 4
      result += "." + (1...groups).map { group(-$0) }.joined().prefix(scale)
    }
    text = result
  }
}

extension UnsafeRawBufferPointer {
  /// A big-endian integer at a byte offset that the caller has checked.
  func bigEndian<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type, at offset: Int) -> T {
    T(bigEndian: loadUnaligned(fromByteOffset: offset, as: type))
  }
}
