// The JSON of a safetensors header: a strict parser for just that shape of JSON, because a general
// one hides repeated keys, which let two readers see two different files.

import Foundation

struct SafetensorsHeader {
  struct Entry {
    var name: String
    var type: String
    var shape: [Int]
    var begin: Int
    var end: Int
  }

  var tensors: [Entry] = []
  var metadata: [String: String] = [:]
}

struct SafetensorsHeaderParser {
  let bytes: [UInt8]
  let file: String
  private var position = 0

  init(bytes: [UInt8], file: String) {
    self.bytes = bytes
    self.file = file
  }

  /// - Throws: `SafetensorsError` with the offset in the file of the first thing not expected.
  mutating func parse() throws -> SafetensorsHeader {
    var header = SafetensorsHeader()
    try object { parser, key in
      if key == "__metadata__" {
        var metadata: [String: String] = [:]
        try parser.object { inner, name in metadata[name] = try inner.string() }
        header.metadata = metadata
      } else {
        header.tensors.append(try parser.tensor(named: key))
      }
    }
    skipSpace()
    guard position == bytes.count else { throw unexpected("the end of the header") }
    return header
  }

  private mutating func tensor(named name: String) throws -> SafetensorsHeader.Entry {
    var type: String?
    var shape: [Int]?
    var offsets: [Int]?
    try object { parser, key in
      switch key {
      case "dtype": type = try parser.string()
      case "shape": shape = try parser.integers(limit: SafetensorsFile.dimensionLimit)
      case "data_offsets": offsets = try parser.integers(limit: 2)
      default: throw parser.refuse("tensor '\(name)' has the unknown key '\(key)'")
      }
    }
    guard let type else { throw refuse("tensor '\(name)' has no dtype") }
    guard let shape else { throw refuse("tensor '\(name)' has no shape") }
    guard let offsets, offsets.count == 2 else {
      throw refuse("tensor '\(name)' has no pair of data_offsets")
    }
    return .init(name: name, type: type, shape: shape, begin: offsets[0], end: offsets[1])
  }

  /// `{ "key": <value read by body>, … }`, each key once.
  private mutating func object(
    _ body: (inout SafetensorsHeaderParser, String) throws -> Void
  ) throws {
    try expect(UInt8(ascii: "{"), "an object")
    var seen: Set<String> = []
    if accept(UInt8(ascii: "}")) { return }
    repeat {
      let key = try string()
      guard seen.insert(key).inserted else { throw refuse("the header repeats the key '\(key)'") }
      try expect(UInt8(ascii: ":"), "':'")
      try body(&self, key)
    } while accept(UInt8(ascii: ","))
    try expect(UInt8(ascii: "}"), "'}'")
  }

  private mutating func integers(limit: Int) throws -> [Int] {
    try expect(UInt8(ascii: "["), "an array")
    var values: [Int] = []
    if accept(UInt8(ascii: "]")) { return values }
    repeat {
      guard values.count < limit else { throw unexpected("at most \(limit) numbers") }
      values.append(try integer())
    } while accept(UInt8(ascii: ","))
    try expect(UInt8(ascii: "]"), "']'")
    return values
  }

  private mutating func integer() throws -> Int {
    skipSpace()
    let start = position
    var value = 0
    while position < bytes.count, (0x30...0x39).contains(bytes[position]) {
      let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, overflowed) = tens.addingReportingOverflow(Int(bytes[position] - 0x30))
      guard !overflow, !overflowed else { throw unexpected("a number below 2^63") }
      value = sum
      position += 1
    }
    guard position > start else { throw unexpected("a whole number") }
    return value
  }

  private mutating func string() throws -> String {
    try expect(UInt8(ascii: "\""), "a string")
    let start = position
    var escaped = false
    while position < bytes.count, bytes[position] != UInt8(ascii: "\"") {
      if bytes[position] == UInt8(ascii: "\\") {
        escaped = true
        position += 1
      } else if bytes[position] < 0x20 {
        throw unexpected("no control character in a string")
      }
      position += 1
    }
    guard position < bytes.count else { throw unexpected("the end of a string") }
    let raw = bytes[start..<position]
    position += 1
    if escaped {
      // Rare: let Foundation undo the escapes of this one string.
      let literal = Data([0x22] + raw + [0x22])
      let options: JSONSerialization.ReadingOptions = .fragmentsAllowed
      guard
        let text = try? JSONSerialization.jsonObject(with: literal, options: options) as? String
      else { throw refuse("a string at byte \(8 + start) has a wrong escape") }
      return text
    }
    guard let text = String(validating: raw, as: UTF8.self) else {
      throw refuse("a string at byte \(8 + start) is not UTF-8")
    }
    return text
  }

  private mutating func skipSpace() {
    while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) {
      position += 1
    }
  }

  private mutating func accept(_ byte: UInt8) -> Bool {
    skipSpace()
    guard position < bytes.count, bytes[position] == byte else { return false }
    position += 1
    return true
  }

  private mutating func expect(_ byte: UInt8, _ what: String) throws {
    guard accept(byte) else { throw unexpected(what) }
  }

  private func unexpected(_ what: String) -> SafetensorsError {
    refuse("expected \(what) at byte \(8 + position)")
  }

  private func refuse(_ problem: String) -> SafetensorsError {
    SafetensorsError(file: file, problem: problem)
  }
}
