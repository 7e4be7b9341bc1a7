// A value inside a text that JSONReader has checked.

import Foundation

/// A value of a checked text; valid only inside the `body` of ``JSONReader/read(_:_:)``.
public struct JSONView {
  let text: UnsafePointer<UInt8>
  let nodes: UnsafePointer<JSONNode>
  let index: Int

  private var node: JSONNode { nodes[index] }

  public var isNull: Bool { node.kind == .null }
  public var isString: Bool { node.kind == .string }
  public var isNumber: Bool { node.kind == .number }
  public var isObject: Bool { node.kind == .object }
  public var isArray: Bool { node.kind == .array }

  /// What a person calls the kind of value.
  public var kindName: String {
    switch node.kind {
    case .null: "null"
    case .bool: "a boolean"
    case .number: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }

  /// The value's bytes as they came, a string's quotes included.
  public var raw: UnsafeRawBufferPointer {
    let quote = node.kind == .string ? 1 : 0
    return UnsafeRawBufferPointer(
      start: text + Int(node.start) - quote, count: Int(node.end - node.start) + 2 * quote)
  }

  /// The bytes between a string's quotes, where they stand for themselves; nil where some are escaped, and for
  /// anything but a string.
  public var plainBytes: UnsafeBufferPointer<UInt8>? {
    guard node.kind == .string, !node.flag else { return nil }
    return UnsafeBufferPointer(start: text + Int(node.start), count: Int(node.end - node.start))
  }

  /// A string's text; nil for anything else.
  public var string: String? { node.kind == .string ? Self.string(text, node) : nil }

  /// The member of that name; nil where there is none, or this is no object.
  public subscript(name: StaticString) -> JSONView? {
    var found: JSONView?
    forEachMember { key, value in if key.isName(name) { found = value } }
    return found
  }

  /// The name of an object's first member; nil where there is none, or this is no object.
  public var firstName: JSONView? {
    guard node.kind == .object, index + 1 < Int(node.next) else { return nil }
    return JSONView(text: text, nodes: nodes, index: index + 1)
  }

  /// The members of an object in their order; nothing for any other value.
  public func forEachMember<Failure: Error>(
    _ body: (_ name: JSONView, _ value: JSONView) throws(Failure) -> Void
  ) throws(Failure) {
    guard node.kind == .object else { return }
    var member = index + 1
    while member < Int(node.next) {
      try body(
        JSONView(text: text, nodes: nodes, index: member),
        JSONView(text: text, nodes: nodes, index: member + 1))
      member = Int(nodes[member + 1].next)
    }
  }

  /// The elements of an array in their order; nothing for any other value.
  public func forEachElement<Failure: Error>(
    _ body: (JSONView) throws(Failure) -> Void
  ) throws(Failure) {
    guard node.kind == .array else { return }
    var child = index + 1
    while child < Int(node.next) {
      try body(JSONView(text: text, nodes: nodes, index: child))
      child = Int(nodes[child].next)
    }
  }

  /// Whether a string is exactly these bytes.
  public func isName(_ name: StaticString) -> Bool {
    guard let bytes = plainBytes else { return string == name.description }
    guard bytes.count == name.utf8CodeUnitCount, let base = bytes.baseAddress else { return false }
    return memcmp(base, name.utf8Start, bytes.count) == 0
  }

  /// Whether a string is exactly these bytes.
  public func isName(_ name: [UInt8]) -> Bool {
    guard let bytes = plainBytes else { return string.map { $0.utf8.elementsEqual(name) } ?? false }
    return bytes.count == name.count && bytes.elementsEqual(name)
  }

  /// The value with all that is in it.
  public var value: JSONValue {
    switch node.kind {
    case .null: return .null
    case .bool: return .bool(node.flag)
    case .string: return .string(Self.string(text, node))
    case .number:
      if node.flag { return .whole(String(decoding: raw, as: UTF8.self)) }
      return .number(Self.number(text, node))
    case .array:
      var values: [JSONValue] = []
      forEachElement { values.append($0.value) }
      return .array(values)
    case .object:
      var members: [String: JSONValue] = [:]
      forEachMember { name, value in members[Self.string(text, name.node)] = value.value }
      return .object(members)
    }
  }

  /// The text of a number that names something: a whole number's digits, another's shortest form. Nil where
  /// another number would have the same text, for a double tells no more than 15 digits apart; and for anything
  /// but a number.
  public var identifierText: String? {
    guard node.kind == .number else { return nil }
    if !node.flag {
      let value = Self.number(text, node)
      let digits = raw.prefix { $0 | 0x20 != UInt8(ascii: "e") }.filter {
        $0 &- UInt8(ascii: "0") < 10
      }
      guard digits.drop(while: { $0 == UInt8(ascii: "0") }).count <= 15,
        value.isNormal || value == 0
      else { return nil }
    }
    return value.plainText
  }

  // MARK: Forms

  static func number(_ text: UnsafePointer<UInt8>, _ node: JSONNode) -> Double {
    let bytes = UnsafeBufferPointer(
      start: text + Int(node.start), count: Int(node.end - node.start))
    return Double(String(decoding: bytes, as: UTF8.self)) ?? .infinity
  }

  static func string(_ text: UnsafePointer<UInt8>, _ node: JSONNode) -> String {
    let bytes = UnsafeBufferPointer(
      start: text + Int(node.start), count: Int(node.end - node.start))
    guard node.flag else { return String(decoding: bytes, as: UTF8.self) }
    return String(unsafeUninitializedCapacity: bytes.count) { target in
      unescape(bytes, into: target)
    }
  }

  /// Writes the text that an escaped one stands for, which is never longer; returns its length.
  private static func unescape(
    _ source: UnsafeBufferPointer<UInt8>, into target: UnsafeMutableBufferPointer<UInt8>
  ) -> Int {
    var (read, written) = (0, 0)
    func unit(at index: Int) -> UInt32 {
      (0..<4).reduce(0) { $0 << 4 | (hexadecimal(source[index + $1]) ?? 0) }
    }
    func put(_ byte: UInt8) {
      target[written] = byte
      written += 1
    }
    while read < source.count {
      guard source[read] == UInt8(ascii: "\\") else {
        put(source[read])
        read += 1
        continue
      }
      let kind = source[read + 1]
      read += 2
      switch kind {
      case UInt8(ascii: "b"): put(0x08)
      case UInt8(ascii: "f"): put(0x0C)
      case UInt8(ascii: "n"): put(0x0A)
      case UInt8(ascii: "r"): put(0x0D)
      case UInt8(ascii: "t"): put(0x09)
      case UInt8(ascii: "u"):
        var scalar = unit(at: read)
        read += 4
        if scalar & 0xFC00 == 0xD800, source.count - read >= 6, source[read] == UInt8(ascii: "\\"),
          source[read + 1] == UInt8(ascii: "u"), unit(at: read + 2) & 0xFC00 == 0xDC00
        {
          scalar = 0x10000 + (scalar & 0x3FF) << 10 + (unit(at: read + 2) & 0x3FF)
          read += 6
        }
        for byte in String(Unicode.Scalar(scalar) ?? "\u{FFFD}").utf8 { put(byte) }
      default: put(kind)
      }
    }
    return written
  }

  static func hexadecimal(_ byte: UInt8) -> UInt32? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0"))
    case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(byte - UInt8(ascii: "a") + 10)
    case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(byte - UInt8(ascii: "A") + 10)
    default: nil
    }
  }
}
