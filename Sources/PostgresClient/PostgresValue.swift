// A value on its way to PostgreSQL, with its two wire forms: binary parameter and COPY text.

import Foundation

/// The PostgreSQL types that this client sends.
public enum PostgresType: Sendable, Hashable {
  case text
  case int4
  case int8
  case float4
  case float8
  case bool
  case bytea
  case timestamptz
  case uuid
  case jsonb

  /// The type's object id in `pg_type`, fixed for built-in types.
  var oid: UInt32 {
    switch self {
    case .text: 25
    case .int4: 23
    case .int8: 20
    case .float4: 700
    case .float8: 701
    case .bool: 16
    case .bytea: 17
    case .timestamptz: 1184
    case .uuid: 2950
    case .jsonb: 3802
    }
  }

  /// The object id of the one-dimensional array of this type.
  var arrayOID: UInt32 {
    switch self {
    case .text: 1009
    case .int4: 1007
    case .int8: 1016
    case .float4: 1021
    case .float8: 1022
    case .bool: 1000
    case .bytea: 1001
    case .timestamptz: 1185
    case .uuid: 2951
    case .jsonb: 3807
    }
  }

  /// The type declared for a parameter. Text is left for the server to infer (0), so that a Swift
  /// string can fill a column of any type that has a text form: enum, jsonb, inet, interval.
  var parameterOID: UInt32 { self == .text ? 0 : oid }
}

/// A value to send. Cases hold Swift's natural types; the wire forms are made when it is sent.
public enum PostgresValue: Sendable, Hashable {
  case text(String)
  case int32(Int32)
  case int(Int64)
  case float(Float)
  case double(Double)
  case bool(Bool)
  case bytes(Data)
  /// `timestamptz`, kept to the microsecond.
  case timestamp(Date)
  case uuid(UUID)
  /// One JSON document, UTF-8.
  case json(Data)
  /// A one-dimensional array; nil elements are NULL.
  indirect case array(PostgresType, [PostgresValue?])

  /// The `jsonb` form of any encodable value, with sorted keys.
  ///
  /// - Throws: `PostgresError` of kind `.invalidParameter` if `value` has no JSON form.
  public static func json(encoding value: some Encodable) throws -> PostgresValue {
    .json(try PostgresJSONCoding.encode(value))
  }
}

/// Microseconds between PostgreSQL's epoch (2000-01-01) and Foundation's (2001-01-01).
private let referenceDateMicroseconds: Int64 = 31_622_400_000_000

enum PostgresTimestamp {
  /// Microseconds since 2000-01-01 UTC, PostgreSQL's own unit.
  static func microseconds(_ date: Date) throws -> Int64 {
    let micros = (date.timeIntervalSinceReferenceDate * 1e6).rounded()
    // PostgreSQL ends at year 294276; a Double within ±9e18 converts to Int64 without a trap.
    guard micros.isFinite, abs(micros) < 9.0e18 else {
      throw PostgresError.invalidParameter(
        "a date \(date.timeIntervalSinceReferenceDate) s from 2001 is outside timestamptz's range")
    }
    return Int64(micros) + referenceDateMicroseconds
  }

  static func date(microseconds: Int64) -> Date {
    // Infinity and -infinity are the extremes of Int64; saturate rather than trap.
    let (micros, overflow) = microseconds.subtractingReportingOverflow(referenceDateMicroseconds)
    if overflow || microseconds == .max {
      return microseconds < 0 ? .distantPast : .distantFuture
    }
    let whole = micros.quotientAndRemainder(dividingBy: 1_000_000)
    return Date(
      timeIntervalSinceReferenceDate: Double(whole.quotient) + Double(whole.remainder) / 1e6)
  }

