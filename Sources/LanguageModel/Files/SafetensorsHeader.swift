// The header of a safetensors file: JSON of one shape, in which nothing else may stand.

import Foundation
import JSON

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

  /// - Parameter bytes: of the file, after the header's length.
  /// - Throws: `SafetensorsError` that says what is not as it has to be, for JSON that is none with its place in the file.
  init(_ bytes: UnsafeRawBufferPointer, file: String) throws {
    func refuse(_ problem: String) -> SafetensorsError { .init(file: file, problem: problem) }
    var reader = JSONReader(.modelFiles)
    do {
      self = try reader.read(bytes) { root in
        guard root.isObject else { throw refuse("the header is \(root.kindName), not an object") }
        var header = SafetensorsHeader()
        try root.forEachMember { key, value in
          let name = key.string ?? ""
          if name == "__metadata__" {
            header.metadata = try Self.metadata(value, refuse)
          } else {
            header.tensors.append(try Self.tensor(name, value, refuse))
          }
        }
        return header
      }
    } catch let error as JSONReadingError {
      throw refuse("the header is no JSON: \(error.problem) at byte \(8 + error.offset)")
    }
  }

  private init() {}

  private static func metadata(
    _ value: JSONView, _ refuse: (String) -> SafetensorsError
  ) throws -> [String: String] {
    guard value.isObject else { throw refuse("__metadata__ is \(value.kindName), not an object") }
    var metadata: [String: String] = [:]
    try value.forEachMember { key, value in
      guard let text = value.string else {
        throw refuse("__metadata__ holds \(value.kindName), not a string")
      }
      metadata[key.string ?? ""] = text
    }
    return metadata
  }

  private static func tensor(
    _ name: String, _ value: JSONView, _ refuse: (String) -> SafetensorsError
  ) throws -> Entry {
    func numbers(_ value: JSONView, limit: Int) throws -> [Int] {
      guard value.isArray else {
        throw refuse("tensor '\(name)' has \(value.kindName) where numbers belong")
      }
      var numbers: [Int] = []
      try value.forEachElement { element in
        guard numbers.count < limit else {
          throw refuse("tensor '\(name)' has a list of more than the at most \(limit) numbers")
        }
        guard let number = Int(String(decoding: element.raw, as: UTF8.self)), number >= 0 else {
          throw refuse("tensor '\(name)' has something else than a whole number from 0 to 2^63 - 1")
        }
        numbers.append(number)
      }
      return numbers
    }
    guard value.isObject else {
      throw refuse("tensor '\(name)' is \(value.kindName), not an object")
    }
    var type: String?
    var shape: [Int]?
    var offsets: [Int]?
    try value.forEachMember { key, value in
      if key.isName("dtype") {
        type = value.string
      } else if key.isName("shape") {
        shape = try numbers(value, limit: SafetensorsFile.dimensionLimit)
      } else if key.isName("data_offsets") {
        offsets = try numbers(value, limit: 2)
      } else {
        throw refuse("tensor '\(name)' has the unknown key '\(key.string ?? "")'")
      }
    }
    guard let type else { throw refuse("tensor '\(name)' has no dtype") }
    guard let shape else { throw refuse("tensor '\(name)' has no shape") }
    guard let offsets, offsets.count == 2 else {
      throw refuse("tensor '\(name)' has no pair of data_offsets")
    }
    return Entry(name: name, type: type, shape: shape, begin: offsets[0], end: offsets[1])
  }
}
