// JSON files of a model folder: objects that know the file and the path they came from, for errors that say where.

import Foundation
import JSON

extension JSONValue {
  /// The value in an error's words.
  var summary: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .number(let value): Int(exactly: value).map { "\($0)" } ?? "\(value)"
    case .integer(let digits): digits
    case .string(let text): "\"\(text.prefix(64))\""
    case .array(let values): "an array of \(values.count)"
    case .object(let members): "an object of \(members.count)"
    }
  }
}

/// A JSON object and the file and path it came from, for errors that say where.
struct JSONObject {
  let file: String
  /// As in `model.vocab`; empty for the file itself.
  let path: String
  private let document: JSONDocument
  private let place: JSONDocument.Place

  /// The largest JSON file that is read: tokenizers of a quarter million tokens take 20 MB.
  static let longestFile = 1 << 28

  /// Reads a file that holds one object.
  init(path: String) throws(ModelFileError) {
    let mapped: MappedFile
    do throws(GGUFError) {
      mapped = try MappedFile(path: path)
    } catch {
      throw ModelFileError(file: path, problem: error.reason)
    }
    try self.init(mapped.bytes, of: mapped, file: path)
  }

  /// Reads text that holds one object.
  /// - Parameter owner: as long as it lives, the bytes stay as they are.
  init(
    _ bytes: UnsafeRawBufferPointer, of owner: AnyObject, file: String
  ) throws(ModelFileError) {
    guard bytes.count <= Self.longestFile else {
      throw ModelFileError(
        file: file, problem: "has \(bytes.count) bytes; at most \(Self.longestFile) are read")
    }
    do {
      document = try JSONDocument(bytes, owner: owner, rules: .modelFiles)
    } catch {
      throw ModelFileError(file: file, problem: "is no valid JSON: \(error)")
    }
    guard document.read(.root, { $0.isObject }) else {
      throw ModelFileError(file: file, problem: "does not hold a JSON object")
    }
    self.file = file
    path = ""
    place = .root
  }

  private init(_ outer: JSONObject, path: String, place: JSONDocument.Place) {
    file = outer.file
    self.path = path
    document = outer.document
    self.place = place
  }

  /// The object's members in the file's order.
  func forEachMember(
    _ body: (_ key: String, _ value: JSONValue) throws(ModelFileError) -> Void
  ) throws(ModelFileError) {
    try document.read(place) { view throws(ModelFileError) in
      try view.forEachMember { key, value throws(ModelFileError) in
        try body(key.string ?? "", value.value)
      }
    }
  }

  /// How many members the object has.
  var count: Int {
    var count = 0
    document.read(place) { $0.forEachMember { _, _ in count += 1 } }
    return count
  }

  /// Where the value of a key is; nil where it is missing or null.
  private func place(of key: String) -> JSONDocument.Place? {
    let name = Array(key.utf8)
    var found: JSONDocument.Place?
    document.read(place) { view in
      view.forEachMember { key, value in
        // By bytes: Swift's strings hold "é" and "e" with an accent for equal, and vocabularies do not.
        if key.isName(name), !value.isNull { found = value.place }
      }
    }
    return found
  }

  func name(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  func bad(_ key: String, _ value: JSONValue, _ expected: String) -> ModelFileError {
    ModelFileError(
      file: file, problem: "has \(value.summary) for \"\(name(key))\"; expected \(expected)")
  }

  /// The value of a key, nil where it is missing or null.
  func value(_ key: String) -> JSONValue? {
    place(of: key).map { place in document.read(place) { $0.value } }
  }

  func required(_ key: String) throws(ModelFileError) -> JSONValue {
    guard let value = value(key) else {
      throw ModelFileError(file: file, problem: "lacks the key \"\(name(key))\"")
    }
    return value
  }

  func object(_ key: String) throws(ModelFileError) -> JSONObject? {
    guard let place = place(of: key) else { return nil }
    guard document.read(place, { $0.isObject }) else {
      throw bad(key, document.read(place) { $0.value }, "an object")
    }
    return JSONObject(self, path: name(key), place: place)
  }

  func array(_ key: String) throws(ModelFileError) -> [JSONValue]? {
    guard let value = value(key) else { return nil }
    guard case .array(let values) = value else { throw bad(key, value, "an array") }
    return values
  }

  /// An array of objects.
  func objects(_ key: String) throws(ModelFileError) -> [JSONObject]? {
    guard let place = place(of: key) else { return nil }
    var places: [JSONDocument.Place]? = []
    document.read(place) { list in
      if !list.isArray { places = nil }
      list.forEachElement { if $0.isObject { places?.append($0.place) } else { places = nil } }
    }
    guard let places else { throw bad(key, document.read(place) { $0.value }, "objects in a list") }
    return places.enumerated().map { index, place in
      JSONObject(self, path: name(key) + "[\(index)]", place: place)
    }
  }

  func string(_ key: String) throws(ModelFileError) -> String? {
    guard let value = value(key) else { return nil }
    guard case .string(let text) = value else { throw bad(key, value, "text") }
    return text
  }

  func bool(_ key: String) throws(ModelFileError) -> Bool? {
    guard let value = value(key) else { return nil }
    guard case .bool(let flag) = value else { throw bad(key, value, "true or false") }
    return flag
  }

  /// A whole number from `range`.
  func integer(_ key: String, in range: ClosedRange<Int>) throws(ModelFileError) -> Int? {
    guard let value = value(key) else { return nil }
    guard case .number(let number) = value, let whole = Int(exactly: number), range.contains(whole)
    else {
      throw bad(
        key, value, "a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return whole
  }

  /// A positive finite number.
  func positive(_ key: String) throws(ModelFileError) -> Double? {
    guard let value = value(key) else { return nil }
    guard case .number(let number) = value, number.isFinite, number > 0 else {
      throw bad(key, value, "a positive number")
    }
    return number
  }
}
