// State of detectors as few bytes: what a scheduler keeps for each of a million users.

import Foundation

/// A value whose state fits in few bytes and comes back bit for bit.
///
/// As `Codable` it is one string, base64 of the bytes, so that it can also live in JSON.
public protocol CompactState: Codable, Sendable, Hashable {
  /// Appends the state, as `init(reading:)` reads it.
  func write(to writer: inout StateWriter)
  /// Throws ``StateError`` where the bytes are not such a state.
  init(reading reader: inout StateReader) throws
}

/// Why bytes are not the state of a detector.
public struct StateError: Error, Sendable, Hashable, CustomStringConvertible {
  public let description: String

  package init(_ description: String) { self.description = "detector state: \(description)" }
}

extension CompactState {
  /// The state as bytes.
  public var bytes: [UInt8] {
    var writer = StateWriter()
    write(to: &writer)
    return writer.bytes
  }

  /// The value of a state. Throws ``StateError``.
  public init(bytes: [UInt8]) throws {
    var reader = StateReader(bytes)
    try self.init(reading: &reader)
    guard reader.isAtEnd else {
      throw StateError("\(reader.left) bytes too many; written by another release?")
    }
  }

  public init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let data = Data(base64Encoded: text) else {
      throw StateError("not base64: \(text.prefix(24))…")
    }
    try self.init(bytes: Array(data))
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(Data(bytes).base64EncodedString())
  }
}

/// Appends numbers to bytes; integers as LEB128, little ones in one byte.
public struct StateWriter {
  package private(set) var bytes: [UInt8] = []

  package mutating func byte(_ value: UInt8) { bytes.append(value) }

  package mutating func unsigned(_ value: Int) {
    var left = UInt64(max(0, value))
    while left > 127 {
      bytes.append(UInt8(left & 127) | 128)
      left >>= 7
    }
    bytes.append(UInt8(left))
  }

  /// Zigzag: the sign in the lowest bit.
  package mutating func signed(_ value: Int) {
    unsigned(value >= 0 ? value << 1 : ((-1 - value) << 1) | 1)
  }

  package mutating func fixed<Value: FixedWidthInteger>(_ value: Value) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  package mutating func double(_ value: Double) { fixed(value.bitPattern) }

  package mutating func text(_ value: String) {
    unsigned(value.utf8.count)
    bytes.append(contentsOf: value.utf8)
  }
}

/// Reads what ``StateWriter`` wrote; every size is checked.
public struct StateReader {
  private let bytes: [UInt8]
  private var position = 0

  package init(_ bytes: [UInt8]) { self.bytes = bytes }

  package var left: Int { bytes.count - position }
  package var isAtEnd: Bool { left == 0 }

  package mutating func byte() throws -> UInt8 {
    guard left > 0 else { throw StateError("ends after \(bytes.count) bytes, in the middle") }
    position += 1
    return bytes[position - 1]
  }

  package mutating func unsigned(upTo limit: Int = 1 << 48) throws -> Int {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      let next = try byte()
      guard shift < 56 else { throw StateError("a number of more than eight bytes") }
      value |= UInt64(next & 127) << shift
      if next < 128 { break }
      shift += 7
    }
    guard value <= UInt64(limit) else { throw StateError("\(value) where at most \(limit) can be") }
    return Int(value)
  }

  package mutating func signed() throws -> Int {
    let value = try unsigned()
    return value & 1 == 0 ? value >> 1 : -1 - (value >> 1)
  }

  package mutating func fixed<Value: FixedWidthInteger>(_ type: Value.Type) throws -> Value {
    var value: Value = 0
    for shift in 0..<(Value.bitWidth / 8) {
      value |= Value(truncatingIfNeeded: try byte()) << (8 * shift)
    }
    return value
  }

  package mutating func double() throws -> Double { Double(bitPattern: try fixed(UInt64.self)) }

  package mutating func text(upTo limit: Int) throws -> String {
    let count = try unsigned(upTo: limit)
    guard left >= count else { throw StateError("ends in the middle of a text") }
    position += count
    return String(decoding: bytes[(position - count)..<position], as: UTF8.self)
  }
}
