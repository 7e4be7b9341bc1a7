// Reading GGUF's numbers, strings and arrays with every length checked first.

import LinearAlgebra

/// A position in a file's bytes.
struct GGUFCursor {
  let bytes: UnsafeRawBufferPointer
  let path: String
  var position = 0

  private static let longestArray: UInt64 = 1 << 24
  private static let longestString: UInt64 = 1 << 24
  private static let deepestArray = 4

  private func error(_ problem: GGUFError.Problem) -> GGUFError {
    GGUFError(path: path, problem: problem)
  }

  private var remaining: Int { bytes.count - position }

  mutating func integer<Number: FixedWidthInteger>(
    _ what: @autoclosure () -> String
  ) throws(GGUFError) -> Number {
    let size = MemoryLayout<Number>.size
    guard remaining >= size else { throw error(.truncated(what: what(), offset: position)) }
    defer { position += size }
    return Number(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: Number.self))
  }

  /// A count of things that take at least `elementBytes` each, so that it cannot exceed the file.
  mutating func count(
    _ what: String, elementBytes: Int, limit: UInt64 = .max
  ) throws(GGUFError) -> Int {
    let value: UInt64 = try integer(what)
    let possible = min(UInt64(remaining / elementBytes), limit)
    guard value <= possible else {
      throw error(.absurd(what: what, value: value, limit: possible))
    }
    return Int(value)
  }

  mutating func string(
    _ what: @autoclosure () -> String, limit: UInt64 = longestString
  ) throws(GGUFError) -> String {
    let start = position
    let length: UInt64 = try integer(what())
    guard length <= min(limit, UInt64(remaining)) else {
      if length <= limit { throw error(.truncated(what: what(), offset: start)) }
      throw error(.absurd(what: "the length of " + what(), value: length, limit: limit))
    }
    let slice = bytes[position..<position + Int(length)]
    guard let text = String(validating: slice, as: UTF8.self) else {
      throw error(.invalidText(what: what(), offset: position))
    }
    position += Int(length)
    return text
  }

  mutating func value(type: UInt32, key: String, depth: Int) throws(GGUFError) -> GGUFValue {
    func name() -> String { "the value of \"\(key)\"" }
    switch type {
    case 0: return .unsigned(UInt64(try integer(name()) as UInt8))
    case 1: return .signed(Int64(try integer(name()) as Int8))
    case 2: return .unsigned(UInt64(try integer(name()) as UInt16))
    case 3: return .signed(Int64(try integer(name()) as Int16))
    case 4: return .unsigned(UInt64(try integer(name()) as UInt32))
    case 5: return .signed(Int64(try integer(name()) as Int32))
    case 6: return .float(Double(Float(bitPattern: try integer(name()))))
    case 7: return .bool(try integer(name()) as UInt8 != 0)
    case 8: return .string(try string(name()))
    case 9:
      guard depth < Self.deepestArray else {
        throw error(
          .absurd(
            what: "the nesting of arrays in \"\(key)\"", value: UInt64(depth) + 1,
            limit: UInt64(Self.deepestArray)))
      }
      let elementType: UInt32 = try integer(name())
      guard let elementBytes = Self.smallestSize(of: elementType) else {
        throw error(.unknownValueType(key: key, type: elementType))
      }
      let count = try count(
        "the length of the array \"\(key)\"", elementBytes: elementBytes,
        limit: Self.longestArray)
      var values: [GGUFValue] = []
      values.reserveCapacity(count)
      for _ in 0..<count {
        values.append(try value(type: elementType, key: key, depth: depth + 1))
      }
      return .array(values)
    case 10: return .unsigned(try integer(name()))
    case 11: return .signed(try integer(name()))
    case 12: return .float(Double(bitPattern: try integer(name())))
    default: throw error(.unknownValueType(key: key, type: type))
    }
  }

  /// The fewest bytes that a value of the type takes.
  private static func smallestSize(of type: UInt32) -> Int? {
    switch type {
    case 0, 1, 7: 1
    case 2, 3: 2
    case 4, 5, 6: 4
    case 8, 10, 11, 12: 8
    case 9: 12
    default: nil
    }
  }

  mutating func tensor(
    index: Int
  ) throws(GGUFError) -> (name: String, shape: [Int], type: WeightType, offset: UInt64) {
    let name = try string("the name of tensor \(index)", limit: 1024)
    let dimensions: UInt32 = try integer("the number of dimensions of \"\(name)\"")
    guard (1...4).contains(dimensions) else {
      throw error(
        .absurd(
          what: "the number of dimensions of \"\(name)\"", value: UInt64(dimensions), limit: 4))
    }
    var shape: [Int] = []
    var product = 1
    for _ in 0..<dimensions {
      let length: UInt64 = try integer("the shape of \"\(name)\"")
      // A weight takes at least half a byte: 2^44 of them are beyond every file.
      let (next, overflow) = product.multipliedReportingOverflow(by: Int(clamping: length))
      guard length > 0, !overflow, next <= 1 << 44 else {
        throw error(
          .absurd(what: "a dimension of \"\(name)\"", value: length, limit: UInt64(1) << 44))
      }
      shape.append(Int(length))
      product = next
    }
    let number: UInt32 = try integer("the type of \"\(name)\"")
    guard let raw = Int32(exactly: number), let type = WeightType(rawValue: raw) else {
      throw error(.unknownTensorType(tensor: name, type: number))
    }
    let offset: UInt64 = try integer("the offset of \"\(name)\"")
    return (name, shape, type, offset)
  }
}