  /// ISO text in UTC for COPY, by the days-to-civil algorithm of H. Hinnant (proleptic Gregorian).
  static func text(_ date: Date) throws -> String {
    let micros = try microseconds(date)
    var (days, rest) = micros.quotientAndRemainder(dividingBy: 86_400_000_000)
    if rest < 0 {
      rest += 86_400_000_000
      days -= 1
    }
    let z = days + 10_957 + 719_468  // days since 0000-03-01; 10957 days lie between 1970 and 2000
    let era = (z >= 0 ? z : z - 146_096) / 146_097
    let dayOfEra = z - era * 146_097
    let yearOfEra =
      (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * shifted + 2) / 5 + 1
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    let (seconds, fraction) = rest.quotientAndRemainder(dividingBy: 1_000_000)
    func padded(_ value: Int64, _ width: Int) -> String {
      let digits = String(value)
      return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    let shownYear = year > 0 ? year : 1 - year
    return padded(shownYear, 4) + "-" + padded(month, 2) + "-" + padded(day, 2) + " "
      + padded(seconds / 3600, 2) + ":" + padded(seconds / 60 % 60, 2) + ":"
      + padded(seconds % 60, 2) + "." + padded(fraction, 6) + "+00" + (year > 0 ? "" : " BC")
  }
}

/// Times are in ISO 8601; numbers that JSON does not know are texts.
enum PostgresJSONCoding {
  static func encode(_ value: some Encodable) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.dateEncodingStrategy = .iso8601
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    do { return try encoder.encode(value) } catch {
      throw PostgresError.invalidParameter("\(type(of: value)) has no JSON form: \(error)")
    }
  }

  static func decode<T: Decodable>(_ type: T.Type, from data: Data) throws -> T {
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return try decoder.decode(type, from: data)
  }
}

// MARK: - Binary form

extension PostgresValue {
  /// The bytes of a parameter and whether they are in binary format.
  func parameterBytes() throws -> (bytes: [UInt8], binary: Bool) {
    if case .text(let string) = self {
      // libpq reads a text parameter up to its first NUL: it would be cut silently.
      var utf8 = Array(string.utf8)
      if utf8.contains(0) {
        throw PostgresError.invalidParameter(
          "a text parameter of \(utf8.count) bytes contains U+0000, which PostgreSQL cannot store")
      }
      utf8.append(0)
      return (utf8, false)
    }
    var bytes: [UInt8] = []
    try appendBinary(to: &bytes)
    return (bytes, true)
  }

  /// The type that a parameter of this value is declared with.
  var parameterOID: UInt32 {
    switch self {
    case .array(let element, _): element.arrayOID
    default: type?.parameterOID ?? 0
    }
  }

  /// The scalar type; nil for an array.
  private var type: PostgresType? {
    switch self {
    case .text: .text
    case .int32: .int4
    case .int: .int8
    case .float: .float4
    case .double: .float8
    case .bool: .bool
    case .bytes: .bytea
    case .timestamp: .timestamptz
    case .uuid: .uuid
    case .json: .jsonb
    case .array: nil
    }
  }

  private func appendBinary(to bytes: inout [UInt8]) throws {
    switch self {
    case .text(let value): bytes.append(contentsOf: value.utf8)
    case .int32(let value): bytes.append(bigEndian: value)
    case .int(let value): bytes.append(bigEndian: value)
    case .float(let value): bytes.append(bigEndian: value.bitPattern)
    case .double(let value): bytes.append(bigEndian: value.bitPattern)
    case .bool(let value): bytes.append(value ? 1 : 0)
    case .bytes(let value): bytes.append(contentsOf: value)
    case .timestamp(let value):
      bytes.append(bigEndian: try PostgresTimestamp.microseconds(value))
    case .uuid(let value): withUnsafeBytes(of: value.uuid) { bytes.append(contentsOf: $0) }
    case .json(let value):
      bytes.append(1)  // jsonb's wire version
      bytes.append(contentsOf: value)
    case .array(let element, let values):
      try appendBinaryArray(of: element, values, to: &bytes)
    }
  }

