// A JSON value as text, between the message that it came in and the column that it goes to.

/// A JSON value as text that is known to be right: taken out of a checked text, or written from a value.
public struct JSONText: Sendable, Hashable {
  /// UTF-8.
  public let bytes: [UInt8]

  /// Takes over bytes that are one JSON value.
  public init(checked bytes: [UInt8]) { self.bytes = bytes }

  /// The value as it stands in its text.
  public init(_ view: JSONView) { bytes = Array(view.raw) }

  /// The value in its one canonical form.
  public init(_ value: JSONValue) { bytes = Array(value.canonical.utf8) }

  /// The value; null should the bytes be no JSON after all.
  public var value: JSONValue {
    (try? JSONValue(reading: bytes)) ?? .null
  }
}