  private func appendBinaryArray(
    of element: PostgresType, _ values: [PostgresValue?], to bytes: inout [UInt8]
  ) throws {
    guard let count = Int32(exactly: values.count) else {
      throw PostgresError.invalidParameter("an array of \(values.count) elements is too long")
    }
    bytes.append(bigEndian: Int32(count == 0 ? 0 : 1))  // dimensions
    bytes.append(bigEndian: Int32(values.contains { $0 == nil } ? 1 : 0))  // has NULLs
    bytes.append(bigEndian: element.oid)
    if count == 0 { return }
    bytes.append(bigEndian: count)
    bytes.append(bigEndian: Int32(1))  // lower bound
    for value in values {
      guard let value else {
        bytes.append(bigEndian: Int32(-1))
        continue
      }
      guard value.type == element else {
        throw PostgresError.invalidParameter(
          "an array of \(element) holds another kind of value, \(value.type.map { "\($0)" } ?? "array")"
        )
      }
      let start = bytes.count
      bytes.append(bigEndian: Int32(0))
      try value.appendBinary(to: &bytes)
      guard let length = Int32(exactly: bytes.count - start - 4) else {
        throw PostgresError.invalidParameter("an array element is longer than 2 GiB")
      }
      withUnsafeBytes(of: length.bigEndian) { source in
        for index in 0..<4 { bytes[start + index] = source[index] }
      }
    }
  }
}

extension [UInt8] {
  mutating func append<T: FixedWidthInteger>(bigEndian value: T) {
    Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
  }
}

// MARK: - COPY text form

extension PostgresValue {
  /// Appends the value in COPY's text format, escaped.
  func appendCopyText(to bytes: inout [UInt8]) throws {
    switch self {
    case .text(let value): bytes.appendCopyEscaped(value.utf8)
    case .json(let value): bytes.appendCopyEscaped(value)
    case .bytes(let value):
      bytes.reserveCapacity(bytes.count + value.count * 2 + 3)
      bytes.append(contentsOf: [0x5C, 0x5C, 0x78])  // \\x: the backslash itself is escaped
      bytes.appendHexadecimal(value)
    default: bytes.appendCopyEscaped(try plainText().utf8)
    }
  }

  /// The server's text input form, not escaped for any container.
  private func plainText() throws -> String {
    switch self {
    case .text(let value): return value
    case .int32(let value): return String(value)
    case .int(let value): return String(value)
    case .float(let value): return Self.text(of: Double(value), shortest: value.description)
    case .double(let value): return Self.text(of: value, shortest: value.description)
    case .bool(let value): return value ? "t" : "f"
    case .bytes(let value):
      var hexadecimal: [UInt8] = [0x5C, 0x78]
      hexadecimal.appendHexadecimal(value)
      return String(decoding: hexadecimal, as: UTF8.self)
    case .timestamp(let value): return try PostgresTimestamp.text(value)
    case .uuid(let value): return value.uuidString
    case .json(let value): return String(decoding: value, as: UTF8.self)
    case .array(_, let values):
      let elements = try values.map { value -> String in
        guard let value else { return "NULL" }
        if case .array = value {
          throw PostgresError.invalidParameter("an array inside an array is not supported")
        }
        let escaped = try value.plainText()
          .replacingOccurrences(of: "\\", with: "\\\\")
          .replacingOccurrences(of: "\"", with: "\\\"")
        return "\"\(escaped)\""
      }
      return "{" + elements.joined(separator: ",") + "}"
    }
  }

  private static func text(of value: Double, shortest: String) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Infinity" : "Infinity" }
    return shortest
  }
}

extension [UInt8] {
  /// Escapes what COPY's text format gives a meaning: backslash, tab, newline, carriage return.
  fileprivate mutating func appendCopyEscaped(_ text: some Sequence<UInt8>) {
    for byte in text {
      switch byte {
      case 0x5C:
        append(0x5C)
        append(0x5C)
      case 0x09:
        append(0x5C)
        append(0x74)
      case 0x0A:
        append(0x5C)
        append(0x6E)
      case 0x0D:
        append(0x5C)
        append(0x72)
      default: append(byte)
      }
    }
  }

  fileprivate mutating func appendHexadecimal(_ data: Data) {
    let digits = Array("0123456789abcdef".utf8)
    for byte in data {
      append(digits[Int(byte >> 4)])
      append(digits[Int(byte & 15)])
    }
  }
}
